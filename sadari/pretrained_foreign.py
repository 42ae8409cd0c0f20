"""Eyes of other libraries: what timm or transformers calls a network, in words that a run's config can keep.

timm:NAME   a network of timm's list, whose weights come once from the hub: NAME is `resnet50.a1_in1k`
FOLDER      timm's layout: config.json with an architecture and its pretrained_cfg, model.safetensors
FOLDER      transformers' layout: config.json of a network that reads pictures, model.safetensors

    network=timm architecture=resnet50 ...
    network=transformers config={%22depths%22:[3,3,9,3],...,%22model_type%22:%22convnext%22} ...

The library's own code makes the network again from these words. No code comes with the weights, which are
safetensors or are not opened; what the settings ask for is bounded before anything is made of it.
"""

from __future__ import annotations

import difflib
import importlib
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from sadari.errors import SadariError
from sadari.pretrained_images import PretrainedEye, seen_words

TIMM = "timm:"
"""How the name of a network of timm's list begins."""
EXTRAS = {"timm": "timm", "transformers": "hub"}
"""The package by which each network is made, and the extra that brings it."""
FILE = "model.safetensors"
NAME = re.compile(r"[A-Za-z0-9_]{1,100}(\.[A-Za-z0-9_.-]{1,100})?")  # no ":" or "/", which would mean the hub
LONGEST = 8192  # characters of settings in words
MOST, DEEPEST = 1_000_000, 1000  # of any number, and of what is a count of layers
DEEP = ("layer", "depth", "block", "repeat", "stage")  # of whose numbers a network is deep
UNSEEN = {  # networks of transformers that are no eyes, and why
    "vit_mae": "hides most of each picture at random",
    "timm_backbone": "fetches its weights itself",
    "timm_wrapper": "is timm's, and says no architecture",
}
OTHERWISE = {  # what preprocessor_config.json may say only so
    "do_rescale": True, "do_flip_channel_order": False, "include_top": False, "rescale_offset": False,
}  # fmt: skip
ASIDE = (  # what the features do not depend on, and what says where code comes from
    "out_features", "out_indices", "stage_names", "_out_features", "_out_indices", "_attn_implementation",
    "attn_implementation",
)  # fmt: skip
HARMLESS = ("num_classes", "drop_rate", "drop_path_rate")  # arguments that leave the features as they are


def library(name: str) -> Any:
    """The package of a network. SadariError where it is not installed, or does not fit torch."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SadariError(
            f"an eye of {name} needs the package {name} ({first_line(error)}): "
            f"pip install 'sadari[{EXTRAS[name]}]'"
        ) from error
    except Exception as error:  # torchvision's, which timm brings, where it was built for another torch
        raise SadariError(
            f"{name} cannot be opened ({first_line(error)}); install the torchvision that belongs to this "
            f"torch"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """What the libraries say while they make a network is said again, in one line, where it matters."""
    loggers = [logging.getLogger(name) for name in (*EXTRAS, "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def first_line(error: Exception) -> str:
    """What a library says was wrong, cut short."""
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:200]


# --------------------------------------------------------------------- timm


def find_timm(weights: str) -> PretrainedEye:
    """What `timm:NAME` is; its weights are fetched from the hub where they are not here yet.

    SadariError for a name that timm does not know, and where there is no way to the hub.
    """
    timm, name = library("timm"), weights.removeprefix(TIMM)
    architecture, _, _ = name.partition(".")
    known = NAME.fullmatch(name) is not None and timm.is_model(architecture)
    try:
        about = timm.get_pretrained_cfg(name) if known else None
    except RuntimeError:  # a network that it knows, taught on something that it does not
        about = None
    if about is None:
        every = timm.list_pretrained() if known else timm.list_models()
        near = difflib.get_close_matches(name, every, n=3, cutoff=0.5)
        raise SadariError(
            f"weights {weights!r}: timm knows no network of that name; "
            f"{'give one of: ' + ', '.join(near) if near else 'see timm.list_pretrained()'}"
        )
    settings = about.to_dict()
    hub = settings.get("hf_hub_id")
    if not hub:
        raise SadariError(
            f"weights {weights!r}: timm has no weights for it on the hub; give one of timm.list_pretrained()"
        )
    return PretrainedEye(_timm_words(weights, architecture, settings, {}), _fetched(weights, hub), "timm")


def find_timm_folder(path: Path, config: Mapping[str, Any]) -> PretrainedEye:
    """What a folder that timm has saved is. SadariError for settings that cannot be made again."""
    timm, place = library("timm"), str(path / "config.json")
    name, about = str(config["architecture"]), config.get("pretrained_cfg", config)
    if NAME.fullmatch(name) is None or not timm.is_model(name.partition(".")[0]):
        raise SadariError(
            f"{place}: architecture is {name[:100]!r}, which this timm does not know; update it"
        )
    given = config.get("model_args") or {}
    if not isinstance(about, dict) or not isinstance(given, dict):
        raise SadariError(f"{place}: pretrained_cfg and model_args are settings by name; save it anew")
    words = _timm_words(place, name.partition(".")[0], about, given)
    return PretrainedEye(words, path / FILE, "timm")


def _timm_words(
    place: str, architecture: str, about: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, str]:
    """The words of timm's `pretrained_cfg`, and of the arguments that the network was made with."""
    other = sorted(set(given) - {"img_size", "in_chans", "global_pool", *HARMLESS})
    if other:
        raise SadariError(
            f"{place}: the network was made with {other[0]}={str(given[other[0]])[:100]}, and only timm's "
            f"own sizes are known here; give one without"
        )
    pool = given.get("global_pool") or ""
    try:
        channels, *size = about.get("input_size", (3, 224, 224))
        channels, size = given.get("in_chans") or channels, given.get("img_size") or size
        sides = {size} if isinstance(size, int) else set(size)
        if len(sides) != 1 or not re.fullmatch(r"\w{0,20}", pool):
            raise ValueError(f"img_size {size!r}, global_pool {pool!r}")
        mean, deviation = (list(about.get(name, ())) for name in ("mean", "std"))
        seen = seen_words(int(sides.pop()), int(channels), mean, deviation)
    except (TypeError, ValueError) as error:
        raise SadariError(
            f"{place}: input_size, mean and std are not usable ({error}); a square picture is needed"
        ) from error
    fixed = about.get("fixed_input_size") or given.get("img_size")
    own = {"architecture": architecture, "pool": pool, "fixed": str(int(bool(fixed)))}
    return {"network": "timm", **own, **seen}


def _fetched(weights: str, hub: str) -> Path:
    """The weights of a repository of the hub, as safetensors or not at all."""
    download = importlib.import_module("huggingface_hub").hf_hub_download
    try:
        with quiet():
            return Path(download(hub, FILE))
    except Exception as error:  # its faults have no family of their own, from version to version
        raise SadariError(
            f"weights {weights!r}: {FILE} cannot be fetched from the hub's {hub} ({first_line(error)}); go "
            f"online once, or give a folder that holds it and its config.json"
        ) from error


# --------------------------------------------------------------------- transformers


def transformers_words(path: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a network that reads pictures, as words; `path` is its config.json.

    SadariError for what transformers does not know, or cannot make without code or weights from elsewhere.
    """
    kind = config.get("model_type")
    if "auto_map" in config:
        raise SadariError(
            f"{path}: auto_map asks for code that came with the weights, which is never run; give a network "
            f"that transformers has itself"
        )
    if not isinstance(kind, str) or kind in UNSEEN:
        why = UNSEEN.get(kind, "") if isinstance(kind, str) else "is no name"
        raise SadariError(f"{path}: model_type is {kind!r}, which {why}; give the weights of another network")
    try:
        mapping = library("transformers").CONFIG_MAPPING
    except SadariError as error:
        raise SadariError(
            f"{path}: model_type is {kind!r}; only resnet and vit are known here without transformers: "
            f"pip install 'sadari[hub]'"
        ) from error
    if kind not in mapping:
        raise SadariError(
            f"{path}: model_type is {kind!r}; only resnet and vit are known here, and this transformers "
            f"does not know it either; update it"
        )
    try:
        check_settings(config)
        with quiet():
            made = mapping[kind].from_dict(_own(mapping[kind], config))
        text = encoded(_own(mapping[kind], made.to_dict()))
        network_of(made)
    except ValueError as error:
        raise SadariError(f"{path}: model_type is {kind!r}; {error}") from error
    except Exception as error:  # of a library's own checks, which raise what they like
        raise SadariError(
            f"{path} does not describe a {kind} ({first_line(error)}); fetch it again"
        ) from error
    return {"network": "transformers", "config": text}


def made_of(text: str) -> Any:
    """The library's own config of words that `transformers_words` made. SadariError where it makes none."""
    mapping, values = library("transformers").CONFIG_MAPPING, decoded(text)
    try:
        with quiet():
            return mapping[values["model_type"]].from_dict(values)
    except Exception as error:  # of a library's own checks, which raise what they like
        raise SadariError(
            f"this transformers cannot make a {values['model_type']!r} of its settings "
            f"({first_line(error)}); update it"
        ) from error


def network_of(made: Any) -> Any:
    """The class of the network of a config. ValueError for one that does not read pictures by itself."""
    mapping = library("transformers").MODEL_MAPPING
    found = mapping.get(type(made), None)
    if getattr(found, "main_input_name", "") != "pixel_values" or isinstance(found, tuple):
        raise ValueError(
            "only resnet and vit are known here, and of transformers' networks those that read pictures; "
            "give the weights of one"
        )
    inside = [name for name in ("backbone", "backbone_config") if getattr(made, name, None)]
    if inside or getattr(made, "use_timm_backbone", False):
        raise ValueError("it has another network inside; give the weights of that one alone")
    return found


def scaling(path: Path, scaled: Mapping[str, Any]) -> dict[str, Any]:
    """How preprocessor_config.json has pictures scaled, with a mean of 0 and a deviation of 1 where they are
    not. SadariError for more than a mean and a deviation.
    """
    for name, known in OTHERWISE.items():
        if scaled.get(name, known) is not known:
            raise SadariError(
                f"{path}: {name} is {scaled[name]!r}, and pictures are only scaled by a mean and a deviation "
                f"here; give the weights of another network"
            )
    raw = scaled.get("do_normalize") is False
    return {**scaled, **({"image_mean": [0.0] * 3, "image_std": [1.0] * 3} if raw else {})}


def encoded(values: Mapping[str, Any]) -> str:
    """Settings as one word without a space. ValueError for what is too long."""
    text = quote(json.dumps(values, sort_keys=True, separators=(",", ":")), safe=":,[]{}")
    if len(text) > LONGEST:
        raise ValueError(f"its settings take {len(text):,} characters, at most {LONGEST:,} are kept")
    return text


def decoded(text: str) -> dict[str, Any]:
    """The settings of `encoded`, checked. ValueError for what it would not have written."""
    if len(text) > LONGEST:
        raise ValueError(f"settings of {len(text):,} characters; at most {LONGEST:,} are kept")
    values = json.loads(unquote(text))
    if not isinstance(values, dict) or not isinstance(values.get("model_type"), str):
        raise ValueError("no settings by name")
    check_settings(values)
    return values


def check_settings(values: Mapping[str, Any]) -> None:
    """Raise ValueError for numbers of which a giant would be made, be it only to be looked at."""
    for name, value in values.items():
        deep = any(part in name for part in DEEP)
        numbers = list(_numbers(value))
        most = DEEPEST if deep else MOST
        if len(numbers) > LONGEST or any(not abs(number) <= most for number in numbers):
            raise ValueError(f"{name} is {str(value)[:60]}, and numbers of up to {most:,} are believed")
        if deep and sum(numbers) > DEEPEST:
            raise ValueError(f"{name} is {str(value)[:60]}, and up to {DEEPEST:,} in all are believed")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        for one in value.values():
            yield from _numbers(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, int | float):
        yield value


def _own(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the network alone, of which none says where weights or code come from."""
    with quiet():
        known, common = kind().to_dict(), library("transformers").PretrainedConfig().to_dict()
    own = {name: value for name, value in values.items() if name in known and name not in {*common, *ASIDE}}
    return own | {"model_type": kind.model_type}

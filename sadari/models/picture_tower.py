"""The picture's tower: of two towers that have learnt elsewhere, the half that sees, whatever network it is.

    described(towers)             the tower in words, as a run's config keeps them
    make_tower(words)             the network without what reads captions, weights drawn by law
    open_towers(towers, words)    both towers with their weights, to be asked for words

    picture -- encode_image -- (B, D)        caption -- encode_text -- (B, D): only while a run is fitted

As `eye.py` for networks that told classes apart; here the last layer stays, since its D numbers are those of
the space that words live in. It is shown pictures of the size that it has learnt on.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.convolution import checked
from sadari.models import clip_names, siglip_names
from sadari.models.clip_resnet import resnet_costs
from sadari.models.clip_transformer import vit_costs
from sadari.models.encoder import SMALLEST as SMALLEST_READER
from sadari.models.eye import class_of, is_shown, settings_of, shape_of, split_words
from sadari.models.eye import read_words as read_eye
from sadari.models.seeing import Seeing
from sadari.models.siglip_transformer import vision_costs
from sadari.pretrained_images import STATISTICS
from sadari.pretrained_match import PretrainedTowers, find_towers

Shape = tuple[int, int, int]
SEEN = ("network", "size", "fit", "channels", "mean", "deviation")
"""Words of every tower: the network, and the pictures that it has learnt on. The others are its settings."""
SMALLEST = (
    "network=bag-of-words size=16 fit=crop channels=3 mean=0.5,0.5,0.5 deviation=1,1,1 dimension=8 pixels=4"
)
UNLEARNT = ("running_mean", "running_var", STATISTICS)
TEMPERATURE = ("logit_scale", "logit_bias")


class Kind(NamedTuple):
    """One kind of two towers."""

    module: str
    model: str
    reading: tuple[str, ...]
    """Its parts that read captions, which a picture's tower goes without."""
    least: dict[str, Any]
    """The smallest settings of those."""


_TEXT = {"text_width": 1, "text_layers": 1, "text_heads": 1, "context": 1}
KINDS = {
    "bag-of-words": Kind("sadari.models.bag_of_words", "BagOfWords", ("words",), {}),
    "clip": Kind("sadari.models.clip", "CLIP", clip_names.TEXT, {**_TEXT, "end": -1}),
    "siglip": Kind("sadari.models.siglip", "SigLIP", ("text_model",), {**_TEXT, "text_inner": 1, "pad": 0}),
    "locked": Kind(
        "sadari.models.locked",
        "Locked",
        ("reader", "text_projection"),
        {"weights": "", "texts": "", "encoder": SMALLEST_READER, "thaw_image": 0, "thaw_text": 0},
    ),
}


def described(towers: str) -> str:
    """The picture's tower of a folder, in words. No weight is read, but all names and shapes are checked.

    SadariError for the first fault, or where the weights are not those of the network they say they are.
    """
    found = find_towers(towers)
    config = _config(found)
    with torch.device("meta"):
        shapes = {name: torch.empty(shape) for name, shape in found.shapes().items()}
        checked(_ours(found, shapes), _network(found, config))
    spec, least = found.spec.pictures, KINDS[found.network].least
    lists = {name: ",".join(map(repr, getattr(spec, name))) for name in ("mean", "deviation")}
    seen = {"network": found.network, "size": spec.size, "fit": spec.fit, "channels": spec.channels, **lists}
    given = asdict(config) | _settled(found.network, config, spec.width)
    own = {name: value for name, value in given.items() if name not in least and value != ""}
    return " ".join(f"{name}={_joined(value)}" for name, value in {**seen, **own}.items())


def read_words(text: str) -> dict[str, str]:
    """The words of `described`, checked: a network that there is, for pictures that there can be."""
    words = split_words(text)
    try:
        known = words["network"] in KINDS and words["fit"] in ("crop", "pad", "squash") and is_shown(words)
        config_of(words)
    except (KeyError, ValueError, TypeError):
        known = False
    if not known:
        raise SadariError(
            f"backbone {text!r}: leave it empty to have it read from the towers, or write all of {SMALLEST!r}"
        )
    return words


def config_of(words: dict[str, str]) -> Any:
    """The config of a picture's tower. KeyError, TypeError or ValueError where words tell of none."""
    kind = KINDS[words["network"]]
    made = _class(words["network"]).Config
    usual = {name: field.default for name, field in made.__dataclass_fields__.items()}
    own = {name: value.replace(";", " ") for name, value in words.items() if name not in SEEN}
    typed = {name: _typed(value, usual[name]) for name, value in own.items()}
    return made(**{**typed, **kind.least})


def inputs_of(words: dict[str, str]) -> Shape:
    """(C, H, W) of the pictures that a tower has learnt on."""
    return int(words["channels"]), int(words["size"]), int(words["size"])


def make_tower(words: dict[str, str]) -> tuple[nn.Module, int]:
    """The network that gives `encode_image`, without what reads captions, and D of its space."""
    config, kind = config_of(words), KINDS[words["network"]]
    network = _class(words["network"])(config, inputs_of(words), 1)
    for name in kind.reading:
        if isinstance(getattr(network, name), nn.Module):
            setattr(network, name, nn.Identity())
        else:
            delattr(network, name)
    for name in TEMPERATURE:
        delattr(network, name)
    return network, dimension_of(words)


def dimension_of(words: dict[str, str]) -> int:
    """D, the size of the space that pictures and words share."""
    config = config_of(words)
    settled = _settled(words["network"], config, inputs_of(words))
    if words["network"] == "siglip":
        return settled["width"]
    return settled.get("dimension", 0) or config.dimension


def costs_of(words: dict[str, str]) -> tuple[int, int]:
    """Parameters of a picture's tower, and its multiply-adds for one picture."""
    network, config, inputs = words["network"], config_of(words), inputs_of(words)
    module = importlib.import_module(KINDS[network].module)
    if network == "bag-of-words":
        weights = config.dimension * inputs[0] * math.prod(module.shrunk(config, inputs))
        return weights + config.dimension, weights
    if network == "locked":
        eye, D = read_eye(config.backbone), config.dimension
        inside = class_of(eye).parameter_count(settings_of(eye), (inputs[0], *shape_of(eye)[1:]), D)
        return inside, Seeing.macs(config, inputs, D)
    sizes = module.chosen(config, inputs)
    if network == "siglip":
        return vision_costs(inputs, sizes.patch, sizes.width, sizes.layers, sizes.inner)
    if sizes.depths:
        return resnet_costs(inputs, sizes.depths, sizes.width, sizes.dimension)
    return vit_costs(inputs, sizes.patch, sizes.width, sizes.layers, sizes.dimension)


def open_towers(towers: str, words: dict[str, str]) -> tuple[Any, PretrainedTowers]:
    """Both towers with their weights, and how they read. SadariError where they are not those of `words`."""
    if read_words(described(towers)) != words:
        raise SadariError(
            f"{towers} holds other towers than those that were planned; give the same command again"
        )
    found = find_towers(towers)
    with torch.device("meta"):
        network = _network(found, _config(found))
    network.load_state_dict(checked(_ours(found, found.read()), network), assign=True)
    return network.requires_grad_(False).eval(), found


def _config(found: PretrainedTowers) -> Any:
    """The config of both towers, whose numbers are as many as the file's: a giant must not be obeyed."""
    held = sum(math.prod(shape) for name, shape in found.shapes().items() if not _aside(name))
    made = _class(found.network)
    try:
        config = made.Config(**found.settings)
        wanted = made.parameter_count(config, found.spec.width, found.vocabulary)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SadariError(
            f"{found.file.parent / 'config.json'} does not describe two towers ({error}); fetch or fit them "
            f"again"
        ) from error
    if held != wanted:
        raise SadariError(
            f"{found.file} holds {held:,} numbers, a {found.network} of its settings has {wanted:,}; the two "
            f"do not belong together"
        )
    return config


def _network(found: PretrainedTowers, config: Any) -> nn.Module:
    return _class(found.network)(config, found.spec.width, found.vocabulary)


def _ours(found: PretrainedTowers, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights by our names."""
    if found.layout == "sadari":
        return state
    return {"clip": clip_names, "siglip": siglip_names}[found.network].import_huggingface(state)


def _settled(network: str, config: Any, inputs: Shape) -> dict[str, Any]:
    """The sizes that a config of CLIP or SigLIP leaves to its variant."""
    if network not in ("clip", "siglip"):
        return {}
    sizes = importlib.import_module(KINDS[network].module).chosen(config, inputs)._asdict()
    return {name: value for name, value in sizes.items() if hasattr(config, name)}


def _class(network: str) -> Any:
    kind = KINDS[network]
    return getattr(importlib.import_module(kind.module), kind.model)


def _aside(name: str) -> bool:
    """Whether a tensor is not learnt: statistics, and the places 0, 1, 2 that old files number."""
    return name.endswith((*UNLEARNT, "position_ids"))


def _joined(value: Any) -> str:
    """A setting as one word; those of an eye are words themselves."""
    return str(value).replace(" ", ";")


def _typed(value: str, usual: Any) -> Any:
    """A word as the setting's type."""
    return value == "True" if isinstance(usual, bool) else type(usual)(value)

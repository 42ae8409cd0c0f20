"""Pretrained towers: two networks that learnt elsewhere which words belong to a picture, found and checked.

RUN      a run of pictures with captions: config.json, spec.json, tokenizer.json, weights.safetensors,
         result.json
FOLDER   the hub's layout of a CLIP or a SigLIP: config.json, model.safetensors, tokenizer.json, and, where
         they say how pictures are scaled and captions filled up, preprocessor_config.json and
         tokenizer_config.json

Before a number is read all that a folder says is checked, and nothing but safetensors is opened for weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sadari.data.spec_captions import CaptionSpec, check_tokenizer
from sadari.data.spec_images import ImageSpec
from sadari.data.tokenizers import Tokenizer
from sadari.errors import SadariError
from sadari.files import sha256
from sadari.pretrained import LARGE, read_settings
from sadari.pretrained_images import PretrainedEye

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int32
    from torch import Tensor

RUNGS = ("bag-of-words", "clip", "siglip", "locked")
"""Rungs of pictures with captions."""
HIGHEST = -2  # as `models.clip` calls a caption's end that is its highest token
OLD_END = 2  # of config.json files that were written before eos_token_id meant anything to CLIP
EVEN = ((0.5,) * 3, (0.5,) * 3)
OPENAI = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
"""Mean and deviation of the pictures that OpenAI's CLIP was shown."""


class Size(NamedTuple):
    """A size in config.json: what holds where it is left out, and the largest that is believed."""

    usual: int
    most: int


TEXT = {
    "vocab_size": Size(49_408, 10_000_000),
    "hidden_size": Size(512, 65_536),
    "intermediate_size": Size(2048, 1_000_000),
    "num_hidden_layers": Size(12, 1000),
    "num_attention_heads": Size(8, 65_536),
    "max_position_embeddings": Size(77, 100_000),
}
VISION = {
    "hidden_size": Size(768, 65_536),
    "intermediate_size": Size(3072, 1_000_000),
    "num_hidden_layers": Size(12, 1000),
    "num_attention_heads": Size(12, 65_536),
    "num_channels": Size(3, 3),
    "image_size": Size(224, 4096),
    "patch_size": Size(32, 4096),
}
USUAL = {  # where SigLIP's differ
    "text": {"vocab_size": 32_000, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
             "max_position_embeddings": 64},
    "vision": {"patch_size": 16},
}  # fmt: skip
ACTIVATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "clip": {"quick_gelu": {"quick_gelu": True}, "gelu": {"quick_gelu": False}},
    "siglip": {"gelu_pytorch_tanh": {"gelu": "tanh"}, "gelu": {"gelu": "exact"}},
}
EPS = {"clip": 1e-5, "siglip": 1e-6}  # of the layer norms


@dataclass(frozen=True)
class PretrainedTowers:
    """What a folder says of its two towers; the weights stay on disk until `read`."""

    network: str
    """The rung: bag-of-words, clip, siglip or locked."""
    settings: dict[str, Any]
    """Of the rung's config."""
    spec: CaptionSpec
    """How pictures become pixels and captions tokens."""
    vocabulary: int
    """Tokens that the reading tower knows."""
    file: Path
    """The weights."""
    layout: str = "sadari"
    """Whose names they have: sadari or huggingface."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The weights' names and shapes, of which no number is read. SadariError as `PretrainedEye`'s."""
        return PretrainedEye({}, self.file).shapes()

    def read(self) -> dict[str, Tensor]:
        """The weights by their file's names, in single precision. SadariError as `PretrainedEye`'s."""
        return PretrainedEye({}, self.file).read()

    def tokens(self, texts: Sequence[str]) -> Int32[np.ndarray, "N T"]:
        """Captions as the reading tower takes them, PAD at the right; too long ones lose what stands before
        their end."""
        return self.spec.encode_captions(texts)


def find_towers(place: str) -> PretrainedTowers:
    """What a folder says of its towers. SadariError for the first fault."""
    path = Path(place).expanduser()
    if not path.is_dir():
        raise SadariError(
            f"--from {place}: no such folder; give a run of pictures with captions (sadari fit clip DATA), "
            f"or a folder of the hub with a CLIP or a SigLIP"
        )
    return _run(path) if (path / "spec.json").is_file() else _hub(path)


# --------------------------------------------------------------------- a run


def _run(path: Path) -> PretrainedTowers:
    """A finished run of pictures with captions, whose weights are those that it was saved with."""
    config, spec, result = (_json(path / name) for name in ("config.json", "spec.json", "result.json"))
    rung, settings, file = config.get("rung"), config.get("model"), path / "weights.safetensors"
    if config.get("kind") != "captions" or rung not in RUNGS:
        raise SadariError(
            f"run {path} is of rung {rung!r} on {config.get('kind', 'table')}, which has no two towers; give "
            f"a run of pictures with captions, of one of: {', '.join(RUNGS)}"
        )
    if not isinstance(settings, dict):
        raise SadariError(f"{path / 'config.json'} has no settings of a model; fit the run again")
    if not file.is_file() or sha256(file) != result.get("weights"):
        raise SadariError(f"{file} is not the file this run was saved with; fit the run again")
    tokenizer = _tokenizer(path)
    return PretrainedTowers(rung, settings, CaptionSpec.from_json(spec, tokenizer), tokenizer.size, file)


# --------------------------------------------------------------------- the hub


def _hub(path: Path) -> PretrainedTowers:
    """A CLIP or a SigLIP as transformers saves it."""
    about, config = path / "config.json", _json(path / "config.json")
    kind = config.get("model_type")
    if kind not in ACTIVATIONS:
        raise SadariError(
            f"{about}: model_type is {kind!r}; only {' and '.join(ACTIVATIONS)} are known here, give the "
            f"folder of one of these"
        )
    text, vision = _sizes(about, config, kind, "text", TEXT), _sizes(about, config, kind, "vision", VISION)
    said = [_part(about, config, f"{name}_config") for name in ("text", "vision")]
    settings = {**_activation(about, kind, said), **_settings(about, config, kind, text, vision)}
    tokenizer = _tokenizer(path)
    if kind == "clip":
        end = said[0].get("eos_token_id", 49_407)
        if type(end) is not int or not 0 <= end < text["vocab_size"]:
            raise SadariError(f"{about}: eos_token_id is {end!r}, a token of the vocabulary is needed")
        settings["end"] = HIGHEST if end == OLD_END else end
        check_tokenizer(tokenizer, text["vocab_size"], end=None if end == OLD_END else end)
    else:
        check_tokenizer(tokenizer, text["vocab_size"])
        settings["pad"] = _pad(path, said[0], text["vocab_size"])
    pictures = _pictures(path, kind, vision)
    spec = CaptionSpec(pictures, ("caption",), tokenizer, text["max_position_embeddings"])
    file = path / "model.safetensors"
    return PretrainedTowers(kind, settings, spec, text["vocab_size"], file, "huggingface")


def _settings(
    about: Path, config: Mapping[str, Any], kind: str, text: dict[str, int], vision: dict[str, int]
) -> dict[str, Any]:
    """Sizes by our names."""
    own = {
        "patch": vision["patch_size"],
        "width": vision["hidden_size"],
        "layers": vision["num_hidden_layers"],
        "heads": vision["num_attention_heads"],
        "text_width": text["hidden_size"],
        "text_layers": text["num_hidden_layers"],
        "text_heads": text["num_attention_heads"],
        "context": text["max_position_embeddings"],
    }
    if kind == "siglip":
        return {
            "variant": "b16-224",
            "contrast": "sigmoid",
            "inner": vision["intermediate_size"],
            "text_inner": text["intermediate_size"],
            **own,
        }
    for part, sizes in (("text", text), ("vision", vision)):
        if sizes["intermediate_size"] != 4 * sizes["hidden_size"]:
            raise SadariError(
                f"{about}: intermediate_size of {part}_config is {sizes['intermediate_size']}, 4 times the "
                f"hidden_size of {sizes['hidden_size']} is needed; give the weights of another CLIP"
            )
    dimension = _whole(about, config, "projection_dim", Size(512, 65_536))
    return {"variant": "vit-b32", "contrast": "softmax", "dimension": dimension, **own}


def _activation(about: Path, kind: str, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The setting that says which gelu both towers have. SadariError for another, or another norm."""
    known = ACTIVATIONS[kind]
    names = [part.get("hidden_act", next(iter(known))) for part in parts]
    if names[0] not in known or names[0] != names[1]:
        raise SadariError(
            f"{about}: hidden_act is {names[0]!r} for texts and {names[1]!r} for pictures; one of "
            f"{', '.join(known)} for both is known here"
        )
    for part in parts:
        if (eps := part.get("layer_norm_eps", EPS[kind])) != EPS[kind]:
            raise SadariError(f"{about}: layer_norm_eps is {eps!r}; only {EPS[kind]:g} is known here")
        if part.get("vision_use_head", True) is not True:
            raise SadariError(f"{about}: vision_use_head is off; only a SigLIP with its head is known here")
    return dict(known[names[0]])


def _pictures(path: Path, kind: str, vision: dict[str, int]) -> ImageSpec:
    """How pictures are made pixels, by preprocessor_config.json; as usual where there is none."""
    about = path / "preprocessor_config.json"
    scaled = _json(about) if about.is_file() else {}
    channels, usual = vision["num_channels"], OPENAI if kind == "clip" else EVEN
    fit = "crop" if kind == "clip" and scaled.get("do_center_crop", True) is True else "squash"
    try:
        mean, deviation = (
            tuple(float(value) for value in (scaled.get(name, values) if channels == 3 else [0.5]))
            for name, values in zip(("image_mean", "image_std"), usual, strict=True)
        )
        spec = ImageSpec("", "image", (), vision["image_size"], fit, channels, mean, deviation)
        return ImageSpec.from_json(spec.to_json())  # which checks it
    except (TypeError, ValueError, SadariError) as error:
        raise SadariError(f"{about}: image_mean and image_std are not usable ({error})") from error


def _pad(path: Path, text: Mapping[str, Any], vocabulary: int) -> int:
    """The token that fills captions up: the tokenizer's own word for it, else by config.json."""
    about, pad = path / "tokenizer_config.json", text.get("pad_token_id", 1)
    if about.is_file():
        told = read_settings(about, LARGE).get("pad_token")
        told = told.get("content") if isinstance(told, dict) else told
        content = read_settings(path / "tokenizer.json", LARGE)
        added = content.get("added_tokens")
        for token in added if isinstance(added, list) else ():
            if isinstance(token, dict) and told is not None and token.get("content") == told:
                pad = token.get("id")
    if type(pad) is not int or not 0 <= pad < vocabulary:
        raise SadariError(
            f"{path / 'config.json'}: pad_token_id is {pad!r}, a token of the vocabulary is needed"
        )
    return pad


# --------------------------------------------------------------------- helpers


def _tokenizer(path: Path) -> Tokenizer:
    """The tokenizer.json beside the weights, of a size that a tokenizer has."""
    file = path / "tokenizer.json"
    if not file.is_file():
        raise SadariError(
            f"{path} has no tokenizer.json, by which the names of classes are read; put the one there that "
            f"came with the weights"
        )
    if file.stat().st_size > LARGE:
        raise SadariError(f"{file} is larger than {LARGE:,} bytes, no tokenizer is; fetch it again")
    return Tokenizer.load(file)


def _part(about: Path, config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = config.get(name) or {}
    if not isinstance(part, dict):
        raise SadariError(f"{about}: {name} is {part!r}, settings are needed; fetch it again")
    return part


def _sizes(
    about: Path, config: Mapping[str, Any], kind: str, part: str, known: Mapping[str, Size]
) -> dict[str, int]:
    said, usual = _part(about, config, f"{part}_config"), USUAL[part] if kind == "siglip" else {}
    return {
        name: _whole(about, said, name, size._replace(usual=usual.get(name, size.usual)))
        for name, size in known.items()
    }


def _whole(about: Path, said: Mapping[str, Any], name: str, size: Size) -> int:
    value = said.get(name, size.usual)
    if type(value) is not int or not 1 <= value <= size.most:
        raise SadariError(f"{about}: {name} is {value!r}, a whole number from 1 to {size.most:,} is needed")
    return value


def _json(path: Path) -> dict[str, Any]:
    return read_settings(path, remedy="give a finished run, or a folder of the hub")

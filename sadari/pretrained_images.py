"""Pretrained eyes: networks that have learnt to see elsewhere, found and checked before a number is read.

efficientnet-lite0   the built-in (`sadari data get efficientnet-lite0`)
FILE.safetensors     EfficientNet-lite by the names of its authors' package
RUN                  a run of pictures: config.json, spec.json, weights.safetensors, result.json
FOLDER               the hub's layout: config.json of a resnet or a vit, model.safetensors, and, where it says
                     how pictures were scaled, preprocessor_config.json
timm:NAME, FOLDER    a network of another library: see `pretrained_foreign`

What each says of itself becomes words, `network=resnet variant=resnet18 width=1.0 size=224 ...`, which a
run's config keeps: the architecture is then known where the weights' own place is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sadari.data.fetch import cached
from sadari.data.torch_file import as_safetensors
from sadari.errors import SadariError
from sadari.files import sha256
from sadari.pretrained import read_settings

if TYPE_CHECKING:
    from torch import Tensor

BUILT_IN = "efficientnet-lite0"
"""Weights that `sadari data get` brings."""
LARGEST = 4096  # pixels of a side
STATISTICS = "num_batches_tracked"
DTYPES = ("F32", "F16", "BF16", "F64")
LEARNT = ("shallow", "alexnet", "vgg", "resnet", "vit", "distilled")
"""Rungs of pictures that have learnt features."""
TUNED = ("probe", "fine-tune")
"""Rungs that have an eye inside."""
INSIDE = "backbone."
"""How its weights' names begin there."""
STUDENT = "resnet"  # what the rung `distilled` is
FOREIGN = ("timm", "transformers")
"""Networks of other libraries, whose files may hold tables of whole numbers beside what is learnt."""
HUB = {  # what config.json may say only so, by its model_type
    "resnet": {"hidden_act": ("relu",), "downsample_in_first_stage": (False,)},
    "vit": {"hidden_act": ("gelu",), "qkv_bias": (True,)},
}


@dataclass(frozen=True)
class PretrainedEye:
    """What a place says of its network; the weights stay on disk until `read`."""

    words: dict[str, str]
    """network, size, channels, mean, deviation, and the network's own settings."""
    file: Path
    """The weights."""
    layout: str = "sadari"
    """Whose names they have: sadari, huggingface, timm or transformers."""
    prefix: str = ""
    """How the names of the eye's own weights begin; all others are left out."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The weights' names and shapes, of which no number is read.

        SadariError when the file is no safetensors, is cut short, or holds something else than numbers.
        """
        from safetensors import SafetensorError, safe_open

        if not self.file.is_file():
            others = [name for name in ("pytorch_model.bin",) if (self.file.parent / name).exists()]
            instead = f" ({others[0]} is not opened: such files can run code)" if others else ""
            raise SadariError(f"{self.file.parent} has no {self.file.name}{instead}; save it as safetensors")
        found = {}
        try:
            with safe_open(self.file, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    part = file.get_slice(name)
                    number = part.get_dtype() in DTYPES or self.words.get("network") in FOREIGN
                    if not number and not name.endswith(STATISTICS):
                        raise SadariError(
                            f"{self.file}: {name} is {part.get_dtype()}, numbers are needed; save it in F32"
                        )
                    if name.startswith(self.prefix):
                        found[name.removeprefix(self.prefix)] = tuple(part.get_shape())
        except (SafetensorError, OSError) as error:
            raise SadariError(
                f"{self.file} cannot be read as safetensors ({error}); fetch it again"
            ) from error
        return found

    def read(self) -> dict[str, Tensor]:
        """The weights in single precision. SadariError as `shapes`, and for a number that is not finite."""
        from safetensors import safe_open

        names = self.shapes()
        with safe_open(self.file, framework="pt") as file:
            state = {name: file.get_tensor(self.prefix + name) for name in names}
        for name, value in state.items():
            if value.is_floating_point():
                state[name] = value.float()
                if not value.isfinite().all():
                    raise SadariError(f"{self.file}: {name} holds values that are not finite; fetch it again")
        return state


def find_eye(weights: str) -> PretrainedEye:
    """What `weights`, a built-in's name, a file or a folder, says of its network.

    SadariError for the first fault; the built-in that is not here yet, with the command that fetches it.
    """
    if weights == BUILT_IN:
        return _efficientnet(as_safetensors(next(cached(weights).glob("*.pth"))))
    if weights.startswith("timm:"):
        from sadari.pretrained_foreign import find_timm

        return find_timm(weights)
    path = Path(weights).expanduser()
    if path.is_file() and path.suffix == ".safetensors":
        return _efficientnet(path)
    if not path.is_dir():
        raise SadariError(
            f"weights {weights!r}: neither a run, nor a folder of the hub, nor a file, nor timm:NAME, nor "
            f"built in ({BUILT_IN}); give one of these"
        )
    if (path / "spec.json").is_file():
        return _run(path)
    return _hub(path)


def _efficientnet(path: Path) -> PretrainedEye:
    """By the names of the authors' package; which of their sizes, the caller's networks tell."""
    eye = PretrainedEye({}, path)
    if "_conv_stem.weight" not in (shapes := eye.shapes()):
        raise SadariError(
            f"{path} has no _conv_stem.weight, so it holds no EfficientNet-lite; give a folder of the hub"
        )
    blocks = len({name.split(".")[1] for name in shapes if name.startswith("_blocks.")})
    words = {"network": "efficientnet", "variant": "tiny" if blocks < 16 else "lite0"}
    return PretrainedEye({**words, **seen_words(224, 3, [127 / 255] * 3, [128 / 255] * 3)}, path)


# --------------------------------------------------------------------- a run


def _run(path: Path) -> PretrainedEye:
    """A finished run of pictures, whose weights are those that it was saved with."""
    config, spec, result = (_json(path / name) for name in ("config.json", "spec.json", "result.json"))
    rung, file = config.get("rung"), path / "weights.safetensors"
    if config.get("kind") != "images" or rung not in (*LEARNT, *TUNED):
        raise SadariError(
            f"run {path} is of rung {rung!r} on {config.get('kind', 'table')}, which has learnt no features "
            f"of pictures; give a run of one of: {', '.join((*LEARNT, *TUNED))}"
        )
    settings = config.get("model")
    if not isinstance(settings, dict):
        raise SadariError(f"{path / 'config.json'} has no settings of a model; fit the run again")
    if not file.is_file() or sha256(file) != result.get("weights"):
        raise SadariError(f"{file} is not the file this run was saved with; fit the run again")
    if rung in TUNED:
        inner = settings.get("backbone")
        if settings.get("lora"):
            raise SadariError(
                f"run {path} was tuned by adapters (lora {settings['lora']}), which no other run can begin "
                f"from; give the weights that it began from, or fit it with lora=0"
            )
        words = dict(word.split("=", 1) for word in str(inner).split() if "=" in word)
        return PretrainedEye(words, file, prefix=INSIDE)
    own = {name: str(value) for name, value in settings.items()}
    network = STUDENT if rung == "distilled" else str(rung)
    try:
        seen = seen_words(spec["size"], spec["channels"], spec["mean"], spec["deviation"])
    except (KeyError, TypeError, ValueError) as error:
        raise SadariError(f"{path / 'spec.json'} is no spec of pictures ({error}); fit it again") from error
    return PretrainedEye({"network": network, **own, **seen}, file)


# --------------------------------------------------------------------- the hub


def _hub(path: Path) -> PretrainedEye:
    """A network as transformers or timm saves it: ours where it is a ResNet or a ViT, else the library's."""
    from sadari import pretrained_foreign as foreign  # which stands on this module

    config = _json(path / "config.json")
    kind = config.get("model_type")
    if "architecture" in config and kind in (None, "timm_wrapper"):
        return foreign.find_timm_folder(path, config)
    for name, known in HUB.get(kind, {}).items() if isinstance(kind, str) else ():
        if config.get(name, known[0]) not in known:
            raise SadariError(
                f"{path / 'config.json'}: {name} is {config[name]!r}, and only {known[0]!r} is known here; "
                f"give the weights of another {kind}"
            )
    about = path / "preprocessor_config.json"
    scaled = _json(about) if about.is_file() else {}
    if kind in ("resnet", "vit"):
        own = {"network": kind, **(_resnet if kind == "resnet" else _vit)(path / "config.json", config)}
    else:
        own = foreign.transformers_words(path / "config.json", config)
        scaled = foreign.scaling(about, scaled)
    channels = _size(path / "config.json", config, "num_channels", 3, most=3)
    side = config.get("image_size")
    alone = {"image_size": side[0] if isinstance(side, list) and side[:1] * 2 == side else side}
    alone = {name: value for name, value in alone.items() if value is not None}
    size = _pixels(about, scaled) or _size(path / "config.json", alone, "image_size", 224, most=LARGEST)
    usual = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # of ImageNet's pictures
    mean, deviation = (
        scaled.get(name, values) if channels == 3 else [0.5] * channels
        for name, values in zip(("image_mean", "image_std"), usual, strict=True)
    )
    try:
        seen = seen_words(size, channels, mean, deviation)
    except (TypeError, ValueError) as error:
        raise SadariError(f"{about}: image_mean and image_std are not usable ({error})") from error
    layout = "huggingface" if kind in HUB else "transformers"
    return PretrainedEye({**own, **seen}, path / "model.safetensors", layout)


def _resnet(path: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The shape of the net in words that a table of variants can be searched by."""
    bottleneck = config.get("layer_type", "bottleneck")
    if bottleneck not in ("bottleneck", "basic"):
        raise SadariError(f"{path}: layer_type is {bottleneck!r}; only bottleneck and basic are known here")
    depths, sizes = (_sizes(path, config, name) for name in ("depths", "hidden_sizes"))
    return {
        "depths": ",".join(map(str, depths)),
        "sizes": ",".join(map(str, sizes)),
        "begin": str(_size(path, config, "embedding_size", 64, most=65_536)),
        "bottleneck": str(bottleneck == "bottleneck"),
        "late": str(config.get("downsample_in_bottleneck") is not True),
    }


def _vit(path: Path, config: Mapping[str, Any]) -> dict[str, str]:
    most = {
        "hidden_size": 65_536, "num_hidden_layers": 1000, "num_attention_heads": 65_536,
        "intermediate_size": 1_000_000, "patch_size": LARGEST,
    }  # fmt: skip
    width, layers, heads, inner, patch = (
        _size(path, config, name, None, most=limit) for name, limit in most.items()
    )
    shapes = {4: "vit-s16", 2: "vit-32"}
    if inner % width or inner // width not in shapes:
        raise SadariError(
            f"{path}: an intermediate_size of {inner} is not 2 or 4 times the hidden_size of {width}; give "
            f"the weights of another ViT"
        )
    eps = config.get("layer_norm_eps", 1e-12)
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise SadariError(f"{path}: layer_norm_eps is {eps!r}, a number between 0 and 1 is needed")
    own = {"patch": patch, "width": width, "layers": layers, "heads": heads, "eps": eps}
    return {"variant": shapes[inner // width], **{name: str(value) for name, value in own.items()}}


def _pixels(path: Path, scaled: Mapping[str, Any]) -> int:
    """Pixels of a side by preprocessor_config.json; 0 where it says nothing."""
    size = scaled.get("crop_size", scaled.get("size"))
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    if size is None:
        return 0
    if type(size) is not int or not 1 <= size <= LARGEST:
        raise SadariError(f"{path}: size is {size!r}, a number of pixels up to {LARGEST:,} is needed")
    return size


# --------------------------------------------------------------------- helpers


def seen_words(size: int, channels: int, mean: Sequence[float], deviation: Sequence[float]) -> dict[str, str]:
    """Words for the pictures that a network was made for. ValueError where they make no sense."""
    middle, spread = [float(value) for value in mean], [float(value) for value in deviation]
    usable = all(map(math.isfinite, middle)) and all(0 < value < math.inf for value in spread)
    if not (len(middle) == len(spread) == channels and usable and 1 <= size <= LARGEST):
        raise ValueError(f"size {size}, channels {channels}, mean {middle}, deviation {spread}")
    return {
        "size": str(size),
        "channels": str(channels),
        "mean": ",".join(map(repr, middle)),
        "deviation": ",".join(map(repr, spread)),
    }


def _json(path: Path) -> dict[str, Any]:
    return read_settings(path, remedy="give a finished run, or a folder of the hub")


def _size(path: Path, config: Mapping[str, Any], name: str, usual: int | None, most: int) -> int:
    value = config.get(name, usual)
    if type(value) is not int or not 1 <= value <= most:
        raise SadariError(f"{path}: {name} is {value!r}, a whole number from 1 to {most:,} is needed")
    return value


def _sizes(path: Path, config: Mapping[str, Any], name: str) -> list[int]:
    values = config.get(name)
    if not isinstance(values, list) or not 1 <= len(values) <= 16:
        raise SadariError(f"{path}: {name} is {values!r}, a list of whole numbers is needed")
    return [_size(path, {name: value}, name, None, most=65_536) for value in values]

"""The eye: a network for pictures without its last layer, whatever it is, behind the same few calls.

    described(weights)              the network in words, as a run's config keeps them
    make_eye(words, channels)       the network and the size D of its features, weights drawn by law
    fill(network, words, weights)   the weights put into it
    features_of(network, pictures)  (B, D)
    stages_of(network)              its parts from the picture on: what can be frozen, or learn at a pace

It is made for pictures of the size that it has learnt on; features come of any size that its own network
takes, so that a smaller one, which costs less, may be shown.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.convolution import share
from sadari.layers.dense import Recorder
from sadari.models import foreign_eye, foreign_weights, resnet
from sadari.pretrained_images import FOREIGN, LARGEST, STATISTICS, PretrainedEye, find_eye

Shape = tuple[int, int, int]
SEEN = ("network", "size", "channels", "mean", "deviation")
"""Words of every eye: the network, and the pictures that it has learnt on. The others are its settings."""
SMALLEST = "network=resnet variant=resnet20 width=0.25 size=16 channels=3 mean=0.5,0.5,0.5 deviation=1,1,1"


class Kind(NamedTuple):
    """One kind of network."""

    module: str
    model: str
    head: str
    """The last layer, which an eye goes without."""


KINDS = {
    "shallow": Kind("sadari.models.pixels", "PixelShallow", "output"),
    "alexnet": Kind("sadari.models.alexnet", "AlexNet", "classifier.6"),
    "vgg": Kind("sadari.models.vgg", "VGG", "classifier.6"),
    "resnet": Kind("sadari.models.resnet", "ResNet", "fc"),
    "vit": Kind("sadari.models.vit", "ViT", "heads.head"),
    "efficientnet": Kind("sadari.models.efficientnet", "EfficientNet", "_fc"),
}
OTHERS = {
    "timm": Kind("sadari.models.foreign_eye", "TimmEye", "head"),
    "transformers": Kind("sadari.models.foreign_eye", "TransformersEye", "head"),
}
"""Networks of other libraries."""
DEEPEST = 1000  # layers of a ViT
HEADS = ("classifier.", "pooler.")  # of Hugging Face's networks
_UNDER = re.compile(r"parametrizations\.(\w+)\.original$")  # the name of a weight that adapters change
BUFFERS = ("running_mean", "running_var", STATISTICS)


def described(weights: str) -> str:
    """The eye that a place holds, in words: `SMALLEST` for "". No weight is read, but all are counted.

    SadariError for the first fault, or where the weights are not those of the network they say they are.
    """
    if not weights:
        return SMALLEST
    eye = find_eye(weights)
    words = _settled(eye)
    config, inputs = settings_of(words), shape_of(words)
    if words["network"] in OTHERS:
        foreign_weights.check_weights(eye, words, config, inputs)
        return " ".join(f"{name}={value}" for name, value in words.items())
    held = sum(math.prod(shape) for name, shape in eye.shapes().items() if not _aside(name, eye, words))
    wanted = class_of(words).parameter_count(config, inputs, 0)  # without the last layer
    if held != wanted:
        raise SadariError(
            f"{eye.file} holds {held:,} numbers, a {words['network']} of its settings has {wanted:,}; the "
            f"two do not belong together"
        )
    return " ".join(f"{name}={value}" for name, value in words.items())


def split_words(text: str) -> dict[str, str]:
    """`name=value` by name, unchecked."""
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def is_shown(words: Mapping[str, str]) -> bool:
    """Whether there can be such pictures and so deep a network.

    Raises KeyError or ValueError where the words do not say.
    """
    channels, size = int(words["channels"]), int(words["size"])
    mean, deviation = ([float(value) for value in words[name].split(",")] for name in ("mean", "deviation"))
    deep = int(words.get("layers", 0)) > DEEPEST  # a giant must not be made to be looked at
    fits = len(mean) == len(deviation) == channels in (1, 3) and min(deviation) > 0
    return fits and 1 <= size <= LARGEST and not deep


def read_words(text: str) -> dict[str, str]:
    """The words of `described`, checked: a network that there is, for pictures that there can be."""
    words = split_words(text)
    try:
        known = words["network"] in (*KINDS, *OTHERS) and is_shown(words)
        settings_of(words)
    except (KeyError, ValueError, TypeError):
        known = False
    if not known:
        raise SadariError(
            f"backbone {text!r}: leave it empty to have it read from the weights, or write all of "
            f"{SMALLEST!r}"
        )
    return words


def shape_of(words: dict[str, str]) -> Shape:
    """(C, H, W) of the pictures that an eye has learnt on."""
    return int(words["channels"]), int(words["size"]), int(words["size"])


def settings_of(words: dict[str, str]) -> Any:
    """The config of the network that words tell of. KeyError or ValueError where they tell of none."""
    known: dict[str, Any] = {field.name: type(field.default) for field in fields(class_of(words).Config)}
    own = {name: value for name, value in words.items() if name not in (*SEEN, "eps")}
    return class_of(words).Config(**{name: known[name](value) for name, value in own.items()})


def make_eye(words: dict[str, str], channels: int) -> tuple[nn.Module, int]:
    """The network without its last layer, for pictures of so many channels, and D of its features."""
    kind, (_, height, width) = _kind(words), shape_of(words)
    network = class_of(words)(settings_of(words), (channels, height, width), 1)
    head: Any = network.get_submodule(kind.head)
    parent, _, last = kind.head.rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
    for module in network.modules():
        if isinstance(module, nn.LayerNorm) and "eps" in words:
            module.eps = float(words["eps"])
    return network, head.in_features


@torch.no_grad()
def fill(network: nn.Module, words: dict[str, str], weights: str) -> None:
    """Put the weights of a place into a network of `make_eye`, under adapters if it has some.

    SadariError where they are of another network.
    """
    eye = find_eye(weights)
    if _settled(eye) != words:
        raise SadariError(
            f"{weights} holds another network than the one that was planned; give the same command again"
        )
    if isinstance(network, foreign_eye.ForeignEye) and eye.layout in FOREIGN:
        state = foreign_weights.state_of(eye, network)
    else:
        state = eye.read()
    if eye.layout == "huggingface":
        state = importlib.import_module(_kind(words).module).import_huggingface(state)
    head = _kind(words).head + "."
    state = {name: value for name, value in state.items() if not name.startswith(head)}
    own = {_UNDER.sub(r"\1", name): value for name, value in network.state_dict().items()}
    own = {name: value for name, value in own.items() if ".parametrizations." not in name}
    strange = sorted(set(state) - set(own))
    if strange:
        raise SadariError(f"{eye.file} has {strange[0]}, which a {words['network']} has not; fetch it again")
    for name, value in own.items():
        if name not in state and name.endswith(STATISTICS):  # old files lack it, and nothing reads it
            continue
        if name not in state or state[name].shape != value.shape:
            found = f"of shape {tuple(state[name].shape)}" if name in state else "absent"
            raise SadariError(
                f"{eye.file}: {name} is {found}, shape {tuple(value.shape)} is needed; fetch it again"
            )
        value.copy_(state[name])


def features_of(
    network: nn.Module, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
) -> Float[Tensor, "B D"]:
    """What the network's last layer would read."""
    net: Any = network
    return net.features(pictures) if rec is None else net.features(pictures, rec)


def stages_of(network: nn.Module, words: dict[str, str]) -> list[re.Pattern[str]]:
    """The parts from the picture on, each as what the names of its modules and parameters begin with."""
    kind = words["network"]
    if kind == "efficientnet":
        firsts = [i for i, block in enumerate(network.get_submodule("_blocks").children()) if _begins(block)]
        count = len(list(network.get_submodule("_blocks").children()))
        ends = [*firsts[1:], count]
        middle = [
            rf"_blocks\.({'|'.join(map(str, range(first, end)))})(\.|$)"
            for first, end in zip(firsts, ends, strict=True)
        ]
        parts = [r"(_conv_stem|_bn0)(\.|$)", *middle, r"(_conv_head|_bn1)(\.|$)"]
    elif kind == "resnet":
        layers = [name for name, _ in network.named_children() if name.startswith("layer")]
        parts = [r"(conv1|bn1)(\.|$)", *(rf"{name}(\.|$)" for name in layers)]
    elif kind == "vit":
        layers = list(network.get_submodule("encoder.layers")._modules)
        parts = [
            r"(conv_proj|class_token|encoder\.pos_embedding)(\.|$)",
            *(rf"encoder\.layers\.{name}(\.|$)" for name in layers),
            r"(encoder\.ln|pooling)(\.|$)",
        ]
    elif kind == "shallow":
        parts = [r"hidden(\.|$)"]
    elif kind in OTHERS:
        parts = foreign_eye.stages(network)
    else:
        parts = _windows(network)
    return [re.compile(part) for part in parts]


def _begins(block: nn.Module) -> bool:
    """Whether a block of an EfficientNet is the first of its stage: only there the sizes may change."""
    inner: Any = block
    return not inner.direct


def _windows(network: nn.Module) -> list[str]:
    """Of an AlexNet or a VGG: each convolution with its norm, and each dense layer."""
    parts: list[str] = []
    for place in ("features", "classifier"):
        names = [name for name, part in network.get_submodule(place).named_children() if _learns(part)]
        for name in names:
            layer = network.get_submodule(f"{place}.{name}")
            if isinstance(layer, nn.BatchNorm2d):
                parts[-1] = parts[-1].replace(")", f"|{name})", 1)
            else:
                parts.append(rf"{place}\.({name})(\.|$)")
    return parts


def _learns(part: nn.Module) -> bool:
    return next(part.parameters(), None) is not None


def class_of(words: dict[str, str]) -> Any:
    """The network's class."""
    kind = _kind(words)
    return getattr(importlib.import_module(kind.module), kind.model)


def _kind(words: Mapping[str, str]) -> Kind:
    return (KINDS | OTHERS)[words["network"]]


def _aside(name: str, eye: PretrainedEye, words: dict[str, str]) -> bool:
    """Whether a weight is no part of the eye: of the last layer, or a statistic that is not learnt."""
    heads = HEADS if eye.layout == "huggingface" else (_kind(words).head + ".",)
    return name.startswith(heads) or name.endswith(BUFFERS)


def _settled(eye: PretrainedEye) -> dict[str, str]:
    """The words of a place with nothing left open: what `auto` chose, and which variant a shape is."""
    words = dict(eye.words)
    if eye.layout == "huggingface" and words["network"] == "resnet":
        own = ("depths", "sizes", "begin", "bottleneck", "late")
        shape = {name: words.pop(name) for name in own}
        words |= _variant_of(eye, shape)
    elif eye.layout in FOREIGN:
        words = foreign_eye.settled(eye)
    words = read_words(" ".join(f"{name}={value}" for name, value in words.items()))
    config, inputs = settings_of(words), shape_of(words)
    if words["network"] == "vit":
        sizes = importlib.import_module(KINDS["vit"].module).chosen(config, inputs)
        variant = "vit-32" if sizes.inner == 2 * sizes.width else "vit-s16"  # as wide inside
        config = replace(
            config,
            variant=variant,
            patch=sizes.patch,
            width=sizes.width,
            layers=sizes.layers,
            heads=sizes.heads,
        )
    elif words["network"] in ("alexnet", "vgg", "resnet"):
        chosen = importlib.import_module(KINDS[words["network"]].module).chosen
        config = replace(config, variant=chosen(config, inputs))
    seen = {name: words[name] for name in (*SEEN, "eps") if name in words}
    return seen | {field.name: str(getattr(config, field.name)) for field in fields(config)}


def _variant_of(eye: PretrainedEye, shape: dict[str, str]) -> dict[str, str]:
    """Which of the table's ResNets has a shape, and with which share of its channels."""
    begin = int(shape["begin"])
    for name, layout in resnet.VARIANTS.items():
        each = 4 if layout.bottleneck else 1
        width = begin / layout.channels[0]
        if 0 < width <= 16 and layout.shortcut == "B" and not layout.small:
            sizes = [each * share(channels, width) for channels in layout.channels]
            told = [str(layout.bottleneck), str(layout.late or not layout.bottleneck)]
            found = [",".join(map(str, layout.depths)), ",".join(map(str, sizes)), *told]
            late = shape["late"] if layout.bottleneck else "True"
            if found == [shape["depths"], shape["sizes"], shape["bottleneck"], late]:
                return {"variant": name, "width": repr(width)}
    raise SadariError(
        f"{eye.file.parent / 'config.json'}: depths {shape['depths']} of sizes {shape['sizes']} are no "
        f"ResNet of those known here; give the weights of one of 18, 34, 50, 101 or 152 layers"
    )

"""Eyes of other libraries, timm's and transformers': their own code, behind the calls that every eye has.

    picture (B, C, H, W) -- the library's network -- features (B, D) -- head -- logits

What differs from our own networks: nothing of it is written here, so that what is asked of a network is asked
of the network itself, made once without memory (torch's meta device): how wide its features are, how many
parameters it has, and how many multiply-adds a picture takes.

Features of timm's are what it gives with `num_classes=0`; of transformers', by the word `pooled`:

    pooler   pooler_output
    token    the class token of last_hidden_state: there is no pooler, or the file does not hold its weights
    mean     the mean of last_hidden_state over its tokens or places: there is no class token either
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from sadari.errors import SadariError
from sadari.layers.dense import Recorder
from sadari.models.foreign_stages import stage_names
from sadari.pretrained_foreign import NAME, decoded, first_line, library, made_of, network_of, quiet
from sadari.pretrained_images import PretrainedEye

Shape = tuple[int, int, int]
WIDEST = 1_000_000  # features
POOLED = ("pooler", "token", "mean")
INSIDE = "network."
"""How the library's names begin here."""
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class TimmConfig:
    """A network of timm's list."""

    architecture: str = "resnet18"
    """Its name there, without what it was trained on."""
    pool: str = ""
    """How places become features; empty: as timm has it."""
    fixed: int = 0
    """Whether it is made for one size of pictures."""
    width: int = 512
    """D, the number of its features."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.architecture) or not re.fullmatch(r"\w{0,20}", self.pool):
            raise ValueError("no name of a network")
        if not 1 <= self.width <= WIDEST:
            raise ValueError("no width of features")

    def make(self, inputs: Shape) -> nn.Module:
        """The network without its last layer."""
        timm = library("timm")
        if not timm.is_model(self.architecture):
            raise SadariError(f"this timm does not know {self.architecture!r}; update it")
        sized: dict[str, Any] = {"img_size": inputs[1]} if self.fixed else {}
        pooled: dict[str, Any] = {"global_pool": self.pool} if self.pool else {}
        return timm.create_model(
            self.architecture, pretrained=False, num_classes=0, in_chans=inputs[0], **sized, **pooled
        )


@dataclass(frozen=True)
class TransformersConfig:
    """A network that transformers makes of its own settings."""

    config: str = "{%22model_type%22:%22convnext%22}"
    """Those settings, as one word."""
    pooled: str = "pooler"
    """What of its answer the features are: pooler, token or mean."""
    width: int = 768
    """D, the number of its features."""

    def __post_init__(self) -> None:
        decoded(self.config)
        if self.pooled not in POOLED or not 1 <= self.width <= WIDEST:
            raise ValueError("no pooling, or no width of features")

    def make(self, inputs: Shape) -> nn.Module:
        """The network, without a pooler where that is not asked."""
        made = made_of(self.config)
        network: nn.Module = network_of(made)._from_config(made).float()
        if self.pooled != "pooler" and isinstance(getattr(network, "pooler", None), nn.Module):
            network.pooler = None  # type: ignore[assignment]
        return network


class ForeignEye(nn.Module):
    """A library's network, and a last layer on its features: what both kinds here are."""

    Config: ClassVar[Any]
    library: ClassVar[str]

    def __init__(self, config: Any, inputs: Shape, outputs: int) -> None:
        super().__init__()
        self.config, self.inputs = config, inputs
        self.network = _made(config, inputs)
        self.head = nn.Linear(config.width, outputs)

    def forward(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B O"]:
        """Logits."""
        return self.head(self.features(pictures, rec))

    def features(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B D"]:
        """What the library's network makes of pictures.

        SadariError while a run is exported to ONNX: a tracer cannot follow the library's code.
        """
        if isinstance(pictures, fx.Proxy):  # as `export.network` traces a model
            raise SadariError(
                f"this run cannot be exported to ONNX: its eye is a network of {self.library}, which has no "
                f"translation here; export it to safetensors, or begin from an eye of Sadari's own"
            )
        found = _features(self.network, self.config, pictures)
        if found.shape[1] != self.config.width:
            raise SadariError(
                f"the eye gives {found.shape[1]:,} features for pictures of {pictures.shape[-1]} a side, "
                f"{self.config.width:,} are needed; use side=0"
            )
        return found

    @classmethod
    def parameter_count(cls, config: Any, inputs: Shape, outputs: int) -> int:
        """The network's as it is made, and O (D + 1)."""
        own = sum(parameter.numel() for parameter in drawn(config, inputs).parameters())
        return own + (outputs * (config.width + 1) if outputs else 0)

    @classmethod
    def macs(cls, config: Any, inputs: Shape, outputs: int) -> int:
        """Multiply-adds for one picture: those that torch counts on the way, and O D."""
        return _macs(config, inputs) + outputs * config.width


class TimmEye(ForeignEye):
    """A network of timm's."""

    Config: ClassVar = TimmConfig
    library: ClassVar[str] = "timm"


class TransformersEye(ForeignEye):
    """A network of transformers'."""

    Config: ClassVar = TransformersConfig
    library: ClassVar[str] = "transformers"


@lru_cache(maxsize=16)
def drawn(config: Any, inputs: Shape) -> nn.Module:
    """The network without memory, to be asked what it is like. SadariError where none can be made."""
    with torch.device("meta"):
        return _made(config, inputs).eval()


@lru_cache(maxsize=16)
def unpassed(config: Any, inputs: Shape) -> list[str]:
    """Names of parameters that no gradient reaches, by one that is sent through a network without memory."""
    with torch.inference_mode(False), torch.enable_grad(), torch.device("meta"):
        network = _plain(config, inputs).eval().requires_grad_(True)
        try:
            with quiet():
                _features(network, config, torch.empty(1, *inputs)).sum().backward()
        except Exception:  # of a library's own checks; `_tried` tells it where it matters
            return []
    return [name for name, parameter in network.named_parameters() if parameter.grad is None]


def settled(eye: PretrainedEye) -> dict[str, str]:
    """The words of a place with what only its network and its file can tell: pooling and width of features.

    SadariError for a network that cannot be made, or makes no features of a picture.
    """
    words = dict(eye.words)
    side = int(words["size"])
    inputs = (int(words["channels"]), side, side)
    config: Any
    if words["network"] == "timm":
        config = TimmConfig(words["architecture"], words["pool"], int(words["fixed"]))
    else:
        whole = drawn(TransformersConfig(words["config"]), inputs)
        words["pooled"] = _pooled(whole, inputs, set(eye.shapes()))
        config = TransformersConfig(words["config"], words["pooled"])
    network = drawn(config, inputs)
    found = _tried(network, config, inputs)
    if isinstance(found, str):
        raise SadariError(
            f"{eye.file.parent}: its network makes no features of pictures of {side} a side ({found}); give "
            f"the weights of another"
        )
    return words | {"width": str(found)}


def check_side(config: Any, inputs: Shape, side: int) -> None:
    """Raise SadariError where a network cannot be shown pictures of so many pixels a side."""
    found = _tried(drawn(config, inputs), config, (inputs[0], side, side))
    if found != config.width:
        raise SadariError(
            f"side {side}: the eye learnt on pictures of {inputs[1]} a side and does not take these; use "
            f"side=0"
        )


def stages(network: nn.Module) -> list[str]:
    """Patterns of the names of each stage of a `ForeignEye`, from the picture on."""
    own = network.get_submodule(INSIDE.rstrip("."))
    return [rf"network\.({'|'.join(map(re.escape, names))})(\.|$)" for names in stage_names(own)]


# ---------------------------------------------------------------------- helpers


def _made(config: Any, inputs: Shape) -> nn.Module:
    """The network, of which a run keeps what is learnt and the norms' statistics: not what no picture passes,
    as a mask token, nor tables that are made of the settings.
    """
    made = _plain(config, inputs)
    kept = set(made.state_dict())
    tables = [name for name, _ in made.named_buffers() if name in kept and not name.endswith(STATISTICS)]
    for name in [*tables, *unpassed(config, inputs)]:
        path, _, last = name.rpartition(".")
        module = made.get_submodule(path)
        value = getattr(module, last).detach()
        delattr(module, last)
        module.register_buffer(last, value, persistent=False)
    return made


def _plain(config: Any, inputs: Shape) -> nn.Module:
    try:
        with quiet():
            made: nn.Module = config.make(inputs)
    except SadariError:
        raise
    except Exception as error:  # of a library's own checks, which raise what they like
        raise SadariError(
            f"the eye's network cannot be made of its settings ({first_line(error)}); fetch its weights again"
        ) from error
    return made


def _features(network: nn.Module, config: Any, pictures: Tensor) -> Tensor:
    """(B, D) of what a network answers."""
    if isinstance(config, TimmConfig):
        found: Tensor = network(pictures)
        return found.flatten(2).mean(2) if found.ndim > 2 else found
    answer = network(pixel_values=pictures)
    if config.pooled == "pooler":
        return answer.pooler_output.flatten(1)
    last: Tensor = answer.last_hidden_state
    if last.ndim == 4:
        return last.mean((2, 3))
    return last[:, 0] if config.pooled == "token" else last.mean(1)


@torch.no_grad()
def _tried(network: nn.Module, config: Any, inputs: Shape) -> int | str:
    """The width of the features of such pictures, or why there are none."""
    try:
        with quiet(), torch.device("meta"):
            found = _features(network, config, torch.empty(1, *inputs))
    except Exception as error:  # of a library's own checks, which raise what they like
        return first_line(error)
    return found.shape[1] if found.ndim == 2 else f"an answer of shape {tuple(found.shape)}"


def _pooled(network: nn.Module, inputs: Shape, names: set[str]) -> str:
    """What the features of transformers' network are, by what it answers and by what its file holds."""
    own = [name for name, _ in network.named_parameters()]
    pooler = [name for name in own if name.startswith("pooler.")]
    held = all(any(name.endswith(mine) for name in names) for mine in pooler)
    with quiet(), torch.no_grad(), torch.device("meta"):
        try:
            answer = network(pixel_values=torch.empty(1, *inputs))
        except Exception:  # `_tried` asks again, and tells why
            return "pooler"
    if held and getattr(answer, "pooler_output", None) is not None:
        return "pooler"
    tokens = any(re.search(r"(cls|class)_(token|embedding)$", name) for name in own)
    return "token" if tokens and answer.last_hidden_state.ndim == 3 else "mean"


@lru_cache(maxsize=64)
def _macs(config: Any, inputs: Shape) -> int:
    counter = FlopCounterMode(display=False)
    with counter:
        _tried(drawn(config, inputs), config, inputs)
    return int(counter.get_total_flops()) // 2

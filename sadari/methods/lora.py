"""LoRA (Hu et al. 2021, 2106.09685): a matrix stays as it is, a low-rank change of it is learnt beside it.

        W' = W + alpha / r * B A        W (out, in) frozen,  A (r, in) drawn,  B (out, r) zero at first

                      +---- W ----+
        x (.., in) ---+           (+)--- (.., out)           r (in + out) numbers in place of in * out
                      +-- A -- B -+

A convolution's weights are a matrix too, (out, in k k). At step 0 the change is zero; merged, W' is an
ordinary matrix and costs nothing more. Adapters are saved alone in the layout of PEFT, which reads them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sadari import files
from sadari.errors import SadariError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""How PEFT begins every name."""
PACKED = "in_proj_weight"  # queries, keys and values in one matrix, which belongs to no layer of its own
KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d)


class Adapter(nn.Module):
    """The change of one weight: W -> W + scale * B A."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        sizes = _sizes(weight)
        self.scale = alpha / rank
        self.lora_A = nn.Parameter(weight.detach().new_empty(rank, sizes[0]))
        self.lora_B = nn.Parameter(weight.detach().new_zeros(sizes[1], rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))  # as the authors: uniform, 1 / sqrt(in)

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight."""
        return weight + (self.scale * (self.lora_B @ self.lora_A)).view(weight.shape)


def adapted(model: nn.Module, targets: Sequence[str] = ()) -> dict[str, tuple[int, int]]:
    """Weights that `inject` would change, by name, with the sizes (in, out) of their matrices.

    `targets` are layers by the end of their names, `("query", "encoder.out")`; none means every dense layer,
    every convolution that is not split into groups, and every packed attention matrix.
    SadariError for a target that is no such layer.
    """
    found = {name: _sizes(weight) for name, weight in _weights(model)}
    if not targets:
        return found
    chosen: dict[str, tuple[int, int]] = {}
    for target in targets:
        mine = {name: sizes for name, sizes in found.items() if _ends(_layer(name), target)}
        if not mine:
            known = ", ".join(dict.fromkeys(_layer(name).rpartition(".")[2] for name in found))
            raise SadariError(f"targets: no layer that can be adapted ends in {target!r}; there are: {known}")
        chosen |= mine
    return {name: sizes for name, sizes in found.items() if name in chosen}


def inject(model: nn.Module, rank: int, alpha: float, targets: Sequence[str] = ()) -> nn.Module:
    """The same model, all that it had frozen, with an adapter on each weight that `adapted` names.

    SadariError for a rank below 1, and for a model that has adapters already.
    """
    if rank < 1 or not 0 < alpha < math.inf:
        raise SadariError(f"rank {rank}, alpha {alpha}: both are above 0; use rank=8, alpha=16")
    if any(isinstance(module, Adapter) for module in model.modules()):
        raise SadariError("the model has adapters already; merge them first")
    names = adapted(model, targets)
    model.requires_grad_(False)
    for name in names:
        path, _, weight = name.rpartition(".")
        layer: Any = model.get_submodule(path)
        parametrize.register_parametrization(layer, weight, Adapter(getattr(layer, weight), rank, alpha))
    return model


def merge(model: nn.Module) -> nn.Module:
    """The same model without adapters, their changes in its weights for good."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for weight in list(module.parametrizations):  # type: ignore[union-attr, arg-type]
                parametrize.remove_parametrizations(module, weight, leave_parametrized=True)
    return model


def adapters(model: nn.Module) -> dict[str, Tensor]:
    """The adapters alone, by PEFT's names: `base_model.model.<layer>.lora_A.weight`, and lora_B.

    Those of a convolution have its shape: A (r, in, k, k), B (out, r, 1, 1).
    """
    found = {}
    for name, adapter, weight in _adapters(model):
        kernel = weight.shape[2:]
        shapes = {"lora_A": (-1, *weight.shape[1:]), "lora_B": (len(weight), -1, *(1 for _ in kernel))}
        for part, shape in shapes.items():
            value = getattr(adapter, part).detach().reshape(shape).contiguous()
            found[f"{PREFIX}{_layer(name)}.{part}.weight"] = value
    return found


def save_adapters(model: nn.Module, folder: Path, base: str = "") -> Path:
    """Write `adapter_config.json` and `adapter_model.safetensors`; `base` says what they change.

    SadariError for a model that has none, and when the disk is full.
    """
    parts = list(_adapters(model))
    if not parts:
        raise SadariError("the model has no adapters to save; inject some first")
    first = parts[0][1]
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": base or None,
        "r": len(first.lora_A),
        "lora_alpha": first.scale * len(first.lora_A),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": [_layer(name) for name, _, _ in parts],
        "task_type": None,
    }
    files.write_atomic(folder / WEIGHTS, save(adapters(model)))
    files.write_json(folder / CONFIG, config)
    return folder


def load_adapters(model: nn.Module, folder: Path) -> nn.Module:
    """Put saved adapters on a model that has none, or in place of those that it has.

    SadariError when the folder holds none, when they are of another model or not finite, or are a pickle.
    """
    config = files.read_json(folder / CONFIG, "a folder of adapters")
    rank: Any = config.get("r")
    alpha: Any = config.get("lora_alpha")
    targets: Any = config.get("target_modules")
    usable = type(rank) is int and 1 <= rank <= 65_536 and type(alpha) in (int, float)
    if config.get("peft_type") != "LORA" or not usable or not _named(targets):
        raise SadariError(
            f"{folder / CONFIG} tells of no LoRA (r {rank!r}, lora_alpha {alpha!r}); save it anew"
        )
    state = _state(folder / WEIGHTS)
    if not any(isinstance(module, Adapter) for module in model.modules()):
        inject(model, rank, alpha, targets)
    wanted = adapters(model)
    odd = sorted(set(state) ^ set(wanted)) or [n for n in wanted if state[n].shape != wanted[n].shape]
    if odd:
        raise SadariError(f"{folder / WEIGHTS}: {odd[0]} does not fit this model; give that of its adapters")
    for name, adapter, _ in _adapters(model):
        adapter.scale = alpha / rank
        for part in ("lora_A", "lora_B"):
            own = getattr(adapter, part)
            with torch.no_grad():
                own.copy_(state[f"{PREFIX}{_layer(name)}.{part}.weight"].reshape(own.shape))
    return model


def _state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        pickled = (path.parent / "adapter_model.bin").exists()
        instead = " (adapter_model.bin is not opened: such files can run code)" if pickled else ""
        raise SadariError(f"{path.parent} has no {path.name}{instead}; save it as safetensors")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise SadariError(f"{path} cannot be read as safetensors ({error}); save it anew") from error
    for name, value in state.items():
        if not (value.is_floating_point() and value.isfinite().all()):
            raise SadariError(f"{path}: {name} holds values that are not finite numbers; save it anew")
    return state


def _named(targets: object) -> bool:
    return isinstance(targets, list) and bool(targets) and all(isinstance(name, str) for name in targets)


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight that can be adapted, by its full name."""
    for path, module in model.named_modules():
        if isinstance(module, KINDS) and getattr(module, "groups", 1) == 1:
            yield f"{path}.weight", module.weight
        elif isinstance(getattr(module, PACKED, None), Tensor):
            yield f"{path}.{PACKED}", getattr(module, PACKED)


def _adapters(model: nn.Module) -> Iterator[tuple[str, Adapter, Tensor]]:
    """The name of each adapted weight, its adapter, and what the weight was before."""
    for path, module in model.named_modules():
        if parametrize.is_parametrized(module):
            lists: Mapping[str, Any] = module.parametrizations  # type: ignore[assignment]
            for weight, changes in lists.items():
                yield f"{path}.{weight}", changes[0], changes.original


def _sizes(weight: Float[Tensor, "out ..."]) -> tuple[int, int]:
    """(in, out) of a weight as a matrix."""
    return weight[0].numel(), len(weight)


def _layer(name: str) -> str:
    """The layer that a weight belongs to; the packed one of an attention is called in_proj."""
    return name.removesuffix("_weight").removesuffix(".weight")


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")

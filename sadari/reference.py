"""Weights of the code that others use: settings and tensors read by name, and what is amiss told in a line.

config.json                     the sizes, and what the model does
model.safetensors               its tensors, or
model.safetensors.index.json    the names of the files beside it that hold them in parts

Nothing else is opened: other formats of weights can run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sadari.errors import SadariError


def read_json(path: Path) -> dict[str, Any]:
    """The settings of a file. SadariError where it is missing, is no JSON, or holds no names."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SadariError(f"{path} is missing; give a folder with config.json and *.safetensors") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SadariError(f"{path} cannot be read as JSON ({error}); fetch it again") from error
    if not isinstance(content, dict):
        raise SadariError(f"{path} holds no settings by name; fetch it again")
    return content


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a folder, by name: of model.safetensors, or of the files that the index names."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        content = read_json(index).get("weight_map")
        if not isinstance(content, dict) or not content:
            raise SadariError(f"{index} names no files; fetch it again")
        names = sorted({str(name) for name in content.values()})
    tensors: dict[str, Tensor] = {}
    for name in names:
        if Path(name).name != name:  # an index may not reach out of its folder
            raise SadariError(f"{index} names {name!r}, which is no file beside it; fetch it again")
        if not (folder / name).is_file():
            raise SadariError(
                f"{folder / name} is missing; only safetensors are read, since they run no code"
            )
        try:
            tensors |= load_file(folder / name)
        except (SafetensorError, OSError) as error:
            raise SadariError(f"{folder / name} cannot be read ({error}); fetch it again") from error
    return tensors


def opened(
    source: str | Path | Mapping[str, Tensor], settings: Mapping[str, Any] | None = None
) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
    """Tensors by name and their settings: of a folder, or of a state that comes with its settings."""
    if not isinstance(source, Mapping):
        settings = settings or read_json(Path(source) / "config.json")
        source = read_tensors(Path(source))
    if settings is None:
        raise SadariError("tensors alone do not tell the heads; give the content of config.json as settings")
    return source, settings


def adopt(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a model copies of these tensors, in their number type and where they are, to be trained on.

    SadariError where one has another shape than the model's settings make.
    """
    for name, value in model.state_dict().items():
        if state[name].shape != value.shape:
            raise SadariError(
                f"{name} has the shape {tuple(state[name].shape)}, its settings make {tuple(value.shape)}; "
                f"config.json belongs to other weights"
            )
    model.load_state_dict({name: value.detach().clone() for name, value in state.items()}, assign=True)
    model.requires_grad_(True)


def refuse(settings: Mapping[str, Any], **usual: Any) -> None:
    """SadariError where a setting is another than the one that this model does."""
    for name, value in usual.items():
        if settings.get(name, value) not in (value, None):
            raise SadariError(f"{name}={settings[name]!r} in config.json: only {value!r} is done here")


def whole(settings: Mapping[str, Any], name: str, most: int, least: int = 1) -> int:
    """A setting that is a whole number within these bounds; SadariError else."""
    value = settings.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise SadariError(
            f"{name}={value!r} in config.json: a whole number from {least} to {most:,} is needed; "
            f"fetch it again"
        )
    return value


class Source:
    """Tensors taken by name; what is missing is told."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        self.tensors = tensors
        self.prefix = prefix if any(name.startswith(prefix) for name in tensors) else ""

    def __call__(self, name: str, inside: bool = True) -> Tensor:
        full = self.prefix + name if inside else name
        if full not in self.tensors:
            raise SadariError(f"the weights hold no {full!r}; these are of another kind, or part is missing")
        return self.tensors[full]

    def first(self, *names: str) -> Tensor:
        """The first of these that is there."""
        return self(next((name for name in names if self.prefix + name in self.tensors), names[0]))

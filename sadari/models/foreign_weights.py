"""Weights of other libraries' networks, by the names that they have in an eye; see `foreign_eye`.

The file is read here, as safetensors and never otherwise; the libraries are given tensors, and only tell what
old names are called today. Weights of a last layer are left out. All others must have their place: a file of
a larger network, which a library would read in part and without a word, is refused.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.models.foreign_eye import INSIDE, ForeignEye, TimmConfig, TransformersConfig, drawn, unpassed
from sadari.pretrained_foreign import first_line, made_of, network_of, quiet
from sadari.pretrained_images import FOREIGN, PretrainedEye

Shape = tuple[int, int, int]
UNUSED = ("mask_token", "position_ids")  # ends of names of what no picture passes


def check_weights(eye: PretrainedEye, words: dict[str, str], config: Any, inputs: Shape) -> None:
    """Raise SadariError for a file that holds fewer numbers than the network has; no number is read."""
    wanted = ForeignEye.parameter_count(config, inputs, 0)
    own = {INSIDE + name for name, _ in drawn(config, inputs).named_parameters()}
    shapes = {name: shape for name, shape in eye.shapes().items() if eye.layout in FOREIGN or name in own}
    held = sum(math.prod(shape) for shape in shapes.values())
    if held < wanted:
        raise SadariError(
            f"{eye.file} holds {held:,} numbers, a network of {words['network']} of its settings has "
            f"{wanted:,}; the two do not belong together"
        )


def state_of(eye: PretrainedEye, made: ForeignEye) -> dict[str, Tensor]:
    """The weights of a place by the names that they have in the eye `made`; a last layer's are left out.

    SadariError for a file whose weights are not those of the network, or that has learnt what a run does not
    keep: tables that are made of the settings.
    """
    config, network = made.config, drawn(made.config, made.inputs)
    state = (_timm_state if isinstance(config, TimmConfig) else _transformers_state)(eye, config, network)
    own, aside = network.state_dict(), unpassed(config, made.inputs)
    for name, table in made.network.named_buffers():
        if name in state and name not in own and name not in aside and not _alike(state.pop(name), table):
            raise SadariError(
                f"{eye.file}: {name} is a table with values of its own, which a run does not keep; give the "
                f"weights of another network"
            )
    return {INSIDE + name: value for name, value in state.items() if name not in aside}


# ---------------------------------------------------------------------- helpers


def _timm_state(eye: PretrainedEye, config: TimmConfig, network: nn.Module) -> dict[str, Tensor]:
    """By timm's own change of old names, where the file's are not those of the network already."""
    state, own = eye.read(), network.state_dict()
    if any(name not in state or state[name].shape != own[name].shape for name in own):
        change = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
        if change is not None:
            try:
                with quiet():
                    state = dict(change(state, network))
            except Exception as error:  # of a library's own checks, which raise what they like
                raise _unfit(eye, config.architecture, first_line(error)) from error
    about: Any = getattr(network, "pretrained_cfg", None) or {}
    last = about.get("classifier") or ()
    heads = tuple(f"{name}." for name in ((last,) if isinstance(last, str) else last))
    tables = dict(network.named_buffers())
    known = {name: value for name, value in state.items() if name in own or name in tables}
    return known | {name: value for name, value in state.items() if _inside(name, network, heads)}


def _transformers_state(
    eye: PretrainedEye, config: TransformersConfig, drawn: nn.Module
) -> dict[str, Tensor]:
    """By transformers' own reading of old names and of names with a task's prefix."""
    made = made_of(config.config)
    with quiet():
        from transformers.utils import logging

        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            network, told = network_of(made).from_pretrained(
                None, config=made, state_dict=eye.read(), output_loading_info=True
            )
        except SadariError:
            raise
        except Exception as error:  # of a library's own checks, which raise what they like
            raise _unfit(eye, made.model_type, first_line(error)) from error
        finally:
            if shown:
                logging.enable_progress_bar()
    own = set(drawn.state_dict())
    missing = sorted(name for name in told["missing_keys"] if name in own and not name.endswith(UNUSED))
    if missing or told["mismatched_keys"]:
        raise _unfit(
            eye, made.model_type, f"{(missing or sorted(map(str, told['mismatched_keys'])))[0]} is absent"
        )
    prefix = f"{network.base_model_prefix}."
    other = sorted(name.removeprefix(prefix) for name in told["unexpected_keys"])
    tables = dict(drawn.named_buffers())
    other = [name for name in other if _inside(name, drawn, ("pooler.",)) and name not in tables]
    if other:
        raise _unfit(eye, made.model_type, f"{other[0]} has no place in it")
    return {name: value for name, value in network.state_dict().items() if name in own or name in tables}


def _inside(name: str, network: nn.Module, heads: tuple[str, ...]) -> bool:
    """Whether a foreign weight belongs to a part of the network, so that the file is of a larger one."""
    if name.startswith(heads) or name.endswith(UNUSED):
        return False
    return name.partition(".")[0] in network._modules


def _alike(found: Tensor, wanted: Tensor) -> bool:
    return found.shape == wanted.shape and torch.allclose(found.double(), wanted.double(), 1e-4, 1e-6)


def _unfit(eye: PretrainedEye, kind: str, why: str) -> SadariError:
    return SadariError(
        f"{eye.file}: its weights are not those of a {kind} of its settings ({why}); fetch it again"
    )

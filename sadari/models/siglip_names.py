"""What SigLIP's weights are called: Hugging Face's names, which are ours, and open_clip's.

Hugging Face                                    open_clip, whose image tower is timm's             as there
vision_model.embeddings.patch_embedding         visual.trunk.patch_embed.proj
vision_model.embeddings.position_embedding      visual.trunk.pos_embed                             (1, N, C)
vision_model.encoder.layers.N                   visual.trunk.blocks.N
  layer_norm1, layer_norm2                        norm1, norm2
  self_attn.{q,k,v}_proj                          attn.qkv                                         in one
  self_attn.out_proj, mlp.fc1, mlp.fc2            attn.proj, mlp.fc1, mlp.fc2
vision_model.post_layernorm                     visual.trunk.norm
vision_model.head.probe                         visual.trunk.attn_pool.latent
  .attention.in_proj_{weight,bias}                .q and .kv                                       in two
  .attention.out_proj, .layernorm, .mlp           .proj, .norm, .mlp
text_model.embeddings.*                         text.token_embedding, text.positional_embedding
text_model.encoder.layers.N                     text.transformer.resblocks.N, as CLIP's
text_model.final_layer_norm, text_model.head    text.ln_final, text.text_projection
logit_scale, logit_bias (1,)                    logit_scale, logit_bias ()
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sadari.errors import SadariError

Shape = tuple[int, int, int]
State = Mapping[str, Tensor]
THIRDS = ("q_proj", "k_proj", "v_proj")
POOL = "visual.trunk.attn_pool"
HEAD = "vision_model.head"
WHOLE = {  # beginnings, Hugging Face's -> open_clip's
    "logit_scale": "logit_scale",
    "logit_bias": "logit_bias",
    "vision_model.embeddings.patch_embedding": "visual.trunk.patch_embed.proj",
    "vision_model.embeddings.position_embedding.weight": "visual.trunk.pos_embed",
    "vision_model.post_layernorm": "visual.trunk.norm",
    f"{HEAD}.probe": f"{POOL}.latent",
    f"{HEAD}.attention.out_proj": f"{POOL}.proj",
    f"{HEAD}.layernorm": f"{POOL}.norm",
    f"{HEAD}.mlp": f"{POOL}.mlp",
    "text_model.embeddings.token_embedding": "text.token_embedding",
    "text_model.embeddings.position_embedding.weight": "text.positional_embedding",
    "text_model.final_layer_norm": "text.ln_final",
    "text_model.head": "text.text_projection",
}
VISION, TEXT = "vision_model.encoder.layers", "text_model.encoder.layers"
BLOCKS, RESBLOCKS = "visual.trunk.blocks", "text.transformer.resblocks"
IN_LAYER = {
    VISION: {
        "layer_norm1": "norm1",
        "self_attn.out_proj": "attn.proj",
        "layer_norm2": "norm2",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    },
    TEXT: {
        "layer_norm1": "ln_1",
        "self_attn.out_proj": "attn.out_proj",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    },
}
TOWERS = {VISION: BLOCKS, TEXT: RESBLOCKS}
THREE = {VISION: "attn.qkv.", TEXT: "attn.in_proj_"}  # open_clip's one matrix of three, before weight or bias


def import_huggingface(state: State) -> dict[str, Tensor]:
    """Weights of transformers' SiglipModel, without the places 0, 1, 2 that old files number."""
    return {name: value for name, value in state.items() if not name.endswith("position_ids")}


def import_open_clip(state: State) -> dict[str, Tensor]:
    """Weights of open_clip's SigLIP by Hugging Face's names. SadariError for a name that no SigLIP has."""
    whole = {new: old for old, new in WHOLE.items()}
    towers = {new: old for old, new in TOWERS.items()}
    found: dict[str, Tensor] = {}
    halves: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if part := re.fullmatch(re.escape(POOL) + r"\.(q|kv)\.(weight|bias)", name):
            halves.setdefault(f"{HEAD}.attention.in_proj_{part[2]}", {})[part[1]] = value
            continue
        if new := _beginning(name, whole):
            found[new] = _reshaped(new, value, outwards=False)
            continue
        tower, number, inside = _split(name, towers)
        if tower and inside.startswith(THREE[tower]):
            kind = inside.removeprefix(THREE[tower])
            for part_name, third in zip(THIRDS, value.chunk(3), strict=True):
                found[f"{tower}.{number}.self_attn.{part_name}.{kind}"] = third.contiguous()
            continue
        new = _beginning(inside, {theirs: ours for ours, theirs in IN_LAYER[tower].items()}) if tower else ""
        if not new:
            raise SadariError(f"{name}: no SigLIP has such a weight; give those of open_clip's SigLIP")
        found[f"{tower}.{number}.{new}"] = value
    for name, parts in halves.items():
        found[name] = _joined(name, parts, ("q", "kv"))
    return found


def export_open_clip(state: State) -> dict[str, Tensor]:
    """Weights by the names of open_clip's SigLIP, whose image tower is timm's."""
    found: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith(f"{HEAD}.attention.in_proj_"):
            kind, width = name.rsplit("_", 1)[1], len(value) // 3
            found[f"{POOL}.q.{kind}"] = value[:width].contiguous()
            found[f"{POOL}.kv.{kind}"] = value[width:].contiguous()
            continue
        if new := _beginning(name, WHOLE):
            found[new] = _reshaped(name, value, outwards=True)
            continue
        for tower, theirs in TOWERS.items():
            if place := re.match(re.escape(tower) + r"\.(\d+)\.", name):
                inside = name[place.end() :]
                if part := re.fullmatch(r"self_attn\.([qkv]_proj)\.(weight|bias)", inside):
                    whole = f"{theirs}.{place[1]}.{THREE[tower]}{part[2]}"
                    thirds.setdefault(whole, {})[part[1]] = value
                else:
                    found[f"{theirs}.{place[1]}.{_beginning(inside, IN_LAYER[tower])}"] = value
    for name, parts in thirds.items():
        found[name] = _joined(name, parts, THIRDS)
    return found


def imported(state: State) -> dict[str, Tensor]:
    """Weights of either by Hugging Face's names. SadariError where they are of no SigLIP."""
    if any(name.startswith("visual.trunk.") for name in state):
        return import_open_clip(state)
    if f"{HEAD}.probe" not in state:
        first = next(iter(state), "nothing")
        raise SadariError(
            f"the weights begin with {first!r} and have no pooling head, as SigLIP has; give those of "
            f"Hugging Face's SiglipModel or of open_clip's SigLIP, or read them as clip"
        )
    return import_huggingface(state)


def settings_of(state: State) -> tuple[dict[str, Any], Shape, int]:
    """What weights by the names here were made with, read from their shapes: the settings of a
    `SigLIPConfig`, the pictures (C, H, W), and the tokens of the vocabulary.

    Heads are 72 numbers wide in a width of 1152 (so400m), else 64, as in all of Google's. SadariError where
    a weight that tells is missing.
    """
    try:
        vocabulary, text_width = state["text_model.embeddings.token_embedding.weight"].shape
        width, channels, patch, _ = state["vision_model.embeddings.patch_embedding.weight"].shape
        side = patch * math.isqrt(len(state["vision_model.embeddings.position_embedding.weight"]))
        settings: dict[str, Any] = {
            "variant": "b16-224",
            "patch": patch,
            "width": width,
            "layers": _depth(state, VISION),
            "heads": _heads(width),
            "inner": len(state[f"{HEAD}.mlp.fc1.weight"]),
            "text_width": text_width,
            "text_layers": _depth(state, TEXT),
            "text_heads": _heads(text_width),
            "text_inner": len(state[f"{TEXT}.0.mlp.fc1.weight"]),
            "context": len(state["text_model.embeddings.position_embedding.weight"]),
            "contrast": "sigmoid" if "logit_bias" in state else "softmax",
        }
    except KeyError as error:
        raise SadariError(f"the weights hold no {error.args[0]!r}; they are of another model") from error
    return settings, (channels, side, side), vocabulary


def _heads(width: int) -> int:
    return max(width // (72 if width == 1152 else 64), 1)


def _depth(state: State, tower: str) -> int:
    """Layers of a tower: one more than its highest number."""
    numbers = [int(name[len(tower) + 1 :].split(".")[0]) for name in state if name.startswith(f"{tower}.")]
    return max(numbers, default=-1) + 1


def _reshaped(name: str, value: Tensor, outwards: bool) -> Tensor:
    """Positions, the scale and the bias have an axis more or less; `name` is Hugging Face's."""
    if name.startswith("logit_"):
        return value.reshape(()) if outwards else value.reshape(1)
    if name == "vision_model.embeddings.position_embedding.weight":
        return value.unsqueeze(0) if outwards else value.reshape(-1, value.shape[-1])
    return value


def _joined(name: str, parts: Mapping[str, Tensor], order: tuple[str, ...]) -> Tensor:
    if missing := [part for part in order if part not in parts]:
        raise SadariError(f"{name} lacks its {missing[0]}; the file is cut short, fetch it again")
    return torch.cat([parts[part] for part in order])


def _split(name: str, towers: Mapping[str, str]) -> tuple[str, str, str]:
    """A layer's name as the tower's new one, the layer's number, and what stands behind; empty if none."""
    for old, new in towers.items():
        if place := re.match(re.escape(old) + r"\.(\d+)\.", name):
            return new, place[1], name[place.end() :]
    return "", "", name


def _beginning(name: str, names: Mapping[str, str]) -> str:
    """With its beginning by the table; empty where the table has none."""
    for old, new in names.items():
        if name == old or name.startswith(f"{old}."):
            return new + name[len(old) :]
    return ""

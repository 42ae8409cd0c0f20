"""What a Vision Transformer's weights are called: torchvision's names, which are ours, and Hugging Face's.

Plain renames, but for queries, keys and values: three matrices there, one here. Hugging Face's files keep the
names of transformers 4; its modules since 5 have others. Both are read, and the files' are written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from sadari.errors import SadariError

LAYER = "encoder.layers.encoder_layer_"
THIRDS = ("query", "key", "value")
OUTSIDE = {  # Hugging Face's files -> torchvision
    "embeddings.cls_token": "class_token",
    "embeddings.position_embeddings": "encoder.pos_embedding",
    "embeddings.patch_embeddings.projection": "conv_proj",
    "layernorm": "encoder.ln",
    "classifier": "heads.head",
}
IN_LAYER = {
    "layernorm_before": "ln_1",
    "attention.output.dense": "self_attention.out_proj",
    "layernorm_after": "ln_2",
    "intermediate.dense": "mlp.0",
    "output.dense": "mlp.3",
}
MODULES = {  # names of the modules in transformers 5 -> those of the files
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def import_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of torchvision's VisionTransformer by the names here: old files say `mlp.linear_1`."""
    names = {"mlp.linear_1": "mlp.0", "mlp.linear_2": "mlp.3"}
    return {_replaced(name, names): value for name, value in state.items()}


def import_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of Hugging Face's ViT, as its files or its modules name them, by the names here.

    Queries, keys and values, three matrices there, become one. SadariError for a name that no ViT has, and
    where one of the three is absent.
    """
    found: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        short = _replaced(name.removeprefix("vit."), MODULES)
        if short.startswith("pooler."):  # of pre-training, not of the classifier
            continue
        if place := re.fullmatch(r"encoder\.layer\.(\d+)\.attention\.attention\.(\w+)\.(weight|bias)", short):
            layer, part, kind = place.groups()
            thirds.setdefault(f"{LAYER}{layer}.self_attention.in_proj_{kind}", {})[part] = value
            continue
        if place := re.match(r"encoder\.layer\.(\d+)\.", short):
            inside = _renamed(short[place.end() :], IN_LAYER)
            new = inside and f"{LAYER}{place[1]}.{inside}"
        else:
            new = _renamed(short, OUTSIDE)
        if not new:
            raise SadariError(
                f"{name}: no ViT has such a weight; give the weights of ViTForImageClassification"
            )
        found[new] = value
    for name, parts in thirds.items():
        if missing := [part for part in THIRDS if part not in parts]:
            raise SadariError(f"{name} lacks its {missing[0]}; the file is cut short, fetch it again")
        found[name] = torch.cat([parts[part] for part in THIRDS])
    return found


def export_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a `ViT` with a class token by the names of Hugging Face's ViTForImageClassification.

    SadariError for a model with another pooling, which that has not.
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith("pooling."):
            raise SadariError("pooling 'map': Hugging Face's ViT has only a class token; fit pooling=class")
        if not name.startswith(LAYER):
            new = _renamed(name, {ours: theirs for theirs, ours in OUTSIDE.items()})
            found[new if new.startswith("classifier") else f"vit.{new}"] = value
            continue
        number, inside = name.removeprefix(LAYER).split(".", 1)
        place = f"vit.encoder.layer.{number}"
        if inside.startswith("self_attention.in_proj_"):
            kind = inside.rsplit("_", 1)[1]
            for part, third in zip(THIRDS, value.chunk(3), strict=True):
                found[f"{place}.attention.attention.{part}.{kind}"] = third.contiguous()
        else:
            inside = _renamed(inside, {ours: theirs for theirs, ours in IN_LAYER.items()})
            found[f"{place}.{inside}"] = value
    return found


def _replaced(name: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        name = name.replace(f".{old}.", f".{new}.")
    return f"encoder.layer.{name.removeprefix('layers.')}" if re.match(r"layers\.\d", name) else name


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """With its beginning by the table; empty where the table has none."""
    for old, new in names.items():
        if name == old or name.startswith(f"{old}."):
            return new + name[len(old) :]
    return ""

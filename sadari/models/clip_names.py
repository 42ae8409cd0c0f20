"""What CLIP's weights are called: OpenAI's names, which are ours, Hugging Face's, and open_clip's.

    OpenAI                                  Hugging Face                                      as there
    visual.conv1                            vision_model.embeddings.patch_embedding
    visual.class_embedding                  vision_model.embeddings.class_embedding
    visual.positional_embedding             vision_model.embeddings.position_embedding.weight
    visual.ln_pre, visual.ln_post           vision_model.pre_layrnorm, .post_layernorm
    visual.proj                             visual_projection.weight                          turned
    token_embedding, positional_embedding   text_model.embeddings.*
    ln_final                                text_model.final_layer_norm
    text_projection                         text_projection.weight                            turned
    (visual.)transformer.resblocks.N        vision_model or text_model .encoder.layers.N
      ln_1, ln_2, mlp.c_fc, mlp.c_proj        layer_norm1, layer_norm2, mlp.fc1, mlp.fc2
      attn.in_proj_{weight,bias}              self_attn.{q,k,v}_proj.{weight,bias}            in three parts
      attn.out_proj                           self_attn.out_proj

open_clip calls its own CLIP's weights as OpenAI does; with a text tower that stands apart (its
`CustomTextCLIP`), a `text.` goes before the text's. Only OpenAI's names know a ResNet.
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
WHOLE = {  # Hugging Face's -> OpenAI's
    "logit_scale": "logit_scale",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "visual_projection.weight": "visual.proj",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "text_projection.weight": "text_projection",
}
TURNED = {"visual.proj", "text_projection"}  # (width, D) with OpenAI, who multiplies from the right
IN_LAYER = {
    "layer_norm1": "ln_1",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
TOWERS = {"vision_model.encoder.layers": "visual.transformer.resblocks"}
TOWERS["text_model.encoder.layers"] = "transformer.resblocks"
RESNETS = {  # blocks of each stage (2103.00020, table 19)
    "rn50": (3, 4, 6, 3),
    "rn101": (3, 4, 23, 3),
    "rn50x4": (4, 6, 10, 6),
}
FACTS = {"input_resolution", "context_length", "vocab_size"}  # beside the weights in OpenAI's files
TEXT = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")


def import_openai(state: State) -> dict[str, Tensor]:
    """Weights of OpenAI's files, half precision as they come, without the three facts beside them."""
    return {name: value for name, value in state.items() if name not in FACTS}


def import_open_clip(state: State) -> dict[str, Tensor]:
    """Weights of open_clip's CLIP or CustomTextCLIP by OpenAI's names; the causal mask, no weight, is left.

    SadariError where the image tower is one of timm's, which is no CLIP of OpenAI's.
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith("visual.trunk."):
            raise SadariError(f"{name}: the image tower is timm's; read open_clip's SigLIP as siglip")
        short = name.removeprefix("text.")
        if short != "attn_mask" and short not in FACTS:
            found[short] = value
    return found


def export_open_clip(state: State, apart: bool = False) -> dict[str, Tensor]:
    """Weights by open_clip's names; `apart` for its CustomTextCLIP, whose text tower stands apart."""
    if not apart:
        return dict(state)
    return {f"text.{name}" if name.split(".")[0] in TEXT else name: value for name, value in state.items()}


def import_huggingface(state: State) -> dict[str, Tensor]:
    """Weights of transformers' CLIPModel by OpenAI's names. Queries, keys and values become one matrix.

    SadariError for a name that no CLIP has, and where one of the three is absent.
    """
    found: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.endswith("position_ids"):  # 0, 1, 2, and so on, in old files
            continue
        if new := WHOLE.get(name):
            found[new] = value.T.contiguous() if new in TURNED else value
            continue
        tower, number, inside = _split(name, TOWERS)
        if tower and (part := re.fullmatch(r"self_attn\.([qkv]_proj)\.(weight|bias)", inside)):
            thirds.setdefault(f"{tower}.{number}.attn.in_proj_{part[2]}", {})[part[1]] = value
            continue
        owner, _, kind = inside.rpartition(".")
        if not tower or owner not in IN_LAYER:
            raise SadariError(f"{name}: no CLIP has such a weight; give those of transformers' CLIPModel")
        found[f"{tower}.{number}.{IN_LAYER[owner]}.{kind}"] = value
    for name, parts in thirds.items():
        if missing := [part for part in THIRDS if part not in parts]:
            raise SadariError(f"{name} lacks its {missing[0]}; the file is cut short, fetch it again")
        found[name] = torch.cat([parts[part] for part in THIRDS])
    return found


def export_huggingface(state: State) -> dict[str, Tensor]:
    """Weights by the names of transformers' CLIPModel, which knows no ResNet and no bias: SadariError."""
    if "logit_bias" in state:
        raise SadariError("logit_bias: Hugging Face's CLIP knows only the softmax loss; fit contrast=softmax")
    if "visual.class_embedding" not in state:
        raise SadariError("Hugging Face's CLIP has no ResNet for pictures; fit variant=vit-b32, or another")
    whole, layer, towers = _turned(WHOLE), _turned(IN_LAYER), _turned(TOWERS)
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if name in whole:
            found[whole[name]] = value.T.contiguous() if name in TURNED else value
            continue
        tower, number, inside = _split(name, towers)
        if inside.startswith("attn.in_proj_"):
            kind = inside.removeprefix("attn.in_proj_")
            for part, third in zip(THIRDS, value.chunk(3), strict=True):
                found[f"{tower}.{number}.self_attn.{part}.{kind}"] = third.contiguous()
        else:
            owner, kind = inside.rsplit(".", 1)
            found[f"{tower}.{number}.{layer[owner]}.{kind}"] = value
    return found


def imported(state: State) -> dict[str, Tensor]:
    """Weights of any of the three by OpenAI's names. SadariError where they are of no CLIP."""
    if any(name.startswith(("vision_model.", "text_model.")) for name in state):
        return import_huggingface(state)
    if not any(name.startswith("visual.") for name in state):
        first = next(iter(state), "nothing")
        raise SadariError(
            f"the weights begin with {first!r}, which is no CLIP's; give those of OpenAI's, Hugging Face's "
            f"or open_clip's"
        )
    return import_open_clip(state)


def settings_of(state: State) -> tuple[dict[str, Any], Shape, int]:
    """What weights by OpenAI's names were made with, read from their shapes: the settings of a `CLIPConfig`,
    the pictures (C, H, W), and the tokens of the vocabulary.

    Heads are 64 numbers wide, as in all of OpenAI's. The shapes do not tell which gelu the layers have, nor
    the end's token. SadariError where a weight that tells is missing.
    """
    try:
        vocabulary, text_width = state["token_embedding.weight"].shape
        settings: dict[str, Any] = {
            "text_width": text_width,
            "text_layers": _depth(state, "transformer.resblocks"),
            "text_heads": max(text_width // 64, 1),
            "context": len(state["positional_embedding"]),
            "dimension": state["text_projection"].shape[1],
            "contrast": "sigmoid" if "logit_bias" in state else "softmax",
        }
        first = state["visual.conv1.weight"]
        if "visual.proj" in state:
            width, channels, patch, _ = first.shape
            side = patch * math.isqrt(len(state["visual.positional_embedding"]) - 1)
            settings |= {"variant": "vit-b32", "patch": patch, "width": width, "heads": max(width // 64, 1)}
            settings["layers"] = _depth(state, "visual.transformer.resblocks")
        else:
            channels = first.shape[1]
            side = 32 * math.isqrt(len(state["visual.attnpool.positional_embedding"]) - 1)
            depths = tuple(_depth(state, f"visual.layer{stage}") for stage in (1, 2, 3, 4))
            names = {blocks: name for name, blocks in RESNETS.items()}
            if depths not in names:
                raise SadariError(f"a ResNet of {depths} blocks is unknown; known: {', '.join(RESNETS)}")
            settings |= {"variant": names[depths], "width": 2 * len(first), "heads": len(first)}
    except KeyError as error:
        raise SadariError(f"the weights hold no {error.args[0]!r}; they are of another model") from error
    return settings, (channels, side, side), vocabulary


def _depth(state: State, tower: str) -> int:
    """Layers of a tower: one more than its highest number."""
    numbers = [int(name[len(tower) + 1 :].split(".")[0]) for name in state if name.startswith(f"{tower}.")]
    return max(numbers, default=-1) + 1


def _split(name: str, towers: Mapping[str, str]) -> tuple[str, str, str]:
    """A layer's name as the tower's new one, the layer's number, and what stands behind; empty if none."""
    for old, new in towers.items():
        if place := re.match(re.escape(old) + r"\.(\d+)\.", name):
            return new, place[1], name[place.end() :]
    return "", "", name


def _turned(names: Mapping[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}

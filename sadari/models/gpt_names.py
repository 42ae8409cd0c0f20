"""What a GPT's weights and settings are called in the reference code: GPT-2's names, and Llama's.

Both layouts are those of Hugging Face's transformers. A reader takes the content of config.json, and tensors
by name; it gives the fields of a `GPTConfig` and a GPT's `state_dict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sadari.errors import SadariError
from sadari.reference import Source, refuse

# The bend of Llama 3.1's longer context: waves longer than 8192 tokens are stretched, those that turn four
# times or more within them are not, those between in part.
STRETCHED_FROM, SLOW, FAST = 8192, 1.0, 4.0


def read_gpt2(
    settings: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """transformers' GPT2LMHeadModel: its weights are (in, out), as those of a convolution."""
    refuse(
        settings,
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        add_cross_attention=False,
    )
    activations = {"gelu_new": "gelu_new", "gelu_pytorch_tanh": "gelu_new", "gelu": "gelu"}
    activation = settings.get("activation_function", "gelu_new")
    if activation not in activations:
        raise SadariError(f"activation_function={activation!r} in config.json: only GELU is done here")
    take = Source(tensors, "transformer.")
    fields: dict[str, Any] = dict(
        layers=settings["n_layer"],
        width=settings["n_embd"],
        heads=settings["n_head"],
        inner=settings.get("n_inner") or 0,
        context=settings.get("n_positions", 1024),
        activation=activations[activation],
        tied=settings.get("tie_word_embeddings", True),
        epsilon=settings.get("layer_norm_epsilon", 1e-5),
    )
    state = {"positions.weight": take("wpe.weight")}
    for part in ("weight", "bias"):
        state[f"norm.{part}"] = take(f"ln_f.{part}")
        for i in range(fields["layers"]):
            for ours, theirs in (("norm1", "ln_1"), ("norm2", "ln_2")):
                state[f"blocks.{i}.{ours}.{part}"] = take(f"h.{i}.{theirs}.{part}")
            for ours, theirs in (
                ("attention.qkv", "attn.c_attn"),
                ("attention.out", "attn.c_proj"),
                ("feed.up", "mlp.c_fc"),
                ("feed.down", "mlp.c_proj"),
            ):
                state[f"blocks.{i}.{ours}.{part}"] = take(f"h.{i}.{theirs}.{part}").t().contiguous()
    return fields, state | _vocabulary(take, "wte.weight", fields["tied"])


def read_llama(
    settings: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """transformers' LlamaForCausalLM: pairs are half a head apart, as `gpt.rotate` turns them."""
    width, heads = settings["hidden_size"], settings["num_attention_heads"]
    refuse(settings, hidden_act="silu", attention_bias=False, mlp_bias=False, head_dim=width // heads)
    base, stretch = _rotary(settings)
    take = Source(tensors, "model.")
    fields: dict[str, Any] = dict(
        layers=settings["num_hidden_layers"],
        width=width,
        heads=heads,
        kv_heads=settings.get("num_key_value_heads") or 0,
        inner=settings["intermediate_size"],
        context=settings.get("max_position_embeddings", 2048),
        positions="rotary",
        norm="rmsnorm",
        activation="swiglu",
        bias=False,
        tied=settings.get("tie_word_embeddings", False),
        epsilon=settings.get("rms_norm_eps", 1e-6),
        rotary_base=base,
        stretch=stretch,
    )
    state = {"norm.weight": take("norm.weight")}
    for i in range(fields["layers"]):
        q, k, v = (take(f"layers.{i}.self_attn.{part}_proj.weight") for part in "qkv")
        gate, up = (take(f"layers.{i}.mlp.{part}_proj.weight") for part in ("gate", "up"))
        state |= {
            f"blocks.{i}.norm1.weight": take(f"layers.{i}.input_layernorm.weight"),
            f"blocks.{i}.norm2.weight": take(f"layers.{i}.post_attention_layernorm.weight"),
            f"blocks.{i}.attention.qkv.weight": torch.cat((q, k, v)),
            f"blocks.{i}.attention.out.weight": take(f"layers.{i}.self_attn.o_proj.weight"),
            f"blocks.{i}.feed.up.weight": torch.cat((gate, up)),
            f"blocks.{i}.feed.down.weight": take(f"layers.{i}.mlp.down_proj.weight"),
        }
    return fields, state | _vocabulary(take, "embed_tokens.weight", fields["tied"])


def _rotary(settings: Mapping[str, Any]) -> tuple[float, float]:
    """Base and stretch, from the older two entries of config.json or the newer single one."""
    told = settings.get("rope_parameters") or {}
    scaling = told or settings.get("rope_scaling") or {}
    base = float(told.get("rope_theta") or settings.get("rope_theta") or 10000.0)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return base, 1.0
    usual = {"low_freq_factor": SLOW, "high_freq_factor": FAST,
             "original_max_position_embeddings": STRETCHED_FROM}  # fmt: skip
    if kind != "llama3" or any(scaling.get(name, value) != value for name, value in usual.items()):
        raise SadariError(
            f"rotary positions {dict(scaling)} in config.json: only 'default', and 'llama3' from a context "
            f"of {STRETCHED_FROM}, are done here"
        )
    return base, float(scaling["factor"])


def _vocabulary(take: Source, name: str, tied: bool) -> dict[str, Tensor]:
    table = take(name)
    if tied:
        return {"head.weight": table}
    return {"embedding.weight": table, "head.weight": take("lm_head.weight", inside=False)}


READERS = {"gpt2": read_gpt2, "llama": read_llama}

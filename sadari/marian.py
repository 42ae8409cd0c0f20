"""Marian's layout, as Hugging Face's transformers has it: read for a `Translator`, and written from one.

config.json               the sizes, and the numbers of the tokens that begin, end and fill up a text
generation_config.json    how to decode, and what is never written
model.safetensors         the weights
tokenizer.json            how text becomes its tokens and back; written where both sides share one

A folder that `to_marian` wrote is opened by transformers' MarianMTModel and AutoTokenizer, and turned by
CTranslate2's ct2-transformers-converter. A Translator with `norm_first` has the layout of Pegasus (Zhang
2019, 1912.08777), which is Marian's but for where its norms stand; so has a folder that is read, if it says
so. Our tokens keep their numbers there, and

    END                  is eos_token_id, the last token of a source, as here
    START                is Marian's pad, which begins a target there: a row of its own, number V behind our
                         tokens, unless START is the last token already
    PAD (-1)             is that same number; the mask of attention tells which are meant
    START's own number   stays, and is never written (generation_config.json)

CTranslate2 begins from a zero vector whatever Marian's pad holds, as Marian itself does, and as a Translator
does with `begin="zero"`. With `begin="word"` the row holds START's vector: transformers agrees, CTranslate2
not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import Tensor

from sadari.errors import SadariError
from sadari.files import write_atomic, write_json
from sadari.reference import Source, opened, refuse, whole

if TYPE_CHECKING:
    from sadari.data.spec_pairs import PairSpec
    from sadari.models.translator import Translator

ACTIVATIONS = {"relu": "relu", "swish": "swish", "silu": "swish", "gelu": "gelu"}
LAYERS, SIZES = 1000, 10_000_000  # the largest that are believed
PLACES = 1024  # rows of waves that transformers makes; a longer text is an error there
NEVER = -10_000.0  # the logit of the row that is only there to begin with; a number of float16 too
PAD_TOKEN = "<pad>"
KINDS = {"marian": "MarianMTModel", "pegasus": "PegasusForConditionalGeneration"}
LAST = {"encoder_norm": "encoder", "norm": "decoder"}  # our norm behind all layers, where norms stand first


@dataclass(frozen=True)
class Marian:
    """What a folder or a state says, in our names."""

    config: dict[str, Any]
    """Fields of a `TranslatorConfig`."""
    state: dict[str, Tensor]
    """A Translator's `state_dict`."""
    inputs: int
    """Source tokens."""
    outputs: int
    """Target tokens."""
    start: int
    """The number of the token that begins a target."""
    end: int
    """The number of the token that ends a text."""


def read_marian(
    source: str | Path | Mapping[str, Tensor], settings: Mapping[str, Any] | None = None
) -> Marian:
    """What a folder in the hub's layout, or MarianMTModel's `state_dict()` with its settings, holds.

    SadariError where a tensor or a setting is missing, or is what a Translator does not do. Dropout inside
    attention and behind the activation, which Marian has and a Translator has not, is left out: it changes
    no answer of trained weights.
    """
    tensors, settings = opened(source, settings)
    config = _config(settings)
    take = Source(tensors, "model.")
    state = _vocabularies(take, config)
    for ours, theirs, count in (("encoder", "encoder", config["layers"]),
                                ("layers", "decoder", config["decoder_layers"])):  # fmt: skip
        _check_places(take, theirs, config["width"])
        for i in range(count):
            for name, parts in _parts(theirs == "decoder").items():
                for kind in ("weight", "bias"):
                    found = [take(f"{theirs}.layers.{i}.{part}.{kind}") for part in parts]
                    state[f"{ours}.{i}.{name}.{kind}"] = found[0] if len(found) == 1 else _joined(found)
    for ours, theirs in LAST.items() if config["norm_first"] else ():
        for kind in ("weight", "bias"):
            state[f"{ours}.{kind}"] = take(f"{theirs}.layer_norm.{kind}")
    outputs = len(state["embedding.weight"])
    inputs = outputs if config["share"] else len(state["source_embedding.weight"])
    pad = whole(settings, "pad_token_id", SIZES, 0)
    start = pad if settings.get("decoder_start_token_id") is None else settings["decoder_start_token_id"]
    end = whole(settings, "eos_token_id", SIZES, 0)
    for name, number in (("decoder_start_token_id", start), ("eos_token_id", end)):
        if not isinstance(number, int) or not 0 <= number < outputs:
            raise SadariError(
                f"{name}={number!r} in config.json: the weights have tokens 0 to {outputs - 1}; "
                f"config.json belongs to other weights"
            )
    return Marian(config, state, inputs, outputs, start, end)


def _config(settings: Mapping[str, Any]) -> dict[str, Any]:
    kind = settings.get("model_type", "marian")
    if kind not in KINDS:
        raise SadariError(f"model_type={kind!r} in config.json: only {' and '.join(KINDS)} are read here")
    first = kind == "pegasus"
    activation = settings.get("activation_function", "gelu")
    if activation not in ACTIVATIONS:
        raise SadariError(
            f"activation_function={activation!r} in config.json: only {', '.join(ACTIVATIONS)} are done here"
        )
    refuse(
        settings,
        decoder_ffn_dim=settings.get("encoder_ffn_dim"),
        decoder_attention_heads=settings.get("encoder_attention_heads"),
        normalize_before=first,
        normalize_embedding=False,
        add_final_layer_norm=first,
        static_position_embeddings=True,
    )
    dropout = settings.get("dropout", 0.1)
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise SadariError(f"dropout={dropout!r} in config.json: a share in [0, 1) is needed; fetch it again")
    return {
        "layers": whole(settings, "encoder_layers", LAYERS),
        "decoder_layers": whole(settings, "decoder_layers", LAYERS),
        "width": whole(settings, "d_model", SIZES),
        "heads": whole(settings, "encoder_attention_heads", SIZES),
        "inner": whole(settings, "encoder_ffn_dim", SIZES),
        "activation": ACTIVATIONS[activation],
        "norm_first": first,
        "positions": "halves",
        "begin": "word",
        "scaled": bool(settings.get("scale_embedding", False)),
        "share": bool(settings.get("share_encoder_decoder_embeddings", True)),
        "tied": bool(settings.get("tie_word_embeddings", True)),
        "bias": True,
        "dropout": float(dropout),
    }


def _vocabularies(take: Source, config: dict[str, Any]) -> dict[str, Tensor]:
    """The tables and the bias. Where the file says that sides share a table and yet is not tied, transformers
    makes two: `share` is then what the tensors say."""
    target = take.first("decoder.embed_tokens.weight", "shared.weight")
    source = take.first("encoder.embed_tokens.weight", "shared.weight")
    if config["share"] and not config["tied"]:
        config["share"] = target.shape == source.shape and torch.equal(target, source)
    state = {"embedding.weight": target}
    if not config["share"]:
        state["source_embedding.weight"] = source
    state["head.weight"] = target if config["tied"] else take("lm_head.weight", inside=False)
    bias = take.tensors.get("final_logits_bias")
    state["head.bias"] = target.new_zeros(len(state["head.weight"])) if bias is None else bias.reshape(-1)
    if config["tied"]:
        del state["head.weight"]
    return state


def _parts(decoder: bool) -> dict[str, tuple[str, ...]]:
    """Our parts of a layer -> theirs, of which those beside one another are stacked in one matrix of ours."""
    parts = {
        "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attention.out": ("self_attn.out_proj",),
        "norm1": ("self_attn_layer_norm",),
        "feed.up": ("fc1",),
        "feed.down": ("fc2",),
        "norm3": ("final_layer_norm",),
    }
    if decoder:
        parts |= {
            "cross.query": ("encoder_attn.q_proj",),
            "cross.kv": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
            "cross.out": ("encoder_attn.out_proj",),
            "norm2": ("encoder_attn_layer_norm",),
        }
    return parts


def _joined(parts: list[Tensor]) -> Tensor:
    """Matrices one below the other; SadariError where they do not fit together."""
    if len({part.shape for part in parts}) > 1:
        shapes = ", ".join(str(tuple(part.shape)) for part in parts)
        raise SadariError(f"projections of one attention have the shapes {shapes}; fetch the weights again")
    return torch.cat(parts)


def _check_places(take: Source, side: str, width: int) -> None:
    """Places are reckoned, not read; SadariError where a file holds others than Marian's waves."""
    from sadari.models.translator import waves

    table = take.tensors.get(f"{take.prefix}{side}.embed_positions.weight")
    if table is not None and not (
        table.shape[1:] == (width,) and torch.allclose(table.float(), waves(len(table), width), atol=2e-3)
    ):
        raise SadariError(f"{side}.embed_positions are other waves than Marian's; only those are done here")


def to_marian(
    model: Translator, folder: str | Path, spec: PairSpec | None = None, start: int = 1, end: int = 2
) -> list[str]:
    """Write a Translator as a folder that MarianMTModel.from_pretrained opens; the names of the files.

    spec         a PairSpec: its START and END, and, where both sides share a tokenizer, tokenizer.json too
    start, end   their numbers where there is no spec; the defaults are those of our own tokenizers

    Its tables have a row more than the model's, and as many on both sides: see the top of this file. Raises
    SadariError for a model that Marian's layout has no place for.
    """
    config, folder = model.config, Path(folder)
    if config.positions != "halves":
        raise SadariError(
            f"positions={config.positions!r} has no place in Marian's layout; train with positions='halves'"
        )
    if config.norm_first and not config.share:
        raise SadariError(
            "norms that stand first have a layout with one vocabulary for both sides only; fit without "
            "--separate, or with norm_first=False"
        )
    kind = "pegasus" if config.norm_first else "marian"
    if spec is not None:
        start, end = spec.start, spec.end
    outputs, inputs = len(model.embedding.weight), len((model.source_embedding or model.embedding).weight)
    for name, number in (("start", start), ("end", end)):
        if not 0 <= number < outputs:
            raise SadariError(f"{name} {number}: the target has tokens 0 to {outputs - 1}; give its number")
    whole_already = config.begin == "word" and start == outputs - 1 and inputs == outputs
    size = max(inputs, outputs) + (not whole_already)
    pad = size - 1
    settings = {
        "architectures": [KINDS[kind]],
        "model_type": kind,
        "vocab_size": size,
        "decoder_vocab_size": size,
        "d_model": config.width,
        "encoder_layers": config.layers,
        "decoder_layers": config.depth,
        "encoder_attention_heads": config.heads,
        "decoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.units,
        "decoder_ffn_dim": config.units,
        "activation_function": config.activation,
        "dropout": config.dropout,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "max_position_embeddings": PLACES,
        "static_position_embeddings": True,
        "scale_embedding": config.scaled,
        "normalize_before": config.norm_first,
        "normalize_embedding": False,
        "add_final_layer_norm": config.norm_first,
        "share_encoder_decoder_embeddings": config.share,
        "tie_word_embeddings": config.tied,
        "is_encoder_decoder": True,
        "dtype": str(model.embedding.weight.dtype).removeprefix("torch."),
    }
    numbers = {
        "decoder_start_token_id": pad,
        "pad_token_id": pad,
        "eos_token_id": end,
        "forced_eos_token_id": end,
    }
    decoding = {**numbers, "bad_words_ids": [[n] for n in sorted({start, pad})], "max_length": PLACES // 2}
    weights = save(_tensors(model, size, start), metadata={"format": "pt"})
    written = {"config.json": {**settings, **numbers}, "generation_config.json": decoding}
    if spec is not None and spec.shared:
        written |= _tokenizer(spec, pad)
    for name, content in written.items():
        write_json(folder / name, content)
    write_atomic(folder / "model.safetensors", weights)
    return [*written, "model.safetensors"]


@torch.no_grad()
def _tensors(model: Translator, size: int, start: int) -> dict[str, Tensor]:
    """The weights by Marian's names, the tables with `size` rows."""
    from sadari.models.translator import waves

    config, state = model.config, model.state_dict()
    target = state["embedding.weight"]
    source = target if config.share else state["source_embedding.weight"]
    bias = state["head.bias"] if config.bias else target.new_zeros(len(target))
    begin = target[start] if config.begin == "word" else torch.zeros_like(target[start])

    def longer(table: Tensor, last: Tensor) -> Tensor:
        if len(table) == size:
            return table.clone()
        return torch.cat((table, table.new_zeros(size - 1 - len(table), table.shape[1]), last[None]))

    target, source = longer(target, begin), longer(source, torch.zeros_like(begin))
    more = bias.new_full((size - len(bias),), NEVER)
    tensors = {"final_logits_bias": torch.cat((bias, more))[None]}
    if config.share:
        tensors["model.shared.weight"] = target
    if not (config.share and config.tied):
        tensors["model.decoder.embed_tokens.weight"] = target.clone()
        tensors["model.encoder.embed_tokens.weight"] = target.clone() if config.share else source
    if not config.tied:
        tensors["lm_head.weight"] = longer(state["head.weight"], torch.zeros_like(begin))
    for ours, theirs, count in (("encoder", "encoder", config.layers), ("layers", "decoder", config.depth)):
        for i in range(count):
            for name, parts in _parts(theirs == "decoder").items():
                for kind in ("weight", "bias"):
                    pieces = state[f"{ours}.{i}.{name}.{kind}"].chunk(len(parts))
                    for part, piece in zip(parts, pieces, strict=True):
                        tensors[f"model.{theirs}.layers.{i}.{part}.{kind}"] = piece.clone()
    for ours, theirs in LAST.items() if config.norm_first else ():
        for kind in ("weight", "bias"):
            tensors[f"model.{theirs}.layer_norm.{kind}"] = state[f"{ours}.{kind}"].clone()
        # transformers reckons Marian's waves by itself, and says of Pegasus' that they are missing
        tensors[f"model.{theirs}.embed_positions.weight"] = waves(PLACES, config.width).to(target.dtype)
    return {name: value.cpu().contiguous() for name, value in tensors.items()}


def _tokenizer(spec: PairSpec, pad: int) -> dict[str, Any]:
    """tokenizer.json with END behind each text and a token to fill up with; none where it has no place."""
    import tokenizers

    library = tokenizers.Tokenizer.from_str(spec.tokenizer.to_json())
    end, unknown = library.id_to_token(spec.end), spec.tokenizer.unknown
    if library.token_to_id(PAD_TOKEN) is not None:
        return {}
    library.add_special_tokens([PAD_TOKEN])
    if library.token_to_id(PAD_TOKEN) != pad:
        return {}
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single=["$A", end], pair=["$A", "$B", end], special_tokens=[(end, spec.end)]
    )
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": PLACES // 2,
        "pad_token": PAD_TOKEN,
        "eos_token": end,
        "unk_token": None if unknown is None else library.id_to_token(unknown),
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # a text that says <|end|> means the letters
    }
    return {"tokenizer.json": json.loads(library.to_str()), "tokenizer_config.json": settings}

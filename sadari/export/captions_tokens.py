"""The tokenizer of a run of captions as others read it, and the token by which a CLIP finds a caption's end.

Where a caption is read, a CLIP finds by its tokens: open_clip, as OpenAI, at the highest number; transformers
at the first `eos_token_id`, but where that is 2, at the highest too. Ours is often 2, and no highest. So END
changes places with the last token of the vocabulary, in the tokenizer and in the table of vectors, and all of
them find it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sadari.data.spec_captions import CaptionSpec
from sadari.models.clip import CLIP, HIGHEST

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True)
class Moved:
    """A CLIP and its tokenizer, with the token that ends a caption as the highest number."""

    state: dict[str, Tensor]
    """By OpenAI's names, which are ours."""
    tokenizer: tokenizers.Tokenizer
    end: int


def highest_end(spec: CaptionSpec, model: CLIP) -> Moved:
    """END and the last token of the vocabulary, each in the other's place; what was so already stays."""
    state, library, last = dict(model.state_dict()), shipped(spec), model.vocabulary - 1
    end = spec.end if model.config.end < 0 else model.config.end
    if model.config.end == HIGHEST or end == last:
        return Moved(state, library, end)
    table = state["token_embedding.weight"].clone()
    table[[end, last]] = table[[last, end]]
    return Moved({**state, "token_embedding.weight": table}, exchanged(library, end, last), last)


def shipped(spec: CaptionSpec) -> tokenizers.Tokenizer:
    """The run's tokenizer as it reads a caption by itself: NFC, START and END, no longer than `length`."""
    import tokenizers
    from tokenizers import normalizers, processors

    own = spec.tokenizer
    library = tokenizers.Tokenizer.from_str(own.to_json())
    if own.kind == "given":
        nfc = normalizers.NFC()
        there = library.normalizer
        library.normalizer = nfc if there is None else normalizers.Sequence([nfc, there])
    if own.kind != "given" or library.post_processor is None:
        start, end = (library.id_to_token(id) for id in (own.start, own.end))
        library.post_processor = processors.TemplateProcessing(
            single=[start, "$A", end], special_tokens=[*{start: own.start, end: own.end}.items()]
        )
    library.enable_truncation(spec.length)
    return library


def exchanged(library: tokenizers.Tokenizer, one: int, other: int) -> tokenizers.Tokenizer:
    """The tokenizer with the numbers of two tokens exchanged."""
    import tokenizers

    content = json.loads(library.to_str())
    new, model = {one: other, other: one}, content["model"]
    if isinstance(model["vocab"], list):  # of `unigram`, where a token's place is its number
        pieces = model["vocab"]
        pieces[one], pieces[other] = pieces[other], pieces[one]
        model["unk_id"] = new.get(model["unk_id"], model["unk_id"])
    else:
        model["vocab"] = {token: new.get(id, id) for token, id in model["vocab"].items()}
    for token in content["added_tokens"]:
        token["id"] = new.get(token["id"], token["id"])
    content["added_tokens"].sort(key=lambda token: token["id"])
    content["post_processor"] = _renumbered(content["post_processor"], new)
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def tokenizer_files(
    library: tokenizers.Tokenizer, spec: CaptionSpec, pad: int, masked: bool
) -> dict[str, Any]:
    """tokenizer.json and tokenizer_config.json. `masked`: whether padding is hidden from the model."""
    token = library.id_to_token
    unknown = spec.tokenizer.unknown
    end = library.encode("").ids[-1]
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": spec.length,
        "bos_token": spec.tokenizer.token(spec.tokenizer.start),
        "eos_token": token(end),
        "pad_token": token(pad),
        "unk_token": None if unknown is None else token(unknown),
        "padding_side": "right",
        "model_input_names": ["input_ids", "attention_mask"] if masked else ["input_ids"],
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # a text that says <|end|> means the letters
    }
    return {"tokenizer.json": library.to_str(), "tokenizer_config.json": settings}


def _renumbered(part: Any, new: dict[int, int]) -> Any:
    """A post-processor's tokens: `ids` of a template, and pairs as ["[SEP]", 102] of BERT's and others'."""
    if isinstance(part, dict):
        return {
            name: [new.get(id, id) for id in value] if name == "ids" else _renumbered(value, new)
            for name, value in part.items()
        }
    if isinstance(part, list):
        if len(part) == 2 and isinstance(part[0], str) and isinstance(part[1], int):
            return [part[0], new.get(part[1], part[1])]
        return [_renumbered(value, new) for value in part]
    return part

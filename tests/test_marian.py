"""Marian's layout: transformers' MarianMTModel gives our logits, and we give its, in files and in memory."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sadari.data.spec_pairs import PairSpec
from sadari.data.tokenizers import Tokenizer, train_tokenizer
from sadari.errors import SadariError
from sadari.layers.tokens import PAD
from sadari.marian import read_marian, to_marian
from sadari.models.translator import Translator, TranslatorConfig

V, END = 30, 0
TINY = replace(Translator.TINY, norm_first=False)
SHAPES = [(share, tied) for share in (True, False) for tied in (True, False)]


def reference(**settings: Any) -> Any:
    """transformers' model of small sizes, every number of it drawn, the bias of logits too."""
    import transformers

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": V, "d_model": 16, "encoder_layers": 2, "decoder_layers": 3}
    sizes |= {f"{side}_{part}": n for side in ("encoder", "decoder") for part, n in
              (("attention_heads", 2), ("ffn_dim", 24))}  # fmt: skip
    numbers = {"pad_token_id": V - 1, "decoder_start_token_id": V - 1, "eos_token_id": END}
    config = transformers.MarianConfig(**{**sizes, **numbers, "max_position_embeddings": 64, **settings})
    model = transformers.MarianMTModel(config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    model.final_logits_bias.normal_()
    return model.eval()


def pair(size: int = V) -> tuple[Tensor, Tensor]:
    """Sources of unequal length, and targets that begin with Marian's pad."""
    generator = torch.Generator().manual_seed(1)
    source, target = (torch.randint(1, size - 1, (3, n), generator=generator) for n in (9, 7))
    source[1, 5:] = source[2, 2:] = PAD
    target[:, 0] = V - 1
    return source, target


def theirs(model: Any, source: Tensor, target: Tensor) -> Tensor:
    """Its logits, for our PAD and for a target whose first token is its own start."""
    real, pad = source >= 0, model.config.pad_token_id
    target = torch.cat(
        (torch.full_like(target[:, :1], model.config.decoder_start_token_id), target[:, 1:]), 1
    )
    with torch.no_grad():
        return model(
            input_ids=source.masked_fill(~real, pad), attention_mask=real.long(), decoder_input_ids=target
        ).logits


def opened(folder: Path) -> Any:
    import transformers

    model, info = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    """transformers draws a bar for each file that it reads or writes."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


# ---------------------------------------------------------------------- reading


@pytest.mark.proof("transformer", "parity")
@pytest.mark.parametrize("activation", ["swish", "relu", "gelu", "silu"])
@pytest.mark.parametrize(("share", "tied"), SHAPES)
def test_gives_the_logits_of_transformers_marian(share: bool, tied: bool, activation: str) -> None:
    tables = {"share_encoder_decoder_embeddings": share, "tie_word_embeddings": tied}
    other = {"decoder_vocab_size": None if share else V + 3}
    model = reference(
        activation_function=activation, scale_embedding=activation == "swish", **tables, **other
    )
    ours = Translator.from_marian(model.state_dict(), model.config.to_dict()).eval()
    assert ours.config.share == (share and tied) and ours.config.tied == tied
    source, target = pair()
    expected = theirs(model, source, target)
    assert expected.std() > 0.5
    torch.testing.assert_close(ours(source, target), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours(source, target, plain=True), expected, rtol=0, atol=1e-5)
    with torch.no_grad():
        ours.embedding.weight.zero_()
    assert model.model.decoder.embed_tokens.weight.any()  # a copy, not the reference's own tensors


def test_a_cache_gives_transformers_greedy_translation() -> None:
    model = reference()
    ours = Translator.from_marian(model.state_dict(), model.config.to_dict()).eval()
    source, _ = pair()
    real = source >= 0
    expected = model.generate(
        source.masked_fill(~real, V - 1), attention_mask=real.long(), num_beams=1, do_sample=False,
        min_new_tokens=12, max_new_tokens=12,
    )  # fmt: skip
    token, found = torch.full((3, 1), V - 1), []
    with torch.no_grad():
        state = ours.start(source)
        for _ in range(11):  # the twelfth is forced to be the end
            logits, state = ours.step(token, state)
            logits[:, END] = -torch.inf
            token = logits.argmax(-1, keepdim=True)
            found.append(token)
    assert torch.equal(torch.cat(found, 1), expected[:, 1:12])


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize(("share", "tied"), SHAPES)
def test_reads_a_folder_that_transformers_wrote(
    tmp_path: Path, share: bool, tied: bool, shards: bool
) -> None:
    model = reference(share_encoder_decoder_embeddings=share, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path / "a", max_shard_size=4000 if shards else "1GB")
    assert (tmp_path / "a" / "model.safetensors.index.json").exists() == shards
    ours = Translator.from_marian(tmp_path / "a").eval()
    source, target = pair()
    torch.testing.assert_close(ours(source, target), theirs(model, source, target), rtol=0, atol=1e-5)
    found = read_marian(tmp_path / "a")
    assert (found.start, found.end, found.inputs, found.outputs) == (V - 1, END, V, V)


# ---------------------------------------------------------------------- writing


@pytest.mark.proof("transformer", "parity")
@pytest.mark.parametrize("begin", ["zero", "word"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("share", "tied", "first"), [*((*shape, False) for shape in SHAPES), (True, True, True)]
)
def test_transformers_gives_our_logits(
    tmp_path: Path, share: bool, tied: bool, first: bool, bias: bool, begin: str
) -> None:
    """Written and opened there, and read back here; of V and V + 4 tokens where the tables are two.

    With norms first it is Pegasus there, else Marian.
    """
    outputs = V if share else V + 4
    config = TranslatorConfig(
        layers=2, decoder_layers=1, width=16, heads=2, share=share, tied=tied, bias=bias, begin=begin,
        norm_first=first,
    )  # fmt: skip
    torch.manual_seed(0)
    ours = Translator(config, V, outputs).eval()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    assert to_marian(ours, tmp_path / "a") == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    model, (source, target) = opened(tmp_path / "a"), pair()
    target[:, 0] = 1  # START of our tokenizers
    answer, expected = ours(source, target), theirs(model, source, target)
    assert expected.shape[-1] == outputs + 1 and model.config.pad_token_id == outputs
    torch.testing.assert_close(answer, expected[..., :outputs], rtol=0, atol=1e-5)
    torch.testing.assert_close(answer.softmax(-1), expected.softmax(-1)[..., :outputs], rtol=0, atol=1e-6)
    assert not expected.softmax(-1)[..., -1].any()
    table = model.model.decoder.embed_tokens.weight
    assert torch.equal(table[-1], table[1] if begin == "word" else torch.zeros(16))

    back = Translator.from_marian(tmp_path / "a").eval()
    assert back.config.share == share and back.config.norm_first == first
    assert type(model).__name__ == ("PegasusForConditionalGeneration" if first else "MarianMTModel")
    target[:, 0] = outputs
    torch.testing.assert_close(back(source, target)[..., :outputs], answer, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("share", "tied"), SHAPES)
def test_what_was_read_is_written_again_to_the_bit(tmp_path: Path, share: bool, tied: bool) -> None:
    """A Marian whose pad is the last token gets no row more."""
    model = reference(share_encoder_decoder_embeddings=share, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path / "a")
    found = read_marian(tmp_path / "a")
    to_marian(Translator.from_marian(tmp_path / "a"), tmp_path / "b", start=found.start, end=found.end)
    once, again = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    if share and not tied:  # two tables there, whatever it says; and nobody reads the third
        del once["model.shared.weight"]
    assert once.keys() == again.keys()
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_settings_say_what_begins_ends_and_fills(tmp_path: Path) -> None:
    ours = Translator(TINY, 20, 25)
    to_marian(ours, tmp_path, start=3, end=4)
    numbers = {"decoder_start_token_id": 25, "pad_token_id": 25, "eos_token_id": 4, "forced_eos_token_id": 4}
    for name in ("config.json", "generation_config.json"):
        content = json.loads((tmp_path / name).read_text())
        assert numbers.items() <= content.items()
    assert content["bad_words_ids"] == [[3], [25]]
    assert load_file(tmp_path / "model.safetensors")["model.encoder.embed_tokens.weight"].shape == (26, 16)


def spec_of(tokenizer: Tokenizer, shared: bool = True) -> PairSpec:
    return PairSpec("en", "ko", tokenizer, tokenizer, length=50, shared=shared)


@pytest.mark.parametrize("kind", ["bpe", "words", "unigram", "characters"])
def test_the_tokenizer_cuts_as_ours_and_translates_as_ours(tmp_path: Path, kind: Any) -> None:
    import transformers

    words = ["red", "green", "blue", "cat", "나무", "하늘", "runs", "<|end|>", "fast!"]
    generator = random.Random(0)
    texts = [" ".join(generator.choices(words, k=generator.randint(1, 6))) for _ in range(200)]
    tokenizer = train_tokenizer(texts, kind, 300)
    torch.manual_seed(0)
    config = TranslatorConfig(layers=1, width=16, heads=2, share=True, norm_first=False)
    ours = Translator(config, tokenizer.size, tokenizer.size).eval()
    nn.init.normal_(ours.embedding.weight, std=1.0)
    files = to_marian(ours, tmp_path, spec_of(tokenizer))
    assert files[2:4] == ["tokenizer.json", "tokenizer_config.json"]
    model, library = opened(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (library.pad_token_id, library.eos_token_id) == (tokenizer.size, tokenizer.end)
    assert len(library) == model.config.vocab_size == tokenizer.size + 1

    batch = library(texts[:8], return_tensors="pt", padding=True)
    source = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, PAD)
    for row, expected in zip(source, tokenizer.encode(texts[:8]), strict=True):
        assert row[row >= 0].tolist() == [*expected.tolist(), tokenizer.end]
    written = model.generate(
        batch["input_ids"], attention_mask=batch["attention_mask"], num_beams=1, max_new_tokens=10
    )
    token, found = torch.full((8, 1), tokenizer.start), []
    with torch.no_grad():
        state = ours.start(source)
        for _ in range(9):
            logits, state = ours.step(token, state)
            logits[:, tokenizer.start] = -torch.inf
            token = logits.argmax(-1, keepdim=True)
            found.append(token)
    for mine, its in zip(torch.cat(found, 1).tolist(), written[:, 1:].tolist(), strict=True):
        until = min(mine.index(tokenizer.end) if tokenizer.end in mine else 9, len(its) - 1)
        assert mine[:until] == its[:until]


def test_no_tokenizer_is_written_where_it_has_no_place(tmp_path: Path) -> None:
    """Two vocabularies; or a vocabulary that calls a token <pad> already."""
    import tokenizers

    tokenizer = train_tokenizer(["a b c"], "words", 20)
    library = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    library.add_special_tokens(["<pad>", "[CLS]", "[SEP]"])
    padded = Tokenizer.from_json(library.to_str())
    for number, spec in enumerate((spec_of(tokenizer), spec_of(tokenizer, shared=False), spec_of(padded))):
        size = spec.tokenizer.size
        files = to_marian(Translator(TINY, size, size), tmp_path / str(number), spec)
        assert ("tokenizer.json" in files) == (number == 0)


# ---------------------------------------------------------------------- what is told


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "bart"}, "model_type='bart' in config.json: only marian and pegasus are read here"),
        ({"activation_function": "tanh"}, "activation_function='tanh' in config.json: only relu, swish,"),
        ({"decoder_ffn_dim": 7}, "decoder_ffn_dim=7 in config.json: only 24 is done here"),
        ({"decoder_attention_heads": 1}, "decoder_attention_heads=1 in config.json: only 2 is done here"),
        ({"normalize_before": True}, "normalize_before=True in config.json: only False is done here"),
        ({"normalize_embedding": True}, "normalize_embedding=True"),
        ({"add_final_layer_norm": True}, "add_final_layer_norm=True"),
        ({"static_position_embeddings": False}, "static_position_embeddings=False"),
        ({"dropout": "much"}, r"dropout='much' in config.json: a share in \[0, 1\) is needed"),
        ({"encoder_layers": 3}, "the weights hold no 'model.encoder.layers.2.self_attn.q_proj.weight'"),
        ({"encoder_layers": None}, r"encoder_layers=None in config.json: a whole number from 1 to 1,000"),
        ({"d_model": True}, "d_model=True in config.json: a whole number from 1 to 10,000,000"),
        ({"encoder_attention_heads": 3, "decoder_attention_heads": 3}, "16 is not divisible by 3 heads"),
        ({"decoder_start_token_id": 30}, "decoder_start_token_id=30 .* tokens 0 to 29; config.json belongs"),
        ({"eos_token_id": [0]}, r"eos_token_id=\[0\] in config.json: a whole number from 0"),
        (
            {"encoder_ffn_dim": 12, "decoder_ffn_dim": 12},
            r"encoder.0.feed.up.weight has the shape \(24, 16\), its settings make \(12, 16\)",
        ),
    ],
)
def test_settings_that_are_not_done_here_are_told(settings: dict[str, Any], message: str) -> None:
    model = reference()
    with pytest.raises(SadariError, match=message):
        Translator.from_marian(model.state_dict(), {**model.config.to_dict(), **settings})


def test_tensors_that_do_not_belong_are_told() -> None:
    model = reference(tie_word_embeddings=False)
    settings, state = model.config.to_dict(), dict(model.state_dict())

    def read(**changes: Tensor) -> None:
        Translator.from_marian({**state, **{n.replace("__", "."): v for n, v in changes.items()}}, settings)

    q = "model__decoder__layers__1__encoder_attn__k_proj__weight"
    with pytest.raises(SadariError, match=r"one attention have the shapes \(8, 16\), \(16, 16\)"):
        read(**{q: torch.zeros(8, 16)})
    with pytest.raises(SadariError, match=r"decoder\.embed_positions are other waves than Marian's"):
        read(model__decoder__embed_positions__weight=torch.zeros(64, 16))
    with pytest.raises(SadariError, match=r"head\.bias has the shape \(31,\), its settings make \(30,\)"):
        read(final_logits_bias=torch.zeros(1, 31))
    for missing in ("lm_head.weight", "model.decoder.layers.2.fc1.bias"):
        less = {name: value for name, value in state.items() if name != missing}
        with pytest.raises(SadariError, match=f"the weights hold no '{missing}'"):
            Translator.from_marian(less, settings)
    less = {
        name: value for name, value in state.items() if "embed_tokens" not in name and "shared" not in name
    }
    with pytest.raises(SadariError, match=r"hold no 'model\.decoder\.embed_tokens\.weight'"):
        Translator.from_marian(less, settings)
    with pytest.raises(SadariError, match="tensors alone do not tell the heads"):
        Translator.from_marian(state)


def test_absent_bias_and_places_are_as_transformers_makes_them() -> None:
    model = reference()
    model.final_logits_bias.zero_()
    state = {n: v for n, v in model.state_dict().items() if n[:5] != "final" and "positions" not in n}
    ours, (source, target) = Translator.from_marian(state, model.config.to_dict()).eval(), pair()
    torch.testing.assert_close(ours(source, target), theirs(model, source, target), rtol=0, atol=1e-5)


def test_a_folder_that_is_not_whole_is_told(tmp_path: Path) -> None:
    model = reference()
    model.save_pretrained(tmp_path / "a")
    folder = tmp_path / "a"
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../other.safetensors"}}')
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(SadariError, match=r"names '\.\./other\.safetensors', which is no file beside it"):
        Translator.from_marian(folder)
    index.write_text('{"weight_map": {}}')
    with pytest.raises(SadariError, match="names no files"):
        Translator.from_marian(folder)
    index.unlink()
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(SadariError, match=r"model\.safetensors cannot be read .*; fetch it again"):
        Translator.from_marian(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(SadariError, match="is missing; only safetensors are read"):
        Translator.from_marian(folder)
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(SadariError, match=r"config\.json cannot be read as JSON"):
        Translator.from_marian(folder)
    with pytest.raises(SadariError, match=r"config\.json is missing; give a folder"):
        Translator.from_marian(tmp_path)


def test_models_without_a_place_in_the_layout_are_told(tmp_path: Path) -> None:
    for changes, message in (
        (
            {"norm_first": True},
            "norms that stand first have a layout with one vocabulary for both sides only",
        ),
        ({"positions": "interleaved"}, "positions='interleaved' has no place in Marian's layout"),
    ):
        model = Translator(replace(TINY, **changes), 9, 9)
        with pytest.raises(SadariError, match=message):
            to_marian(model, tmp_path / "a")
    for numbers, message in (
        ({"start": 9}, "start 9: the target has tokens 0 to 8"),
        ({"end": -1}, "end -1: "),
    ):
        with pytest.raises(SadariError, match=message):
            to_marian(Translator(TINY, 9, 9), tmp_path / "a", **numbers)
    assert not (tmp_path / "a").exists()

"""Exports of texts and series: another engine gives the same answers on padded tokens of any number."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
import tokenizers
import torch
from safetensors import safe_open
from torch import nn

import sadari
from sadari.data.prepare import Prepared
from sadari.data.prepare_text import prepare_language, prepare_text
from sadari.data.spec_text import padded
from sadari.errors import SadariError
from sadari.export import export, onnx_model
from sadari.export.graph import Graph
from sadari.export.network import convert
from sadari.export.text import CLASSIFIERS, LANGUAGES
from sadari.losses import make_loss
from sadari.models.attention import Attention
from sadari.models.encoder import Probe
from sadari.models.gpt import GPT, GPTConfig
from sadari.models.lstm import LSTM, LSTMLanguage, LSTMSeries
from sadari.models.n_gram import NGram
from sadari.models.one_hot import OneHot
from sadari.models.rnn import RNN, RNNLanguage, RNNSeries
from sadari.models.transformer import Transformer
from sadari.runs import Run

V = 11
CLS = "width=8 layers=2 heads=2 inner=16 longest=64 types=0 pooling=cls normalise=0"


def cases(table: dict[type[nn.Module], Any]) -> list:
    """Every translated class at its tiny size, and with what else its config can ask for."""
    tiny = {model: [model.TINY] for model in table}  # type: ignore[attr-defined]
    for model in (RNN, LSTM, Attention):
        tiny.get(model, []).extend(
            [replace(model.TINY, layers=2), replace(model.TINY, layers=2, directions=1)]
            if model in table
            else []
        )
    more: dict[type[nn.Module], list[Any]] = {
        OneHot: [replace(OneHot.TINY, counts=True)],
        Transformer: [
            replace(Transformer.TINY, norm="post", positions="learned", pooling="cls"),
            replace(Transformer.TINY, width=9, heads=3, positions="none"),
            replace(Transformer.TINY, width=9, heads=3),
        ],
        Probe: [replace(Probe.TINY, encoder=CLS)],
        RNNLanguage: [replace(RNNLanguage.TINY, layers=2, tied=False)],
        LSTMLanguage: [replace(LSTMLanguage.TINY, layers=2, tied=False)],
        GPT: [
            GPTConfig(layers=2, width=16, heads=4, kv_heads=2, context=9, positions="rotary", norm="rmsnorm",
                      activation="swiglu", bias=False, tied=False, stretch=8.0),
            GPTConfig(layers=1, width=16, heads=4, context=32, activation="gelu", bias=False),
        ],
    }  # fmt: skip
    return [
        pytest.param(model, config, id=f"{model.__name__}-{number}")
        for model, first in tiny.items()
        for number, config in enumerate([*first, *more.get(model, [])])
    ]


def born(model: type, config: Any, outputs: int) -> nn.Module:
    """A model with weights of a size at which each of them matters to the answer."""
    torch.manual_seed(0)
    made = model(config, V, outputs).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    return made


def session(graph: Graph) -> onnxruntime.InferenceSession:
    made = graph.model("test", "")
    onnx.checker.check_model(made, full_check=True)
    return onnxruntime.InferenceSession(made.SerializeToString())


def batches() -> list[np.ndarray]:
    """Tokens of texts of uneven lengths, an empty one, padding for all, one text, one token."""
    draw = np.random.default_rng(1)
    texts = [draw.integers(0, V, length) for length in (5, 1, 0, 9, 3, 9)]
    wide = np.pad(padded(texts), ((0, 0), (0, 4)), constant_values=-1)
    return [
        tokens.astype(np.int64) for tokens in (padded(texts), wide, padded(texts[:1]), padded(texts[1:3]))
    ]


TOKENS = {model: call for model, call in CLASSIFIERS.items() if model not in (RNNSeries, LSTMSeries)}
SERIES = {model: call for model, call in CLASSIFIERS.items() if model in (RNNSeries, LSTMSeries)}


@pytest.mark.parametrize(("model", "config"), cases(TOKENS))
@pytest.mark.parametrize("classes", [2, 3])
def test_a_classifier_answers_padded_texts_as_torch_does(model: type, config: Any, classes: int) -> None:
    loss = make_loss("binary" if classes == 2 else "cross-entropy", classes=classes)
    made, graph = born(model, config, loss.outputs), Graph()
    output = convert(graph, made, loss, graph.input("tokens", "int64", ["N", "T"]))
    graph.output("probabilities", output, "float", ["N", classes])
    engine = session(graph)
    for tokens in batches():
        with torch.inference_mode():
            expected = loss.predict(made(torch.from_numpy(tokens))).numpy()
        found = engine.run(None, {"tokens": tokens})[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert len(tokens) < 3 or np.ptp(expected[:, 0]) > 1e-3, "the weights are too small to test anything"


@pytest.mark.parametrize(("model", "config"), cases(SERIES))
@pytest.mark.parametrize("loss", ["squared", "cross-entropy"])
def test_a_series_is_answered_as_torch_does(model: type, config: Any, loss: str) -> None:
    likelihood = make_loss(loss, classes=3 if loss == "cross-entropy" else None)
    for changed in (config, replace(config, layers=2, directions=1)):
        made, graph = born(model, changed, likelihood.outputs), Graph()
        output = convert(graph, made, likelihood, graph.input("features", "float", ["N", "T"]))
        graph.output("answer", output, "float", ["N", 3] if loss == "cross-entropy" else ["N"])
        engine = session(graph)
        for shape in ((1, 1), (5, 12), (3, 40)):
            features = torch.randn(shape)
            with torch.inference_mode():
                expected = likelihood.predict(made(features)).numpy()
            found = engine.run(None, {"features": features.numpy()})[0]
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("model", "config"), cases(LANGUAGES))
def test_a_language_model_gives_torchs_logits(model: Any, config: Any) -> None:
    made, graph = born(model, config, V), Graph()
    output = LANGUAGES[model](graph, made, graph.input("tokens", "int64", ["N", "T"]))
    graph.output("logits", output, "float", ["N", "T", V])
    engine = session(graph)
    for shape in ((1, 1), (3, 7), (2, 24)):
        tokens = torch.randint(0, V, shape)
        with torch.inference_mode():
            expected = made(tokens).numpy()
        found = engine.run(None, {"tokens": tokens.numpy()})[0]
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))
        assert expected.std() > 0.1


def test_a_matrix_that_is_shared_is_in_the_file_once() -> None:
    for model in (RNNLanguage, GPT):
        made, graph = born(model, replace(model.TINY, tied=True), V), Graph()
        LANGUAGES[model](graph, made, graph.input("tokens", "int64", ["N", "T"]))
        shapes = [tuple(constant.dims) for constant in graph.constants]
        assert shapes.count((V, model.TINY.width)) == 1


# ---------------------------------------------------------------------- whole runs


@lru_cache
def topics() -> Prepared:
    return prepare_text("toy-topics")


@lru_cache
def grammar() -> Prepared:
    return prepare_language("toy-grammar")


TEXT_RUNGS = {
    "prior": {},
    "one-hot": {},
    "embedding": {"width": 8},
    "rnn": {"width": 8},
    "lstm": {"width": 8},
    "attention": {"width": 8},
    "transformer": {"width": 8, "heads": 2},
}
LANGUAGE_RUNGS = {
    "rnn": {"width": 8},
    "lstm": {"width": 8},
    "transformer": {"layers": 1, "width": 8, "heads": 2, "context": 32},
}


def proofs(rungs: dict[str, dict]) -> list:
    return [pytest.param(rung, marks=pytest.mark.proof(rung, "exchanged")) for rung in rungs]


def tokenizer_of(engine: onnxruntime.InferenceSession) -> tokenizers.Tokenizer:
    """As the doc string of an exported file says."""
    return tokenizers.Tokenizer.from_str(engine.get_modelmeta().custom_metadata_map["tokenizer"])


@pytest.mark.parametrize("rung", proofs(TEXT_RUNGS))
def test_a_run_answers_raw_texts_with_its_file_alone(rung: str, tmp_path: Path) -> None:
    """The tokenizer too comes out of the file: no line of ours reads the texts."""
    run = sadari.fit(
        rung, "toy-topics", prepared=topics(), out=tmp_path / "run", budget="5steps", model=TEXT_RUNGS[rung]
    )
    rows = topics().table.frame.collect().head(60)
    expected = run.predict(rows, probabilities=True)
    engine = onnxruntime.InferenceSession(run.export("onnx", tmp_path / "model.onnx"))
    tokenizer = tokenizer_of(engine)
    texts = [np.array(tokenizer.encode(text, add_special_tokens=False).ids) for text in rows[run.spec.text]]
    tokens = padded([text[: run.spec.length] for text in texts]).astype(np.int64)
    label, probabilities = engine.run(["label", "probabilities"], {"tokens": tokens})
    np.testing.assert_allclose(probabilities, expected.drop("prediction").to_numpy(), atol=1e-5)
    clear = np.ptp(np.sort(probabilities, axis=1)[:, -2:], axis=1) > 2e-5
    assert (label[clear] == expected["prediction"].to_numpy()[clear]).all()


@pytest.fixture(scope="module")
def small_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained encoder as its users save it, two layers of chance that know the words of the toy."""
    from transformers import BertConfig, BertModel

    words = topics().table.frame.select(pl.col("text").str.split(" ").explode().unique().sort()).collect()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words["text"]]
    library = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: id for id, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    library.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    library.add_special_tokens(vocabulary[:4])
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    path, sizes = tmp_path_factory.mktemp("hub") / "tiny", {"hidden_size": 24, "intermediate_size": 40}
    config = BertConfig(vocab_size=len(vocabulary), num_hidden_layers=2, num_attention_heads=3, **sizes)
    BertModel(config).save_pretrained(path)
    library.save(str(path / "tokenizer.json"))
    return path


@pytest.mark.parametrize("rung", proofs({"probe": {}, "fine-tune": {}}))
def test_a_pretrained_encoder_answers_with_its_file_alone(
    rung: str, small_bert: Path, tmp_path: Path
) -> None:
    """Its own special tokens stand round each text, put there by the tokenizer in the file."""
    run = sadari.fit(
        rung, "toy-topics", prepared=topics(), out=tmp_path / "run", budget="2steps",
        model={"weights": str(small_bert)},
    )  # fmt: skip
    rows = topics().table.frame.collect().head(40)
    expected = run.predict(rows, probabilities=True).drop("prediction").to_numpy()
    path = run.export("onnx", tmp_path / "model.onnx")
    assert "add_special_tokens=True" in onnx.load(path).doc_string
    engine = onnxruntime.InferenceSession(path)
    tokenizer = tokenizer_of(engine)
    texts = [np.array(tokenizer.encode(text, add_special_tokens=True).ids) for text in rows[run.spec.text]]
    assert max(map(len, texts)) <= run.spec.length
    found = engine.run(["probabilities"], {"tokens": padded(texts).astype(np.int64)})[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("rung", proofs({"rnn": {}, "lstm": {}}))
def test_a_series_is_answered_from_raw_columns(rung: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    waves = np.sin(np.arange(12) * draw.uniform(0.3, 1, (200, 1)) + draw.uniform(0, 6, (200, 1)))
    frame = pl.DataFrame(waves, schema=[f"t{t}" for t in range(12)])
    frame = frame.with_columns(pl.Series("kind", np.where(waves[:, 5] > 0, "up", "down")))
    run = sadari.fit(
        rung, frame, target="kind", kind="series", out=tmp_path / "run", budget="5steps", model={"width": 8}
    )
    engine = onnxruntime.InferenceSession(run.export("onnx", tmp_path / "model.onnx"))
    feed = {name: frame[name].to_numpy().reshape(-1, 1) for name in frame.columns[:-1]}
    found = engine.run(["probabilities"], feed)[0]
    expected = run.predict(frame, probabilities=True).drop("prediction").to_numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("rung", proofs(LANGUAGE_RUNGS))
def test_a_language_run_foretells_with_its_file_alone(rung: str, tmp_path: Path) -> None:
    run = sadari.fit(
        rung,
        "toy-grammar",
        prepared=grammar(),
        out=tmp_path / "run",
        budget="3steps",
        model=LANGUAGE_RUNGS[rung],
    )
    prompt = "고양이가 "
    engine = onnxruntime.InferenceSession(run.export("onnx", tmp_path / "model.onnx"))
    ids = [run.spec.tokenizer.end, *tokenizer_of(engine).encode(prompt, add_special_tokens=False).ids]
    assert ids == run.spec.encode_prompts([prompt])[0].tolist()
    with torch.inference_mode():
        expected = run.model(torch.tensor([ids])).numpy()
    found = engine.run(["logits"], {"tokens": np.array([ids])})[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture
def counted(tmp_path: Path) -> Run:
    return sadari.fit("n-gram", "toy-grammar", prepared=grammar(), out=tmp_path / "run")


@pytest.mark.proof("n-gram", "exchanged")
def test_counts_travel_as_safetensors(counted: Run, tmp_path: Path) -> None:
    """All that it needs is in the one file: sizes, tables, tokenizer."""
    with safe_open(counted.export("safetensors", tmp_path), "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = file.metadata()
    config = json.loads(about["config"])["model"]
    tokenizer = tokenizers.Tokenizer.from_str(about["tokenizer"])
    size = tokenizer.get_vocab_size()
    again = NGram(NGram.Config(**config), size, size)
    again.load_state_dict(weights)
    stream = grammar().test.tokens
    np.testing.assert_array_equal(again.log_probabilities(stream), counted.model.log_probabilities(stream))


def read_arpa(path: Path) -> tuple[dict[tuple[str, ...], tuple[float, float]], list[int]]:
    """The format by its description, in a few lines."""
    table, counts, order = {}, [], 0
    for line in path.read_text().splitlines():
        if line.startswith("ngram "):
            counts.append(int(line.split("=")[1]))
        elif line.endswith("-grams:"):
            order = int(line[1])
        elif "\t" in line:
            log, words, *fall = line.split("\t")
            gram = tuple(words.split())
            assert len(gram) == order
            table[gram] = (float(log), float(fall[0]) if fall else 0.0)
    return table, counts


@pytest.mark.proof("n-gram", "exchanged")
def test_counts_travel_as_arpa(counted: Run, tmp_path: Path) -> None:
    table, counts = read_arpa(counted.export("arpa", tmp_path))
    assert sum(counts) == len(table) and counts[1:] == counted.result["n_grams"][1:]

    def log10(history: tuple[str, ...], word: str) -> float:
        if (*history, word) in table:
            return table[*history, word][0]
        return table.get(history, (0.0, 0.0))[1] + log10(history[1:], word)

    stream = grammar().test.tokens[:300]
    words, reach = [str(token) for token in stream], counted.model.config.order - 1
    found = [log10(tuple(words[max(i - reach, 0) : i]), word) for i, word in enumerate(words)]
    expected = counted.model.log_probabilities(stream) / np.log(10)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_formats_that_do_not_fit_are_refused(counted: Run, tmp_path: Path) -> None:
    with pytest.raises(SadariError, match=r"n-gram is a table, .* use --to arpa or --to safetensors"):
        onnx_model(counted)
    run = sadari.fit("one-hot", "toy-topics", prepared=topics(), out=tmp_path / "other")
    with pytest.raises(
        SadariError, match="--to arpa is for counted n-grams, and this run is one-hot; use --to onnx"
    ):
        export(run, "arpa")


def test_the_file_says_how_a_text_becomes_tokens(tmp_path: Path) -> None:
    run = sadari.fit("one-hot", "toy-topics", prepared=topics(), out=tmp_path / "run")
    said = onnx.load(run.export()).doc_string
    for words in (
        "Predicts topic with a Sadari run: rung one-hot, task classify",
        "Input: tokens, int64 [N, T], one text a row, shorter ones filled up with -1 at the right.",
        "tokenizer.encode(TEXT, add_special_tokens=False).ids",
        f"Of each text the first {run.spec.length} tokens are read.",
        "Special tokens: unknown 0, start 1, end 2.",
        "- label: string [N], the most probable topic",
        "Classes, in the order of the probabilities: food, travel, weather",
    ):
        assert words in said
    settings = {"layers": 1, "width": 8, "heads": 2, "context": 32}
    run = sadari.fit(
        "transformer",
        "toy-grammar",
        prepared=grammar(),
        out=tmp_path / "gpt",
        budget="1steps",
        model=settings,
    )
    said = onnx.load(run.export()).doc_string
    for words in (
        "Predicts the next token with a Sadari run: rung transformer, task language",
        "Put token 2, the end of a text, before what is to be continued.",
        "T is at most 32, the places that were learned.",
        "the logits of the token after each",
    ):
        assert words in said

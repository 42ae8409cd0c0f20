"""Runs of pairs in the formats of others: what they write with them is what we write."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from sadari.data.spec_pairs import PairSpec
from sadari.data.tokenizers import Tokenizer
from sadari.data.toy_pairs import reverse
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.ladder import ladder_for
from sadari.runs import Run
from sadari.tasks import build
from sadari.translate import translate_lines

SMALL = {"transformer": {"width": 32, "heads": 2, "inner": 64, "layers": 2}, "lookup": {}}
TEXTS = ["1 2 3", "9", "7 7 0 4 2", "0 1 2 3 4 5"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "digits.tsv"
    reverse(1500, longest=6, numbers=10).write_csv(path, separator="\t")
    return path


def fitted(rung: str, digits: Path, out: Path, steps: int = 5, **reading: object) -> Run:
    reading = {"tokenizer": "words", **reading}
    model = SMALL.get(rung, {"width": 16})
    return fit(rung, digits, kind="pairs", reading=reading, budget=f"{steps}steps", model=model, out=out)


@pytest.fixture(scope="module", params=[True, False], ids=["norms first", "norms last"])
def run(request: pytest.FixtureRequest, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SMALL, "transformer", {**SMALL["transformer"], "norm_first": request.param})
        return fitted("transformer", digits, tmp_path_factory.mktemp("run") / "r", steps=150)


def written_by_us(run: Run) -> list[list[str]]:
    """Tokens, to compare without anybody's way of putting spaces between them."""
    return [text.split() for text in run.translate(TEXTS, max_tokens=12)]


@pytest.mark.proof("transformer", "exchanged")
def test_transformers_writes_the_same_with_it(run: Run, tmp_path: Path) -> None:
    import transformers

    transformers.logging.disable_progress_bar()
    folder = run.export("marian", tmp_path / "out" / "marian")
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    read = tokenizer(TEXTS, return_tensors="pt", padding=True)
    found = theirs.generate(
        input_ids=read.input_ids, attention_mask=read.attention_mask, num_beams=1, do_sample=False,
        max_length=13,
    )  # fmt: skip
    own = set(range(run.spec.outputs)) - {run.spec.start, run.spec.end}
    words = [[run.spec.tokenizer.token(int(i)) for i in row if int(i) in own] for row in found]
    assert words == written_by_us(run)


@pytest.mark.proof("transformer", "exchanged")
def test_ctranslate2_writes_the_same_with_it(run: Run, tmp_path: Path) -> None:
    engine = pytest.importorskip("ctranslate2")
    folder = run.export("ctranslate2", tmp_path / "engine")
    translator = engine.Translator(str(folder), device="cpu")
    sources = [
        [run.spec.source_tokenizer.token(int(i)) for i in row] for row in run.spec.encode_sources(TEXTS)
    ]
    sources = [[*words[:-1], "<|end|>"] for words in sources]
    found = translator.translate_batch(sources, beam_size=1, max_decoding_length=12)
    assert [one.hypotheses[0] for one in found] == written_by_us(run)


@pytest.mark.parametrize(
    "rung",
    [
        pytest.param(name, marks=pytest.mark.proof(name, "exchanged"))
        for name in ladder_for("translate", "pairs").names
    ],
)
def test_one_safetensors_file_is_all_that_another_needs(rung: str, digits: Path, tmp_path: Path) -> None:
    run = fitted(rung, digits, tmp_path / "run")
    path = run.export("safetensors", tmp_path)
    with safe_open(path, "pt") as file:
        about = file.metadata()
    tokenizer = Tokenizer.from_json(about["tokenizer"])
    spec = PairSpec.from_json(json.loads(about["spec"]), tokenizer, tokenizer)
    config = json.loads(about["config"])
    model = build(config["rung"], config["task"], config["model"], spec.width, run.loss, 3, "pairs")
    model.load_state_dict(safetensors.torch.load_file(path))
    again = Run(run.path, config, run.result, spec, model.eval(), run.task)
    assert again.translate(TEXTS) == run.translate(TEXTS)
    if rung in ("lstm", "lstm-attention"):  # and its core is torch's own layer, as it is
        core = torch.nn.LSTM(16, 16, batch_first=True, bidirectional=True)
        weights = {name.removeprefix("encoder."): value for name, value in model.state_dict().items()
                   if name.startswith("encoder.")}  # fmt: skip
        core.load_state_dict(weights)


def test_what_cannot_be_is_refused(
    run: Run, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup = fitted("lookup", digits, tmp_path / "lookup")
    with pytest.raises(
        SadariError, match="--to marian is for a transformer of pairs, and this run is lookup"
    ):
        lookup.export("marian")
    for refused, forms in ((run, "marian, ctranslate2 or safetensors"), (lookup, "safetensors")):
        message = rf"^{refused.rung} is a run of pairs, which has no ONNX form; export it --to {forms}$"
        with pytest.raises(SadariError, match=message):
            refused.export("onnx")
        assert not list(refused.path.glob("*.onnx"))
    with pytest.raises(
        SadariError, match=r"--to 'tflite' is no format; choose one of: safetensors, marian, ctranslate2$"
    ):
        run.export("tflite")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(
        SadariError, match="full is there already; give another folder with --out, or remove it"
    ):
        run.export("marian", tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["x"]
    monkeypatch.setitem(sys.modules, "ctranslate2.converters", None)
    with pytest.raises(
        SadariError, match="needs the packages ctranslate2 and transformers; install them with"
    ):
        run.export("ctranslate2", tmp_path / "none")
    assert not (tmp_path / "none").exists() and not list(tmp_path.glob(".none*"))


def test_two_vocabularies_are_not_ctranslate2s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ctranslate2")
    frame = reverse(1500, longest=6, numbers=10)
    path = tmp_path / "letters.csv"
    frame.with_columns(frame.to_series(1).str.replace_all("1", "one")).write_csv(path)
    monkeypatch.setitem(SMALL, "transformer", {**SMALL["transformer"], "norm_first": False})
    run = fitted("transformer", path, tmp_path / "run", separate=True)
    assert not run.spec.shared
    with pytest.raises(
        SadariError, match="knows one vocabulary for both sides; fit without --separate to export"
    ):
        run.export("ctranslate2", tmp_path / "engine")


def test_the_engine_in_our_place_writes_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("ctranslate2")
    monkeypatch.setenv("SADARI_CACHE", str(tmp_path))
    ours = run.translate(TEXTS)
    assert run.translate(TEXTS, engine="ctranslate2") == ours
    (made,) = (tmp_path / "ctranslate2").iterdir()
    before = (made / "model.bin").stat().st_mtime_ns
    assert run.translate(TEXTS, engine="ctranslate2", precision="int8", beam=3, n_best=2)
    assert (made / "model.bin").stat().st_mtime_ns == before, "it is converted once"
    begun = run.translate(TEXTS, engine="ctranslate2", max_tokens=3)
    assert begun == run.translate(TEXTS, max_tokens=3)
    lines = list(translate_lines(run, TEXTS * 9, jobs=2, engine="ctranslate2", batch_tokens=30, prefix="5 "))
    assert [line.text for line in lines] == [
        line.text for line in translate_lines(run, TEXTS, prefix="5 ")
    ] * 9


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_smaller_numbers_write_nearly_the_same(run: Run, precision: str) -> None:
    frame = run.data().table.frame.collect()
    texts = frame[run.data().split.test[:100]][run.spec.source].to_list()
    exact, rounded = run.translate(texts), run.translate(texts, precision=precision)
    assert sum(a == b for a, b in zip(exact, rounded, strict=True)) >= 90
    assert [
        line.text for line in translate_lines(run, texts, batch_tokens=12, precision=precision)
    ] == rounded


def test_what_the_engine_has_no_place_for_is_refused(
    run: Run, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ctranslate2")
    monkeypatch.setenv("SADARI_CACHE", str(tmp_path))
    for settings, flag in (
        ({"temperature": 1.0}, "--temperature 1.0"),
        ({"beam": 2, "groups": 2}, "--groups 2"),
        ({"no_repeat": 2}, "--no-repeat 2"),
    ):
        with pytest.raises(
            SadariError, match=f"{flag} is not handed on to ctranslate2; leave it out, or use"
        ):
            run.translate(TEXTS, engine="ctranslate2", **settings)
    lstm = fitted("lstm", digits, tmp_path / "lstm")
    with pytest.raises(
        SadariError, match="--to ctranslate2 is for a transformer of pairs, and this run is lstm"
    ):
        lstm.translate(TEXTS, engine="ctranslate2")
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(
        SadariError, match="--engine ctranslate2 needs the packages ctranslate2 and transformers"
    ):
        run.translate(TEXTS, engine="ctranslate2")

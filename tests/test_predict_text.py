"""Using runs of texts: files of lines, of JSON, tables, one text; a language run that writes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sadari.cli import run as command
from sadari.data.kinds import recognise
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.lang import in_unit, unit_of
from sadari.predict import predict_file
from sadari.runs import Run


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit("one-hot", "toy-topics", out=tmp_path_factory.mktemp("runs") / "topics")


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit("n-gram", "toy-grammar", out=tmp_path_factory.mktemp("runs") / "grammar")


TEXTS = ["비와 wind, then snow", "a rice bowl in the kitchen", "", "train ticket 기차"]
SAID = ["weather", "food", None, "travel"]


def written(path: Path) -> list[str]:
    return pl.read_csv(path)["prediction"].to_list()


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv"])
def test_each_line_or_row_gets_its_class(topics: Run, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"texts{suffix}"
    frame = pl.DataFrame({"text": TEXTS})
    if suffix == ".txt":
        path.write_text("\n".join(TEXTS), encoding="utf-8")
    elif suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_csv(path)
    out = predict_file(topics, path, probabilities=True)
    assert out.name == "texts-predicted.csv"
    answers = written(out)
    assert len(answers) == len(TEXTS)
    assert [a for a, said in zip(answers, SAID, strict=True) if said] == [said for said in SAID if said]
    assert topics.predict(frame)["prediction"].to_list() == answers
    assert "probability of food" in pl.read_csv(out).columns


def test_a_line_without_a_text_is_named(topics: Run, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "비"}\n{"other": 1}\n')
    with pytest.raises(
        SadariError, match=r"t.jsonl line 2 has no text 'text'; mend it or leave the line out"
    ):
        predict_file(topics, tmp_path / "t.jsonl")
    assert not list(tmp_path.glob("*predicted*"))


def test_a_table_without_the_texts_column_is_named(topics: Run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("body,x\nrain,1\n")
    with pytest.raises(SadariError, match=r"t\.csv lacks column: text; the run was trained on its texts"):
        predict_file(topics, tmp_path / "t.csv")


def test_one_text_is_answered_on_the_spot(topics: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["predict", str(topics.path), TEXTS[0]]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first.split() == [first.split()[0], "weather"] and len(others) == 2
    assert sum(float(line.split()[0]) for line in (first, *others)) == pytest.approx(1, abs=0.002)


def test_a_language_run_writes_on_and_repeats_itself(
    grammar: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(grammar.path), "작은 고양이가", "--max-tokens", "12", "--seed", "3"]
    assert command(words) == 0
    once = capsys.readouterr().out
    assert command(words) == 0
    assert capsys.readouterr().out == once
    assert once.startswith("작은 고양이가") and len(once) > len("작은 고양이가\n") and "�" not in once
    assert once == "작은 고양이가" + grammar.write(["작은 고양이가"], max_tokens=12, seed=3)[0] + "\n"


@pytest.mark.parametrize(
    ("which", "words", "message"),
    [
        (
            "topics",
            ["a text", "--temperature", "1"],
            "--temperature is for language runs, and this one predicts",
        ),
        ("topics", [], "no rows are given; name a file with the run's columns or a text"),
        ("topics", ["gone.csv"], "gone.csv"),
        ("grammar", ["x", "--top-p", "2"], "top_p 2.0: the share lies in (0, 1]"),
    ],
)
def test_a_mistake_is_one_line(
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    which: str,
    words: list[str],
    message: str,
) -> None:
    run: Run = request.getfixturevalue(which)
    assert command(["predict", str(run.path), *words]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and not said.out.strip()


def test_runs_say_what_they_are_not(topics: Run, grammar: Run, tmp_path: Path) -> None:
    with pytest.raises(SadariError, match="this run predicts topic and continues no text"):
        topics.write(["x"])
    with pytest.raises(SadariError, match=r"this run continues texts; call run\.write"):
        grammar.predict(pl.DataFrame({"text": ["x"]}))
    with pytest.raises(SadariError, match="this run continues texts; give a beginning instead of a file"):
        predict_file(grammar, tmp_path / "x.csv")


# What a source is taken for.


def _files(folder: Path) -> dict[str, tuple[Any, tuple[str, str | None]]]:
    table = pl.DataFrame({"a": [1, 2, 3], "y": ["u", "v", "u"]})
    texts = pl.DataFrame(
        {"본문": [f"긴 글이 하나 여기에 있고 번호는 {i}번이다" for i in range(30)], "y": ["a", "b"] * 15}
    )
    table.write_csv(folder / "t.csv")
    texts.write_csv(folder / "texts.csv")
    (folder / "book.txt").write_text("once upon\n\na time")
    (folder / "lines.jsonl").write_text('{"text": "a", "label": "b"}\n')
    for name in ("good/one.txt", "bad/two.txt"):
        (folder / "classes" / name).parent.mkdir(parents=True)
        (folder / "classes" / name).write_text("text")
    (folder / "plain").mkdir()
    (folder / "plain" / "a.txt").write_text("text")
    return {
        "a table": (folder / "t.csv", ("table", None)),
        "a table of texts": (folder / "texts.csv", ("text", "classify")),
        "a frame": (table, ("table", None)),
        "plain text": (folder / "book.txt", ("text", "language")),
        "lines of JSON": (folder / "lines.jsonl", ("text", "classify")),
        "a folder a class": (folder / "classes", ("text", "classify")),
        "a folder": (folder / "plain", ("text", "language")),
        "a bundled table": ("iris", ("table", None)),
        "bundled texts": ("toy-topics", ("text", "classify")),
        "a bundled corpus": ("toy-grammar", ("text", "language")),
    }


def test_the_kind_is_told_by_what_the_source_holds(tmp_path: Path) -> None:
    for name, (source, expected) in _files(tmp_path).items():
        assert recognise(source)[1:] == expected, name
    assert recognise(tmp_path / "t.csv", kind="series")[1] == "series"
    assert recognise(tmp_path / "texts.csv", kind="table")[1] == "table"
    assert recognise(tmp_path / "texts.csv", task="language")[1:] == ("text", "language")
    with pytest.raises(
        SadariError, match="--kind 'pictures' is no kind of data; choose one of: table, series"
    ):
        recognise("iris", kind="pictures")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "toy-topics", "drop": ("x",)}, "--drop x is for tables, and toy-topics is read as text"),
        ({"data": "toy-topics", "log_target": True}, "--log-target is for tables"),
        ({"data": "toy-grammar", "target": "y"}, "--target y is for labelled texts; task language learns"),
        ({"data": "toy-topics", "task": "regress"}, "no rung 'one-hot' for regress"),
        ({"data": "toy-grammar", "loss": "squared"}, "--loss squared does not go with task language"),
    ],
)
def test_options_of_tables_are_refused_for_texts(options: dict[str, Any], message: str) -> None:
    rung = "n-gram" if options["data"] == "toy-grammar" else "one-hot"
    with pytest.raises(SadariError, match=message):
        fit(rung, options.pop("data"), out="run", **options)
    assert not Path("run").exists()


def test_vectors_of_a_file_begin_an_embedding(tmp_path: Path) -> None:
    import sadari

    sadari.embed("toy-topics", out=tmp_path / "v", model={"width": 8, "min_count": 1, "epochs": 1})
    begin: Callable[..., Run] = lambda out, **model: fit(  # noqa: E731
        "embedding",
        "toy-topics",
        out=tmp_path / out,
        model={"vectors": str(tmp_path / "v"), **model},
        reading={"tokenizer": "words"},
        budget="1steps",
        train={"learning_rate": 1e-9, "weight_decay": 0.0},
    )
    run = begin("run", width=8)
    vectors = sadari.vectors.WordVectors.load(tmp_path / "v")
    words = [run.spec.tokenizer.token(i).strip() for i in range(run.spec.width)]
    known = [i for i, word in enumerate(words) if word in vectors.index]
    assert len(known) > 20
    mine = run.model.embedding.weight.detach()
    for i in known[:10]:
        assert mine[i].numpy() == pytest.approx(vectors.matrix[vectors.index[words[i]]], abs=1e-4)
    with pytest.raises(
        SadariError, match="these vectors have 8 numbers a word, the embedding 9; use --width 8"
    ):
        begin("other", width=9)


@pytest.mark.parametrize(
    ("said", "text", "token"),
    [
        ("microseconds a row", "microseconds a text", "microseconds a token"),
        ("{rows:,} test rows", "{rows:,} test texts", "{rows:,} test tokens"),
        ("시험 {rows:,}행의 점수", "시험 {rows:,}편의 점수", "시험 {rows:,}개의 점수"),
        ("256행을 한꺼번에, 한 행씩", "256편을 한꺼번에, 한 편씩", "256개를 한꺼번에, 한 개씩"),
        ("지금 있는 행으로", "지금 있는 글로", "지금 있는 토큰으로"),
        ("실행은 진행 중인 행렬", "실행은 진행 중인 행렬", "실행은 진행 중인 행렬"),
    ],
)
def test_sentences_about_rows_are_said_of_texts_and_tokens(said: str, text: str, token: str) -> None:
    assert (in_unit(said, "row"), in_unit(said, "text"), in_unit(said, "token")) == (said, text, token)
    assert unit_of("series", "classify") == "row"
    assert unit_of("text", "language") == "document" and unit_of("text", "language", price=True) == "token"

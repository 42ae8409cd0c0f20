"""A whole climb of pairs: scores with intervals, samples, the report, and what such runs do afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sadari.cli import run as command
from sadari.climbing import Climb, climb
from sadari.data.toy_pairs import reverse
from sadari.errors import SadariError
from sadari.fitting import fit, plan_fit
from sadari.ladder import ladder_for
from sadari.metrics import METRICS
from sadari.runs import Run

RUNGS = ladder_for("translate", "pairs").names


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "digits.tsv"
    frame = reverse(1500, longest=6, numbers=10)
    frame.write_csv(path, separator="\t")
    return path


@pytest.fixture(scope="module")
def made(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Climb:
    out = tmp_path_factory.mktemp("climb") / "c"
    reading = {"tokenizer": "words"}
    return climb(digits, kind="pairs", reading=reading, budget="15steps", starts=1, lang="ko", out=out)


@pytest.mark.parametrize(
    "rung", [pytest.param(rung, marks=pytest.mark.proof(rung, "climbed")) for rung in RUNGS]
)
def test_every_rung_has_score_interval_price_and_run(made: Climb, rung: str) -> None:
    entry = next(entry for entry in made.rungs if entry["name"] == rung)
    assert entry["low"] <= entry["score"] <= entry["high"] and 0 <= entry["score"] <= 100
    assert entry["microseconds_per_example"] > 0 and entry["bytes"] > 0
    run = Run.load(made.path / entry["run"])
    test = run.data().test
    assert METRICS["bleu"].score(run.answers(test), np.zeros(len(test.references))) == pytest.approx(
        entry["score"]
    )
    assert run.answers(test).shape[0] == made.content["data"]["split"]["test"]


def test_all_translate_the_same_ten_unpicked_sources_and_no_judge_stands_beside(made: Climb) -> None:
    samples = made.content["samples"]
    assert len(samples["sources"]) == len(samples["targets"]) == 10
    assert list(samples["written"]) == RUNGS and all(
        len(texts) == 10 for texts in samples["written"].values()
    )
    for source, target in zip(samples["sources"], samples["targets"], strict=True):
        assert source.split() == target.split()[::-1]
    assert not [entry for entry in made.rungs if entry["outside"]]
    assert made.content["metric"]["name"] == "bleu" and made.content["metric"]["beside"] == "chrf"
    report = (made.path / "report.html").read_text(encoding="utf-8")
    signed = made.content["metric"]["signatures"]
    assert list(signed) == ["BLEU", "chrF"]
    assert all(f"{name} {said}" in report and "|version:" in said for name, said in signed.items())
    assert "고르지 않은 시험 쌍 열 개" in report and samples["sources"][3] in report and "심판" not in report


def test_a_run_of_pairs_answers_texts_rows_and_files(
    made: Climb, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sadari(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        return command([str(word) for word in words]), *capsys.readouterr()

    run = Run.load(made.path / "lookup")
    assert run.translate(["1 2 3", ""])[1] == ""
    rows = pl.DataFrame({run.spec.source: ["1 2 3", "4 5"]})
    answers = run.predict(rows)["prediction"].to_list()
    assert answers == run.translate(["1 2 3", "4 5"])
    rows.write_csv(tmp_path / "rows.csv")
    code, out, _ = sadari("predict", run.path, tmp_path / "rows.csv")
    assert code == 0 and pl.read_csv(out.strip())["prediction"].cast(pl.String).to_list() == answers
    assert sadari("predict", run.path, "1 2 3")[:2] == (0, answers[0] + "\n")
    with pytest.raises(
        SadariError, match="--probabilities needs classes, but this run predicts text; leave it out"
    ):
        run.predict(rows, probabilities=True)
    code, _, err = sadari("predict", run.path, tmp_path / "rows.csv", "--probabilities")
    assert code == 2 and "this run predicts text" in err
    code, _, err = sadari("predict", run.path, "--fooo")
    assert code == 2 and "--fooo is no option of predict; sadari predict --help shows them" in err


@pytest.fixture(scope="module")
def letters(digits: Path) -> Path:
    """The same with targets in letters, so that a vocabulary for each side makes two."""
    path = digits.with_name("letters.tsv")
    frame = pl.read_csv(digits, separator="\t", infer_schema=False)
    spelt = pl.col(frame.columns[1]).str.replace_many([*"0123456789"], [*"abcdefghij"])
    frame.with_columns(spelt).write_csv(path, separator="\t")
    return path


def test_one_table_for_two_vocabularies_is_refused(letters: Path) -> None:
    asked = {"kind": "pairs", "reading": {"tokenizer": "words", "separate": True}}
    assert plan_fit("lstm", letters, **asked).config["model"]["share"] is False  # type: ignore[arg-type]
    with pytest.raises(
        SadariError, match="--share needs one vocabulary for both sides; leave it out, or leave out"
    ):
        plan_fit("lstm", letters, model={"share": True}, **asked)  # type: ignore[arg-type]


def test_separate_vocabularies_come_back_with_the_run(letters: Path, tmp_path: Path) -> None:
    reading = {"tokenizer": "words", "separate": True}
    run = fit(
        "lstm",
        letters,
        kind="pairs",
        reading=reading,
        budget="5steps",
        model={"width": 8},
        out=tmp_path / "r",
    )
    assert (run.path / "tokenizer-source.json").is_file()
    again = Run.load(run.path)
    assert not again.spec.shared and again.translate(["1 2 3"]) == run.translate(["1 2 3"])
    prepared = again.data()
    assert np.array_equal(again.answers(prepared.test), run.answers(prepared.test))
    (run.path / "tokenizer-source.json").unlink()
    with pytest.raises(SadariError, match=r"tokenizer-source\.json cannot be read .*; fit the run again"):
        Run.load(run.path)


def test_another_loss_is_refused(digits: Path) -> None:
    with pytest.raises(
        SadariError, match="--loss binary does not go with task translate, whose loss is cross-entropy"
    ):
        plan_fit("lstm", digits, kind="pairs", loss="binary")


def test_the_command_says_what_the_answer_makes_of_a_source(
    made: Climb, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same climb again, from its folder, and its last lines."""
    words = [
        "climb",
        digits,
        "--kind",
        "pairs",
        "--tokenizer",
        "words",
        "--budget",
        "15steps",
        "--starts",
        "1",
    ]
    assert command([*map(str, words), "--out", str(made.path), "--lang", "en"]) == 0
    said = capsys.readouterr()
    rung, samples = made.content["verdict"]["rung"], made.content["samples"]
    expected = f"{rung}: {samples['sources'][0]} → {samples['written'][rung][0]}"
    assert expected in " ".join(said.err.split()) + " ".join(said.out.split())
    assert said.out.splitlines()[-1] == str(made.path)

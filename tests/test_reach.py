"""How long a target may become: learnt from the pairs, kept in the run, obeyed by every search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadari.data.prepare import Prepared
from sadari.data.prepare_pairs import REACH, prepare_pairs, recoded
from sadari.data.spec_pairs import PairSpec
from sadari.data.tokenizers import train_tokenizer
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.inspection.pairs import translated
from sadari.runs import SPEC, Run
from sadari.search import Searching

WORDS = "나무 물 불 river stone 바람 light 길 door 구름 field snow".split()  # noqa: SIM905


def answers(rows: int = 150, longest: int = 60) -> pl.DataFrame:
    """Questions of three words, answers of ten to sixty."""
    draw = np.random.default_rng(0)
    texts = [" ".join([str(k), *draw.choice(WORDS, 2)]) for k in range(rows)]
    told = [" ".join([str(k), *draw.choice(WORDS, draw.integers(9, longest))]) for k in range(rows)]
    return pl.DataFrame({"question": texts, "answer": told})


def spec_of(prepared: Prepared) -> PairSpec:
    assert isinstance(prepared.spec, PairSpec)
    return prepared.spec


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("reach")
    answers().write_csv(folder / "faq.csv")
    return fit(
        "lookup",
        folder / "faq.csv",
        target="answer",
        kind="pairs",
        reading={"tokenizer": "words"},
        out=folder / "run",
    )


def test_it_is_what_nearly_all_training_pairs_need() -> None:
    prepared = prepare_pairs(answers(), tokenizer="words")
    spec = spec_of(prepared)
    sources, targets = ((array >= 0).sum(1) for array in (prepared.train.features, prepared.train.targets))
    written = targets - 2  # without START and END
    assert spec.reach == (written - 2 * sources).max() > REACH
    limits = spec.limits(sources)
    assert limits is not None and (written <= limits).all()


def test_one_odd_pair_of_thousands_does_not_stretch_it() -> None:
    frame = answers(3000, longest=10)
    odd = pl.Series([text + " 물" * 70 * (k in (1, 2)) for k, text in enumerate(frame["answer"])])
    assert spec_of(prepare_pairs(frame.with_columns(answer=odd), tokenizer="words")).reach == REACH


def test_translations_and_summaries_keep_twice_and_ten() -> None:
    frame = answers()
    assert spec_of(prepare_pairs(frame, target="question", tokenizer="words")).reach == REACH
    same = frame.with_columns(answer=pl.col("question").str.reverse())
    assert spec_of(prepare_pairs(same, tokenizer="words")).reach == REACH


def test_another_tokenizer_has_its_own() -> None:
    prepared = prepare_pairs(answers(), tokenizer="words")
    letters = spec_of(recoded(prepared, train_tokenizer(WORDS, "characters", 200)))
    assert (letters.reach or 0) > (spec_of(prepared).reach or 0)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=9), st.integers(10, 500), st.integers(2, 512))
def test_it_grows_with_the_source_and_never_beyond_the_length(
    lengths: list[int], reach: int, length: int
) -> None:
    tokenizer = train_tokenizer(WORDS, "words", 60)
    spec = PairSpec("a", "b", tokenizer, tokenizer, length, reach=reach)
    limits = spec.limits(sorted(lengths))
    assert limits is not None
    assert (np.diff(limits) >= 0).all() and (limits <= length).all()
    assert all(
        most == min(2 * size + reach, length) for size, most in zip(sorted(lengths), limits, strict=True)
    )
    assert PairSpec("a", "b", tokenizer, tokenizer, length).limits(lengths) is None


def test_answers_come_whole_unless_they_are_cut_by_wish(run: Run) -> None:
    frame = run.data().table.frame.collect()[run.data().split.train]
    sources, targets = frame["question"].to_list(), frame["answer"].to_list()
    assert run.translate(sources) == targets
    assert run.translate(sources, max_tokens=4) == [text[:4] for text in targets]  # it writes letters
    for beam in (1, 3):
        found = translated(run, sources[:9], Searching(beam=beam))
        assert [run.spec.decode(one[0].tokens) for one in found] == targets[:9]


def test_a_run_from_before_still_writes_twice_and_ten(run: Run, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for path in run.path.iterdir():
        if path.is_file():
            (old / path.name).write_bytes(path.read_bytes())
    content: dict[str, Any] = json.loads((old / SPEC).read_text())
    assert content.pop("reach") == run.spec.reach
    (old / SPEC).write_text(json.dumps(content))
    again = Run.load(old)
    assert again.spec.reach is None
    (wanted,) = run.translate(["3 물 불"])
    assert again.translate(["3 물 불"]) == [wanted[: 2 * len("3 물 불.") + 10]] and len(wanted) > 22
    with pytest.raises(SadariError, match=r"spec.json is no spec of pairs \(ValueError: invalid literal"):
        PairSpec.from_json({**content, "reach": "far"}, run.spec.tokenizer)


def test_a_batch_has_room_for_what_its_targets_may_become(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import sadari.translate as module

    rows: list[int] = []
    real = module.search

    def watched(model: Any, sources: Any, *about: Any, **more: Any) -> Any:
        rows.append(len(sources))
        return real(model, sources, *about, **more)

    monkeypatch.setattr(module, "search", watched)
    lines = [f"{k} 물 불" for k in range(40)]
    found = [line.text for line in module.translate_lines(run, lines, batch_tokens=100)]
    most = int(run.spec.limits([6])[0])  # letters and END
    assert found == run.translate(lines) and max(rows[:-1]) == max(100 // (most // module.FAR), 1) < 100 // 6

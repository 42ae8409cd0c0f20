"""What a language model expects next; and the views of all data, on a run that counts words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sadari.charts import save
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.inspection import look, views_for
from sadari.runs import Run


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit("n-gram", "toy-grammar", out=tmp_path_factory.mktemp("runs") / "grammar")


@pytest.mark.proof("n-gram", "inside")
def test_the_likeliest_tokens_are_those_that_were_counted(grammar: Run, tmp_path: Path) -> None:
    """After "The small" the grammar has a few nouns; the odds fall, and few choices are left of hundreds."""
    view = look(grammar, "following", text="The small", top=8)
    odds, tokens = view.arrays["odds"], [str(token).strip("▁ ") for token in view.arrays["token"]]
    assert (np.diff(odds) <= 0).all() and 0.7 < odds.sum() <= 1
    assert any(token.startswith(("cat", "dog", "child", "bird")) for token in tokens)
    assert view.facts["choices"] < 20 < view.facts["vocabulary"]
    files = save(view, tmp_path, "ko")
    assert files[0].read_bytes().startswith(b"\x89PNG")


def test_without_a_text_a_document_begins(grammar: Run) -> None:
    view = look(grammar, "following")
    assert view.facts["text"] and len(view.arrays["odds"]) == 10
    with pytest.raises(SadariError, match="--top 0 shows nothing; give 1 or more"):
        look(grammar, "following", top=0)


@pytest.mark.proof("one-hot", "inside")
def test_a_bag_of_words_is_opened_as_tables_are(tmp_path: Path) -> None:
    """Confusion and calibration count texts, not rows, and say so in both languages."""
    run = fit("one-hot", "toy-order", out=tmp_path / "run")
    assert views_for("classify", "one-hot", "text") == ["calibration", "confusion"]
    view = look(run, "confusion")
    assert view.arrays["matrix"].sum() == len(run.data().validation.targets)
    assert 0.3 < view.facts["accuracy"] < 0.7  # the order tells, and a bag has none
    seen = look(run, "calibration")
    words = " ".join((*view.caption, *view.see, *seen.caption, *seen.see))
    assert "rows" not in words and "texts" in words and "글" in words

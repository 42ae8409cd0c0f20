"""Speed: every rate is there and drawn; what it counts, not how fast this machine is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sadari.charts import draw
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.inspection import look, views_for
from sadari.inspection import speed as timing
from sadari.inspection.speed import KINDS, born, measure, multiply_adds, train_rate, write_rate

TINY = {"rnn": {"width": 12}, "lstm": {"width": 12}, "transformer": {"width": 24, "heads": 2}}


@pytest.mark.parametrize(
    "rung", [pytest.param(rung, marks=pytest.mark.proof(rung, "inside")) for rung in KINDS]
)
def test_times_all_three_kinds_at_the_runs_width(rung: str, tmp_path: Path) -> None:
    run = fit(rung, "toy-order", out=tmp_path / rung, budget="3steps", model=TINY[rung])
    assert "speed" in views_for("classify", rung, "text")
    view = look(run, "speed", lengths=(64, 16))
    assert view.arrays["lengths"].tolist() == [16, 64]
    assert view.facts["width"] == TINY[rung]["width"]
    for kind in KINDS:
        for way in ("", "_written"):
            assert view.arrays[f"{kind}{way}"].shape == (2,) and (view.arrays[f"{kind}{way}"] > 0).all()
    for lang in ("en", "ko"):
        assert draw(view, lang) is not None
        assert draw(view, lang, width=340) is not None
    assert "64 products that wait for each other" in view.see[0] and "64토큰을 하나씩" in view.see[1]


def test_says_what_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rates = {kind: np.array([1000.0, 500.0]) for kind in KINDS}
    rates |= {f"{kind}_written": np.array([80.0, 20.0]) for kind in KINDS}
    rates["lstm"], rates["lstm_written"] = np.array([5234.0, 5123.4]), np.array([800.0, 816.0])
    monkeypatch.setattr(timing, "measure", lambda *_: rates)
    run = fit("lstm", "toy-order", out=tmp_path / "lstm", budget="3steps", model=TINY["lstm"])
    view = look(run, "speed", lengths=(32, 1024))
    assert view.title[0] == (
        "At 1,024 tokens, lstm trains fastest with 5,100 tokens a second, and lstm writes fastest with 820"
    )
    assert "the 2 texts that share it" in view.see[0] and "where 64 texts share each." in view.see[0]
    assert "lstm keeps 102% of its speed, a transformer 25%" in view.see[0]
    assert "lstm은 102%, transformer는 25% 남습니다" in view.see[1]
    work = 3e-9 * 500 * 2 * 12 * 12  # an rnn of width 12 multiplies by two matrices, forwards and twice back
    assert view.arrays["rnn_work"][1] == pytest.approx(work)


def test_multiply_adds_are_those_of_the_weights_and_of_looking_back() -> None:
    assert multiply_adds("rnn", 10, 2, 99) == 4 * 100
    assert multiply_adds("lstm", 10, 2, 99) == 16 * 100
    assert multiply_adds("transformer", 10, 2, 99) == 2 * (12 * 100 + 2 * 10 * 50)


def test_each_length_trains_on_as_many_tokens_and_writes_after_a_text_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, int]] = []

    class Counting(torch.nn.Module):
        weight = torch.nn.Parameter(torch.ones(()))

        def hidden(self, tokens: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
            seen.append(tuple(tokens.shape))  # type: ignore[arg-type]
            return self.weight * torch.ones(tokens.shape), state

        def start(self, batch: int) -> None:
            assert batch == 1

    model = Counting()
    for length in (32, 256):
        assert train_rate(model, length, 512) > 0
    assert seen == [(16, 32), (2, 256)]
    seen.clear()
    assert write_rate(model, 100) > 0
    assert seen == [(1, 100)] + [(1, 1)] * timing.WRITTEN


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_grows_with_the_text_only_where_it_is_looked_back_on(kind: str) -> None:
    """What the picture of writing rests on, in numbers kept instead of seconds."""
    model: Any = born(kind, 32, 2, 512)

    def kept(length: int) -> int:
        with torch.inference_mode():
            _, state = model.hidden(torch.zeros(1, length, dtype=torch.int64), model.start(1))
        if kind == "transformer":
            return sum(part[:, :, : state.length].numel() for part in (*state.keys, *state.values))
        return sum(part.numel() for part in state)

    assert kept(300) == (10 * kept(30) if kind == "transformer" else kept(30))


def test_the_callers_random_numbers_stay() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    measure(16, 1, [4, 8], rounds=1, together=16)
    assert torch.equal(torch.rand(3), expected)


def test_lengths_that_make_no_curve_are_told(tmp_path: Path) -> None:
    run = fit("lstm", "toy-order", out=tmp_path / "lstm", budget="3steps", model=TINY["lstm"])
    with pytest.raises(SadariError, match="--lengths 32: a curve needs two lengths or more, from 1 up"):
        look(run, "speed", lengths=(32, 32))
    with pytest.raises(SadariError, match="--lengths 0 32"):
        look(run, "speed", lengths=(0, 32))

"""Gates: one unit's values are those of torch's own cell, step by step, over tokens that people can read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sadari.charts import draw, png
from sadari.charts.memory import _short
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.inspection import look
from sadari.inspection.gates import MOST


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """small_run(rung, data, **settings): fitted briefly, once."""
    folder, known = tmp_path_factory.mktemp("runs"), {}

    def fit_once(rung: str, data: str, width: int = 6, **settings: Any) -> Any:
        key = f"{rung}-{data}-{width}"
        if key not in known:
            model = {"width": width, **settings.pop("model", {})}
            known[key] = fit(rung, data, out=folder / key, budget="20steps", model=model, **settings)
        return known[key]

    return fit_once


@pytest.mark.parametrize(
    "rung", [pytest.param(rung, marks=pytest.mark.proof(rung, "inside")) for rung in ("lstm", "attention")]
)
def test_shows_one_unit_along_a_text(rung: str, small_run: Any) -> None:
    run = small_run(rung, "toy-recall")
    view = look(run, "gates")
    tokens = view.arrays["token"]
    assert 2 <= len(tokens) <= MOST and all(tokens)
    for gate in ("forget", "input", "output"):
        assert len(view.arrays[gate]) == len(tokens)
        assert ((view.arrays[gate] > 0) & (view.arrays[gate] < 1)).all()
    assert view.facts["unit"] in range(1, 7) and view.facts["layer"] == 1
    assert view.facts["kept"] == pytest.approx(np.median(view.arrays["forget"]))
    assert view.facts["drops"] == (view.arrays["forget"] < 0.5).sum()
    assert view.see[0].startswith("Where the forget gate is open") and "망각 게이트가" in view.see[1]
    for lang in ("en", "ko"):
        for width in (680, 340):
            assert draw(view, lang, width) is not None


@pytest.mark.parametrize("unit", [1, 6])
def test_equals_torchs_own_cell_step_by_step(unit: int, small_run: Any) -> None:
    run = small_run("lstm", "toy-recall", model={"directions": 2, "layers": 2})
    view = look(run, "gates", text="봄이 왔다 spring", unit=unit, layer=1)
    core = run.model.lstm
    cell = nn.LSTMCell(6, 6)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cell.load_state_dict({name: getattr(core, f"{name}_l0") for name in names})
    tokens = run.spec.tokenizer.encode(["봄이 왔다 spring"])[0]
    assert len(view.arrays["token"]) == len(tokens)
    h, c = torch.zeros(1, 6), torch.zeros(1, 6)
    with torch.no_grad():
        for t, token in enumerate(tokens):
            x = run.model.embedding(torch.tensor([int(token)]))
            before = c
            h, c = cell(x, (h, c))
            k = unit - 1
            assert view.arrays["cell"][t] == pytest.approx(c[0, k].item(), abs=1e-6)
            shown = view.arrays["output"][t] * np.tanh(view.arrays["cell"][t])
            assert shown == pytest.approx(h[0, k].item(), abs=1e-6)
            new = c[0, k].item() - view.arrays["forget"][t] * before[0, k].item()
            assert abs(new) <= view.arrays["input"][t] + 1e-6  # input gate times tanh


def test_without_a_unit_the_one_that_moves_most_is_shown(small_run: Any) -> None:
    run = small_run("lstm", "toy-recall", model={"directions": 2, "layers": 2})
    text = "봄이 왔다 spring autumn and then"
    spread = [look(run, "gates", text=text, unit=k).arrays["cell"].std() for k in range(1, 7)]
    assert look(run, "gates", text=text).facts["unit"] == int(np.argmax(spread)) + 1


def test_tokens_are_read_as_people_write_them(small_run: Any) -> None:
    run = small_run("lstm", "toy-recall", model={"directions": 2, "layers": 2})
    words = look(run, "gates", text="autumn 그리고 조용했다").arrays["token"].tolist()
    assert words == ["autumn", "그리고", "조용했다"]  # whole letters, and no sign for a space


def test_a_language_model_and_a_series_are_opened_too(small_run: Any) -> None:
    run = small_run("lstm", "toy-grammar", task="language")
    assert len(look(run, "gates").arrays["token"]) > 5
    prompted = look(run, "gates", text="the")
    assert len(prompted.arrays["token"]) >= 2  # a prompt begins where a document ended
    assert prompted.caption[0].startswith("One unit of layer 1, read forwards over the text that was given")
    run = small_run("lstm", "wine", kind="series")
    view = look(run, "gates")
    assert len(view.arrays["token"]) == 13 and float(view.arrays["token"][0]) < 10
    with pytest.raises(SadariError, match="--text is for runs on texts; this one reads series of numbers"):
        look(run, "gates", text="one")


def test_a_long_text_breaks_into_lines_and_draws_hangul(small_run: Any) -> None:
    run = small_run("lstm", "toy-recall")
    view = look(run, "gates", text="가을 바람 " * 40)
    assert len(view.arrays["token"]) == MOST
    assert (
        len(draw(view, "ko", 340).to_dict()["vconcat"]) > len(draw(view, "ko", 680).to_dict()["vconcat"]) > 1
    )
    assert png(draw(view, "ko"))[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("value", "word"), [(0.874, ".87"), (-0.5, "−.50"), (1.234, "1.2"), (-12.3, "−12.3"), (0.0, ".00")]
)
def test_values_are_written_short(value: float, word: str) -> None:
    assert _short(value) == word


def test_what_is_not_there_is_said(small_run: Any) -> None:
    run = small_run("lstm", "toy-recall", model={"directions": 2, "layers": 2})
    with pytest.raises(SadariError, match="--unit 7: each layer of this lstm has units 1 to 6"):
        look(run, "gates", unit=7)
    with pytest.raises(SadariError, match="--layer 3: this lstm has layers 1 to"):
        look(run, "gates", layer=3)
    with pytest.raises(
        SadariError, match="the text has no token, so no gate moves; give another with --text"
    ):
        look(run, "gates", text="")

"""Attention view: exact weights of every head, rollout by its definition, words in shades, Korean legible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from sadari.charts import draw, png, save
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.inspection import look, views_for
from sadari.inspection.attention import MOST, reaches, rollout
from sadari.runs import Run
from tests.models.test_encoder import plant

SMALL = {"width": 16, "heads": 2, "layers": 2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """One small run of every rung that attends."""
    home = tmp_path_factory.mktemp("attending")
    found = {
        "transformer": fit("transformer", "toy-topics", out=home / "t", budget="40steps", model=SMALL),
        "attention": fit("attention", "toy-topics", out=home / "a", budget="20steps", model={"width": 8}),
        "gpt": fit(
            "transformer", "toy-grammar", task="language", out=home / "g", budget="10steps", model=SMALL
        ),
    }
    words = {
        word: torch.randn(16, generator=torch.Generator().manual_seed(i)) for i, word in enumerate(NOUNS)
    }
    weights = str(plant(home / "bert", words, scale=0.3))
    texts = [f"{NOUNS[i % 3]} {NOUNS[(i + 1) % 3]} {NOUNS[3 + i % 2]}" for i in range(40)]
    texts += [f"{NOUNS[3 + i % 3]} {NOUNS[3 + (i + 1) % 3]} {NOUNS[i % 2]}" for i in range(40)]
    pl.DataFrame({"text": texts, "kind": ["animal"] * 40 + ["하늘"] * 40}).write_csv(home / "nouns.csv")
    for rung in ("probe", "fine-tune"):
        model = {"weights": weights}
        found[rung] = fit(
            rung,
            home / "nouns.csv",
            target="kind",
            out=home / rung,
            budget="10steps",
            model=model,
            kind="text",
        )
    return found


NOUNS = ["cat", "dog", "cow", "rain", "snow", "sun"]


@pytest.mark.proof("transformer", "inside")
@pytest.mark.proof("probe", "inside")
@pytest.mark.proof("fine-tune", "inside")
@pytest.mark.parametrize("name", ["transformer", "probe", "fine-tune", "gpt"])
def test_shows_exact_weights_of_every_head(runs: dict[str, Run], name: str) -> None:
    """Rows sum to one, nothing looks ahead in a language model, and the fused path answers the same."""
    run = runs[name]
    view = look(run, "attention")
    weights, token = view.arrays["weights"], view.arrays["token"]
    T = len(token)
    heads = (1, 2) if name in ("probe", "fine-tune") else (2, 2)
    assert weights.shape == (*heads, T, T) and 3 <= T <= MOST
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    ahead = weights[:, :, *np.triu_indices(T, 1)]
    assert (ahead == 0).all() if name == "gpt" else (ahead > 0).any()
    assert view.arrays["answer"].sum() == pytest.approx(1, abs=1e-6) and (view.arrays["answer"] >= 0).all()
    tokens = torch.randint(0, run.spec.width, (2, 9))
    with torch.no_grad():
        plain, fused = run.model(tokens, lambda name, value: value), run.model(tokens)
    torch.testing.assert_close(plain, fused, rtol=0, atol=1e-5)


@pytest.mark.proof("attention", "inside")
def test_shows_the_one_row_of_an_lstm_with_attention(runs: dict[str, Run]) -> None:
    run = runs["attention"]
    text = "국 김치 bread and 밥"
    view = look(run, "attention", text=text)
    tokens = torch.from_numpy(run.spec.encode(pl.DataFrame({run.spec.text: [text]})))
    seen: dict[str, Any] = {}
    run.model(tokens, lambda name, value: seen.setdefault(name, value))
    np.testing.assert_allclose(view.arrays["answer"], seen["attention"][0].detach(), atol=1e-6)
    assert view.arrays["answer"].sum() == pytest.approx(1)
    assert "".join(view.arrays["token"].tolist()) == text.replace(" ", "")
    assert "weights" not in view.arrays
    with pytest.raises(
        SadariError, match="an LSTM with attention has one row of weights; leave out --layer and --head"
    ):
        look(run, "attention", layer=1, head=1)


def test_rollout_is_the_product_of_half_looked_at_and_half_kept() -> None:
    generator = np.random.default_rng(0)
    weights = generator.dirichlet(np.ones(5), size=(3, 2, 5))  # (L, H, T, T)
    steps = [0.5 * layer.mean(0) + 0.5 * np.eye(5) for layer in weights]
    np.testing.assert_allclose(rollout(weights), steps[2] @ steps[1] @ steps[0])
    np.testing.assert_allclose(rollout(weights).sum(-1), 1)
    nobody = np.zeros((1, 1, 2, 2))  # a token that may look nowhere keeps what it is
    np.testing.assert_allclose(rollout(nobody), np.eye(2))


def test_reach_counts_the_tokens_looked_at() -> None:
    one, even = np.eye(4), np.full((4, 4), 0.25)
    np.testing.assert_allclose(reaches(np.stack([one, even])[None]), [[1, 4]])


def test_the_answer_is_followed_to_where_it_is_read(runs: dict[str, Run], tmp_path: Path) -> None:
    """The mean of all places, the place of [CLS], or of a language model the last."""
    view = look(runs["transformer"], "attention")
    np.testing.assert_allclose(view.arrays["answer"], view.arrays["rollout"].mean(0), atol=1e-6)
    view = look(runs["gpt"], "attention")
    np.testing.assert_allclose(view.arrays["answer"], view.arrays["rollout"][-1], atol=1e-6)
    cls = fit(
        "transformer", "toy-topics", out=tmp_path / "cls", budget="2steps", model={**SMALL, "pooling": "cls"}
    )
    view = look(cls, "attention", text="국 김치")
    np.testing.assert_allclose(view.arrays["answer"], view.arrays["rollout"][0], atol=1e-6)
    assert view.arrays["token"].tolist() == ["[CLS]", "국", "김치"]
    assert view.facts["marks"] == [True, False, False]
    assert "[CLS]" in view.say("see", "en") and "[CLS]" not in view.say("title", "en")


def test_words_are_ranked_before_marks_and_parts_of_words_touch(runs: dict[str, Run]) -> None:
    view = look(runs["probe"], "attention", text="cats dog")
    assert view.arrays["token"].tolist() == ["[CLS]", "[UNK]", "dog", "[SEP]"]
    assert view.facts["marks"] == [True, False, False, True]
    answer = view.arrays["answer"]
    first = "dog" if answer[2] > answer[1] else "[UNK]"
    assert f"“{first}”: {answer[1:3].max():.0%}" in view.say("title", "en")
    korean = look(runs["transformer"], "attention", text="xyz 국")
    assert korean.facts["inside"][1] and not korean.facts["inside"][-1]
    assert korean.arrays["token"][-1] == "국"


def test_long_texts_are_cut_and_it_is_said(runs: dict[str, Run]) -> None:
    view = look(runs["gpt"], "attention", text="작은 " * 60)
    assert len(view.arrays["token"]) == MOST
    assert f"The first {MOST} of" in view.say("caption", "en") and "처음" in view.say("caption", "ko")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 3, "head": 1}, "--layer 3: this model's layers are 1 to 2"),
        ({"layer": 1, "head": 0}, "--head 0: this model's heads are 1 to 2"),
        ({"layer": 1}, "one head is shown by both its numbers; give --layer and --head, or neither"),
        ({"text": ""}, "the text has no tokens to look at; give one with --text"),
    ],
)
def test_what_cannot_be_shown_is_said(runs: dict[str, Run], options: dict[str, Any], message: str) -> None:
    with pytest.raises(SadariError, match=message):
        look(runs["transformer"], "attention", **options)


def test_fits_the_rungs_that_attend() -> None:
    for rung in ("attention", "transformer", "probe", "fine-tune"):
        assert "attention" in views_for("classify", rung, "text")
    assert "attention" in views_for("language", "transformer", "text")
    assert "attention" not in views_for("classify", "lstm", "text")


@pytest.mark.parametrize("width", [680, 340])
@pytest.mark.parametrize("name", ["transformer", "attention", "probe"])
def test_draws_text_and_heads(runs: dict[str, Run], name: str, width: int) -> None:
    view = look(runs[name], "attention")
    chart = draw(view, "ko", width)
    assert png(chart)[:4] == b"\x89PNG"
    shown = str(chart.to_dict())
    assert all(f"'{token}'" in shown for token in view.arrays["token"].tolist())
    images = shown.count("data:image/png")
    assert images == (0 if name == "attention" else int(np.prod(view.arrays["weights"].shape[:2])))


def test_one_head_is_drawn_large_with_its_tokens(runs: dict[str, Run], tmp_path: Path) -> None:
    view = look(runs["transformer"], "attention", text="국 김치 bread", layer=2, head=1)
    assert "2층 1번 헤드" in view.say("caption", "ko")
    shown = str(draw(view, "en", 680).to_dict())
    assert shown.count("'column':") == view.arrays["weights"][1, 0].size and "김치" in shown
    assert all(path.is_file() for path in save(view, tmp_path / "looks", "ko"))

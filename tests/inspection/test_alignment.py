"""Alignment: the model's own weights by words, the shape of many of them, Korean legible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sadari.charts import draw, png, save
from sadari.data.tokenizers import Tokenizer, train_tokenizer
from sadari.errors import SadariError
from sadari.inspection import look, views_for
from sadari.inspection.alignment import Shape, shape_of
from sadari.inspection.pairs import (
    END,
    Pairs,
    by_words,
    pairs_of,
    shown_token,
    sources_of,
    targets_of,
    words_of,
)
from sadari.runs import Run
from tests.inspection.small_pairs import Mirror, small

KOREAN = ["설정 메뉴를 엽니다", "파일을 저장합니다", "메뉴에서 파일을 고릅니다", "창을 닫습니다"]


def mirrored() -> Run:
    run = small("lstm-attention")
    return replace(run, model=Mirror(run.spec.outputs, run.spec.end))


@pytest.mark.proof("lstm-attention", "inside")
def test_reversed_numbers_are_read_from_back_to_front() -> None:
    """The argmax is the anti-diagonal; the picture's rows are the weights of the model, sums of one."""
    run = small("lstm-attention")
    view = look(run, "alignment", text="3 1 4 1 5")
    assert view.facts["antidiagonal"] > 0.85 > 0.3 > view.facts["diagonal"]
    assert view.facts["near_anti"] > 0.6 and view.facts["pairs"] == len(run.data().split.test)
    assert "from back to front" in view.title[0] and "뒤에서 앞으로" in view.title[1]
    weights = view.arrays["weights"]
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    source = sources_of(run, ["3 1 4 1 5"])
    written = run.spec.tokenizer.encode([view.facts["translation"]])[0].astype(np.int64)
    target = torch.tensor([[run.spec.start, *written]])
    with torch.no_grad():
        own = run.model.alignment(source, target)[0]  # type: ignore[operator]
    np.testing.assert_allclose(weights, own, atol=1e-5)  # words are tokens here
    assert view.arrays["source"].tolist() == ["3", "1", "4", "1", "5", END]
    assert view.arrays["target"].tolist() == [*view.facts["translation"].split(), END]


@pytest.mark.proof("transformer", "inside")
def test_a_transformer_shows_any_layer_and_head() -> None:
    """The default is the last layer's mean over heads; a layer is the mean of its heads."""
    run = small("transformer")
    seen = {
        (layer, head): look(run, "alignment", text="3 1 4", layer=layer, head=head).arrays["weights"]
        for layer in (None, 1, 2)
        for head in (None, 1, 2)
    }
    np.testing.assert_allclose(seen[None, None], seen[2, None], atol=1e-6)
    np.testing.assert_allclose(seen[None, 1], seen[2, 1])
    for layer in (1, 2):
        mean = (seen[layer, 1] + seen[layer, 2]) / 2
        np.testing.assert_allclose(seen[layer, None], mean, atol=1e-6)
    assert np.abs(seen[1, 1] - seen[2, 1]).max() > 0.01
    view = look(run, "alignment", layer=1, head=2)
    assert "Head 2 of layer 1" in view.caption[0] and "1층 2번 헤드" in view.caption[1]
    with pytest.raises(SadariError, match="--layer 3: this model's layers are 1 to 2"):
        look(run, "alignment", layer=3)
    with pytest.raises(SadariError, match="--head 0: this model's heads are 1 to 2"):
        look(run, "alignment", head=0)


def test_an_exact_mirror_has_every_step_on_the_antidiagonal() -> None:
    run = mirrored()
    shape = shape_of(run, pairs_of(run, "test", 40))
    assert shape.antidiagonal == shape.near_anti == 1 and shape.entropy == 0
    assert shape.diagonal is not None and shape.diagonal < 0.5
    view = look(run, "alignment", text="7 2 9")
    assert view.facts["translation"] == "9 2 7"
    np.testing.assert_array_equal(view.arrays["weights"][:3, :3], np.eye(3)[::-1])
    np.testing.assert_allclose(view.arrays["reach"], 1)


def test_shape_of_even_weights_is_the_share_of_places() -> None:
    """Every place alike: entropy ln S, and the weight near a diagonal is how many places are near."""
    run = small("lstm-attention")

    class Even(Mirror):
        def alignment(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            real = (source >= 0).float()
            return (real / real.sum(1, keepdim=True)).unsqueeze(1).expand(-1, target.shape[1], -1)

    run = replace(run, model=Even(run.spec.outputs, run.spec.end))
    shape = shape_of(run, Pairs(["1 2 3 4"] * 3, ["4 3 2 1"] * 3))
    assert shape.entropy == pytest.approx(np.log(5)) and (shape.pairs, shape.steps) == (3, 12)
    assert shape.near == shape.near_anti == pytest.approx(1 / 5)  # 4 words and END, one of them near
    short = shape_of(run, Pairs(["1"], ["1"]))
    assert short == Shape(None, None, None, None, pytest.approx(np.log(2)), 1, 1)


@pytest.mark.parametrize("kind", ["bpe", "unigram", "words"])
def test_pieces_of_syllables_and_words_are_put_together(kind: Any) -> None:
    """Whatever the pieces, the words are those between the spaces, and no broken letter is left."""
    texts = KOREAN * 5
    tokenizer = train_tokenizer(texts, kind, 310 if kind != "words" else 100)
    for text in [*KOREAN, "뷁 쀍을 엽니다"]:
        tokens = tokenizer.encode([text])[0].tolist()
        words, places = words_of(tokenizer, [*tokens, tokenizer.end])
        if kind != "words":
            assert len(tokens) > len(text.split())  # there was something to put together
            assert words == [*text.split(), END]
        assert len(words) == places.max() + 1 and (np.diff(places) >= 0).all() and words[-1] == END
        assert "�" not in "".join(words)


@given(st.lists(st.text("가나다 abc.,\n한", min_size=1, max_size=12), min_size=1, max_size=4), st.data())
def test_words_hold_all_of_a_text(texts: list[str], data: st.DataObject) -> None:
    tokenizer = _bpe()
    text = data.draw(st.sampled_from(texts))
    tokens = tokenizer.encode([text])[0].tolist()
    words, places = words_of(tokenizer, tokens)
    assert len(places) == len(tokens) and sorted(set(places.tolist())) == list(range(len(words)))
    said = [word for word in words if word.strip("▁↵")]  # white space that stands alone is shown by signs
    assert "".join("".join(said).split()) == "".join(text.split())


def _bpe(known: list[Tokenizer] = []) -> Tokenizer:  # noqa: B006 -- trained once
    if not known:
        known.append(train_tokenizer(KOREAN * 3, "bpe", 300))
    return known[0]


def test_weights_are_summed_over_source_words_and_averaged_over_written_ones() -> None:
    weights = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.0, 1.0, 0.0]])
    got = by_words(weights, np.array([0, 0, 1]), np.array([0, 0, 1]))
    np.testing.assert_allclose(got, [[0.5, 0.5], [1.0, 0.0]])


def test_characters_stay_apart_and_pieces_wear_a_hyphen() -> None:
    characters = train_tokenizer(["12+34", "5+67"], "characters", 30)
    assert words_of(characters, characters.encode(["12+5"])[0])[0] == ["1", "2", "+", "5"]
    tokenizer = _bpe()
    tokens = tokenizer.encode(["메뉴 파일을"])[0].tolist()
    names = [shown_token(tokenizer, token) for token in [*tokens, tokenizer.end]]
    assert names[-1] == END and any(name.startswith("-") for name in names) and "▁" not in "".join(names)


def test_an_example_is_of_middling_length_and_a_wrong_text_names_the_right_one() -> None:
    run = small("lstm-attention")
    pairs = pairs_of(run, "test")
    lengths = sorted(len(source.split()) for source in pairs.sources)
    view = look(run, "alignment")
    assert len(view.facts["text"].split()) in range(lengths[len(lengths) // 2] - 1, lengths[-1] + 1)
    told = f"“{view.facts['reference']}”" in view.caption[0]
    assert told is (view.facts["translation"] != view.facts["reference"])
    assert targets_of(run, [view.facts["reference"]])[0, 0] == run.spec.start


def test_long_texts_are_cut_and_it_is_said() -> None:
    view = look(mirrored(), "alignment", text=" ".join("1234567" * 9))
    assert view.arrays["weights"].shape == (40, 40)
    assert "The first 40 words of a side." in view.caption[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": " "}, "the text has no words to look at; give some with --text"),
        ({"head": 1}, "a lstm-attention has one row of weights a step; leave out --layer and --head"),
        ({"part": "all"}, "part 'all' is no part of the split; choose train, validation or test"),
    ],
)
def test_what_cannot_be_shown_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SadariError, match=message):
        look(small("lstm-attention"), "alignment", **options)


def test_a_rung_without_attention_names_those_that_have_it() -> None:
    run = small("lstm")
    message = (
        r"does not fit a lstm .*: bottleneck, forcing, beam \(alignment opens: lstm-attention, transformer\)"
    )
    with pytest.raises(SadariError, match=message):
        look(run, "alignment")
    assert views_for("translate", "lookup", "pairs") == ["bottleneck"]


@pytest.mark.parametrize("width", [680, 340])
def test_draws_words_of_both_sides(width: int, tmp_path: Path) -> None:
    view = look(small("lstm-attention"), "alignment", text="3 1 4 1 5 9 2 6")
    chart = draw(view, "ko", width)
    assert png(chart)[:4] == b"\x89PNG"
    shown = str(chart.to_dict())
    assert shown.count("'column':") == view.arrays["weights"].size
    assert all(path.is_file() for path in save(view, tmp_path / "looks", "en"))

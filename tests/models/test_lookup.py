"""Lookup: equal to scikit-learn's tf-idf and cosine, its answers as any writer's, its pairs saved."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer
from torch import Tensor

from sadari.errors import SadariError
from sadari.losses import make_loss
from sadari.models import lookup
from sadari.models.lookup import NEVER, SURE, Lookup, LookupConfig

SIGNS = " abcdefghijklm가나다."
START, END = 1, 2
V = 3 + len(SIGNS)
LOSS = make_loss("cross-entropy", classes=V)


def tokens(text: str) -> list[int]:
    return [3 + SIGNS.index(sign) for sign in text] + [END]


def padded(rows: list[list[int]]) -> Tensor:
    full = torch.full((len(rows), max([1, *map(len, rows)])), -1, dtype=torch.int32)
    for row, each in enumerate(rows):
        full[row, : len(each)] = torch.tensor(each, dtype=torch.int32)
    return full


def sources(texts: list[str]) -> Tensor:
    return padded([tokens(text) for text in texts])


def solved(pairs: list[tuple[str, str]], order: int = 4) -> Lookup:
    model = Lookup(LookupConfig(order), V, V)
    targets = padded([[START, *tokens(target)] for _, target in pairs])
    facts = model.solve(sources([source for source, _ in pairs]), targets, LOSS)
    assert facts == {"iterations": 1, "converged": True, "notes": []}
    return model


def answers(model: Lookup, texts: list[str]) -> list[str]:
    found = model.answer(sources(texts)).tolist()
    assert all(END in row for row in found)
    return ["".join(SIGNS[token - 3] for token in row[: row.index(END)]) for row in found]


PAIRS = [("abc.", "가"), ("abd.", "나"), ("klm.", "다"), ("klm abc", "가나"), ("mmm", "다다")]
TEXT = st.text(st.sampled_from(SIGNS), max_size=12)


def reference(sources: list[str], query: str, order: int) -> np.ndarray:
    """Cosine of (1 + ln tf) ln(N / df) over runs of characters, END a character, by scikit-learn's counts."""

    def runs(text: str) -> list[str]:  # its own analyzer "char" takes two spaces for one
        return [text[i : i + n] for n in range(1, order + 1) for i in range(len(text) - n + 1)]

    counter = CountVectorizer(analyzer=runs)
    counts = counter.fit_transform([text + "|" for text in sources]).toarray().astype(float)
    weights = np.log(len(sources) / (counts > 0).sum(0))
    known = counter.transform([query + "|"]).toarray().astype(float)
    each, asked = (np.where(c > 0, 1 + np.log(np.maximum(c, 1)), 0) * weights for c in (counts, known))
    length = np.linalg.norm(each, axis=1) * np.linalg.norm(asked)
    return np.divide(each @ asked[0], length, out=np.zeros(len(sources)), where=length > 0)


@pytest.mark.proof("lookup", "parity")
@given(st.lists(TEXT, min_size=1, max_size=9), st.lists(TEXT, min_size=1, max_size=5), st.integers(1, 5))
@settings(deadline=None, max_examples=150)
def test_the_nearest_is_scikit_learns(train: list[str], queries: list[str], order: int) -> None:
    places = [f"{SIGNS[1 + i]}" for i in range(len(train))]
    model = solved(list(zip(train, places, strict=True)), order)
    for query, answer in zip(queries, answers(model, queries), strict=True):
        likeness = reference(train, query, order)
        best = likeness.max()
        if best < 1e-9:
            assert answer == places[0], "each target once: the first"
        else:
            assert likeness[places.index(answer)] == pytest.approx(best, rel=1e-5)


@pytest.mark.proof("lookup", "claim")
@given(st.lists(TEXT, min_size=2, max_size=12, unique=True))
@settings(deadline=None)
def test_what_was_met_is_answered_as_it_was(train: list[str]) -> None:
    model = solved([(text, text[::-1]) for text in train], order=3)
    found = answers(model, train)
    for text, answer in zip(train, found, strict=True):
        assert (
            answer == text[::-1] or reference(train, text, 3).max() < 1e-9 or sorted(text) == sorted(answer)
        )


def test_the_first_of_equals_and_the_most_frequent_of_all() -> None:
    model = solved([("abc", "가"), ("abc", "나"), ("klm", "나"), ("ddd", "다"), ("eee", "다")])
    assert answers(model, ["abc", "abcc"]) == ["가", "가"], "the first in training order"
    assert answers(model, ["", "fff"]) == ["나", "나"], "nothing in common: the first of the most frequent"


def test_a_batch_is_its_rows_one_by_one_and_padding_changes_nothing(monkeypatch) -> None:
    model = solved(PAIRS)
    texts = ["abc", "klm abd.", "", "mm", "가나다", "abd abd abd"]
    together = answers(model, texts)
    assert together == [answers(model, [text])[0] for text in texts]
    wide = torch.nn.functional.pad(sources(texts), (0, 5), value=-1)
    assert torch.equal(model.answer(wide), model.answer(sources(texts)))
    monkeypatch.setattr(lookup, "TOGETHER", 2)
    assert together == answers(model, texts)
    nothing = torch.full((2, 3), -1)
    assert torch.equal(model.answer(nothing), model.answer(sources(["", ""])))


def test_its_logits_are_sure_of_the_found_target() -> None:
    model = solved(PAIRS)
    source = sources(["klm abc", "mmm"])
    target = padded([[START, *tokens("가나")], [START, *tokens("다")]])
    seen: dict[str, Tensor] = {}
    logits = model(source, target, lambda name, value: seen.setdefault(name, value))
    assert seen["output"] is logits and logits.shape == (2, 4, V)
    assert set(logits.unique().tolist()) == {SURE, NEVER}
    assert logits.argmax(-1).tolist() == [[*tokens("가나"), END], [*tokens("다다"), END]]
    assert (logits == SURE).sum(-1).eq(1).all()


def test_steps_write_what_one_pass_foretells() -> None:
    model = solved(PAIRS)
    source = sources(["klm abc", "mmm", "abc."])
    target = padded([[START, *tokens("가나가나")]] * 3)
    whole = model(source, target)
    state = model.start(source)
    for t in range(target.shape[1]):
        logits, state = model.step(target[:, t : t + 1], state)
        assert torch.equal(logits, whole[:, t])
    forced, _ = model.step(target[:, :3], model.start(source))
    assert torch.equal(forced, whole[:, 2]), "several tokens at once"


def test_a_state_can_be_put_in_another_order() -> None:
    model = solved(PAIRS)
    source = sources(["klm abc", "mmm"])
    _, state = model.step(torch.full((2, 1), START), model.start(source))
    rows = torch.tensor([1, 0, 1])
    logits, _ = model.step(torch.full((3, 1), 5), model.reorder(state, rows))
    expected, _ = model.step(torch.full((2, 1), 5), state)
    assert torch.equal(logits, expected[rows])


def test_its_pairs_come_back_from_a_file(tmp_path: Path) -> None:
    model = solved(PAIRS)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "w.safetensors")
    again = Lookup(LookupConfig(), V, V)
    again.load_state_dict(safetensors.torch.load_file(tmp_path / "w.safetensors"))
    texts = ["abc", "klm", "", "다"]
    assert answers(again, texts) == answers(model, texts)
    assert model.sources.dtype == model.targets.dtype == torch.int32
    assert [int(b) - int(a) for a, b in pairwise(model.source_starts)] == [len(s) + 1 for s, _ in PAIRS]
    again.solve(sources(["a"]), padded([[START, *tokens("b")]]), LOSS)
    assert answers(again, ["abc"]) == ["b"], "what is solved anew is looked up anew"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("source_starts", [0, 5, 3, 9, 17, 21], "source_starts do not cut sources into texts"),
        ("target_starts", [0, 2], "target_starts do not cut targets into texts"),
        ("targets", [99] * 12, "targets hold a token outside the vocabulary of 21"),
        ("sources", [[1]], "sources and source_starts are no lists"),
    ],
)
def test_a_file_that_is_unfit_is_refused(name: str, value: list, problem: str) -> None:
    state = dict(solved(PAIRS).state_dict())
    state[name] = torch.tensor(value, dtype=state[name].dtype)
    with pytest.raises(RuntimeError, match=problem):
        Lookup(LookupConfig(), V, V).load_state_dict(state)


def test_unequal_sides_of_a_file_are_refused() -> None:
    state = dict(solved(PAIRS).state_dict())
    state["targets"], state["target_starts"] = state["targets"][:2], state["target_starts"][:2]
    with pytest.raises(RuntimeError, match="sources and targets differ in number"):
        Lookup(LookupConfig(), V, V).load_state_dict(state)


def test_what_cannot_be_kept_is_refused() -> None:
    model = Lookup(LookupConfig(), 5, V)
    with pytest.raises(SadariError, match="there is no pair to look up; solve the model on some first"):
        model.answer(sources(["a"]))
    with pytest.raises(SadariError, match="there is no pair to keep; give at least one"):
        model.solve(sources([]), sources([]), LOSS)
    with pytest.raises(SadariError, match="token 6 of a source lies outside the vocabulary of 5; encode"):
        model.solve(sources(["c"]), padded([[START, *tokens("c")]]), LOSS)
    with pytest.raises(SadariError, match="order 9: 1 to 8 characters in a row are compared; use order=4"):
        LookupConfig(order=9)


def test_it_is_solved_and_has_no_number_of_parameters() -> None:
    model = solved(PAIRS)
    assert model.can_solve(LOSS) and not list(model.parameters())
    assert Lookup.parameter_count(LookupConfig(), V, V) is None
    assert Lookup.macs(LookupConfig(), V, V, 7) == 0
    assert Lookup.tokenizer_kind == "characters"

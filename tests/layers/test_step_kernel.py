"""The compiled step for few rows says what torch says, its parts what numpy does; it is used when it pays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sadari.layers import likeliest, step_kernel, steps
from sadari.layers.packed import packed
from sadari.layers.rounded import KINDS, can_round
from sadari.layers.shortlist import SLACK, Rounded, Shortlist
from sadari.models import translator
from sadari.models.translator import ROOM, Translator, TranslatorConfig
from sadari.search import Searching, search

START, END = 1, 2
V, W = 20, 37  # source and target tokens
SMALL = TranslatorConfig(layers=1, decoder_layers=2, width=32, heads=2, inner=48)
COMPILED = [
    *(step_kernel.line, step_kernel.norm, step_kernel.words, step_kernel.layer_step, step_kernel.move),
    *(likeliest.are_finite, likeliest.shortlist, likeliest.ranked),
]


def build(config: TranslatorConfig = SMALL, seed: int = 0) -> Translator:
    """A model whose every number is drawn, biases and norms too, so that a mix-up of any two shows."""
    torch.manual_seed(seed)
    model = Translator(config, W if config.share else V, W)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape) + (parameter == 1))
    return model.eval()


def sources_of(count: int, padded: bool = True) -> Tensor:
    """(N, 6), the last a short one and the first with a hole, if so."""
    sources = torch.randint(3, V, (count, 6))
    if padded:
        sources[-1, 2:], sources[0, 3] = -1, -1
    return sources


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after many steps: compiled code is used, and the layers written out are not."""
    monkeypatch.setattr(steps.Done, "steps", steps.COMPILES)
    monkeypatch.setattr(torch, "get_num_threads", one_thread)


def one_thread() -> int:
    return 1


# ---------------------------------------------------------------------- two ways, same answer


@settings(deadline=None, max_examples=80)
@given(
    heads=st.sampled_from([1, 2, 4]),
    size=st.sampled_from([3, 8, 9, 16, 20]),
    inner=st.sampled_from([5, 32, 50]),
    depth=st.integers(1, 3),
    choices=st.fixed_dictionaries(
        {
            "activation": st.sampled_from(["relu", "swish", "gelu"]),
            "positions": st.sampled_from(["halves", "interleaved"]),
            "begin": st.sampled_from(["zero", "word"]),
            **{name: st.booleans() for name in ("norm_first", "scaled", "share", "tied", "bias")},
        }
    ),
    count=st.sampled_from([1, 2]),
    each=st.integers(1, 6),
    padded=st.booleans(),
    laid=st.booleans(),
    seed=st.integers(0, 99),
)
def test_steps_say_what_a_pass_over_the_target_says(
    heads, size, inner, depth, choices, count, each, padded, laid, seed
) -> None:
    assume(heads * size >= 8)  # a norm of two numbers is a step: it makes any rounding large
    about: dict[str, Any] = {"layers": 1, "decoder_layers": depth, "heads": heads, "inner": inner}
    model = build(TranslatorConfig(width=heads * size, **about, **choices), seed)
    sources, rows = sources_of(count, padded), torch.arange(count).repeat_interleave(each)
    target = torch.randint(3, W, (len(rows), 5))
    target[:, 0] = START
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        expected = model(sources[rows], target)
        patch.setattr(steps.Done, "steps", steps.COMPILES)
        patch.setattr(torch, "get_num_threads", one_thread)
        patch.setattr(steps.StepLayer, "__call__", None)  # is not called
        used = packed(model) if laid else model
        state = used.reorder(used.start(sources), rows)
        for t, column in enumerate(target.split(1, dim=1)):
            logits, state = used.step(column, state)
            torch.testing.assert_close(logits, expected[:, t], rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 999), count=st.integers(1, 3), each=st.integers(1, 4))
def test_rows_are_reordered_as_without_it_while_the_room_grows(seed: int, count: int, each: int) -> None:
    """Rows are kept, repeated, moved and dropped at random, over more tokens than a new cache can hold."""
    random, model = np.random.default_rng(seed), build()
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(steps.Done, "steps", steps.COMPILES)
        patch.setattr(torch, "get_num_threads", one_thread)
        state = model.start(sources_of(count))
        assert state.few is not None
        other = replace(state, few=None, past=state.past.clone())
        rows = torch.arange(count).repeat_interleave(each)
        state, other = model.reorder(state, rows), model.reorder(other, rows)
        for _ in range(ROOM + 8):
            tokens = torch.from_numpy(random.integers(3, W, (len(rows), 1)))
            (one, state), (two, other) = model.step(tokens, state), model.step(tokens, other)
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(
                state.past[..., : state.length, :], other.past[..., : state.length, :], rtol=1e-4, atol=1e-4
            )
            kind, rows = random.integers(0, 4), torch.arange(len(rows))
            if kind == 0:  # a row takes another's place
                rows[random.integers(len(rows))] = random.integers(len(rows))
            elif kind == 1:
                rows = torch.from_numpy(random.permutation(len(rows)))
            elif kind == 2 and len(rows) > 2:  # one leaves; the last takes its place
                rows[random.integers(len(rows) - 1)] = len(rows) - 1
                rows = rows[:-1]
            state, other = model.reorder(state, rows), model.reorder(other, rows)


@pytest.mark.parametrize(
    "how", [{}, {"beam": 4, "n_best": 4}, {"beam": 3, "groups": 3}, {"temperature": 1.0}]
)
@pytest.mark.parametrize("count", [1, 7])
def test_searches_find_the_same(how: dict[str, Any], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sources = build(replace(SMALL, width=64)), sources_of(count)
    about = model, sources, Searching(max_tokens=45, **how), START, END, {START}
    expected = search(*about)
    monkeypatch.setattr(steps.Done, "steps", steps.COMPILES)
    monkeypatch.setattr(torch, "get_num_threads", one_thread)
    monkeypatch.setattr(steps.StepLayer, "__call__", None)
    for answers, others in zip(search(*about), expected, strict=True):
        assert [one.tokens for one in answers] == [one.tokens for one in others]
        for one, other in zip(answers, others, strict=True):
            assert one.logp == pytest.approx(other.logp, rel=1e-4, abs=1e-4)


def test_a_large_vocabulary_s_likeliest_word_is_found_by_the_shortlist(ready, monkeypatch) -> None:
    torch.manual_seed(1)
    model = Translator(TranslatorConfig(layers=1, width=128, heads=4), V, 9000).eval()
    about = model, sources_of(1, False), Searching(max_tokens=12), START, END, {START}
    scored = search(*about)[0][0].tokens  # with sums, over the whole head
    calls = []
    told = likeliest.shortlist
    monkeypatch.setattr(step_kernel, "shortlist", lambda *given: (calls.append(1), told(*given)))
    assert search(*about, scores=False)[0][0].tokens == scored
    assert len(calls) >= len(scored)


# ---------------------------------------------------------------------- parts


@settings(deadline=None, max_examples=80)
@given(R=st.integers(1, 23), inputs=st.integers(1, 70), outputs=st.integers(1, 11), seed=st.integers(0, 99))
def test_line_is_a_product(R: int, inputs: int, outputs: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, weight, bias = (
        random.standard_normal(shape, np.float32) for shape in ((R, inputs), (outputs, inputs), (outputs,))
    )
    y = np.full((R + 1, outputs), np.nan, np.float32)
    step_kernel.line(x, (weight, bias), y[:R])
    np.testing.assert_allclose(y[:R], x @ weight.T + bias, rtol=1e-4, atol=1e-4)
    assert np.isnan(y[R]).all()


@settings(deadline=None, max_examples=60)
@given(
    words=st.integers(1, 900),
    width=st.sampled_from([1, 7, 32, 64, 100]),
    scale=st.sampled_from([1e-6, 1.0, 1e3]),
    twice=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_shortlist_is_exact_where_a_word_can_be_the_likeliest(words, width, scale, twice, bias, seed) -> None:
    random = np.random.default_rng(seed)
    weight = random.standard_normal((words, width), np.float32)
    if twice:
        weight[words // 2 :] = weight[: -(-words // 2)]  # ties
    h = (scale * random.standard_normal(width)).astype(np.float32)
    more = random.standard_normal(words, np.float32) * bias
    never = random.choice(words, min(2, words - 1), replace=False)
    known = Rounded.of(torch.from_numpy(weight))
    parts = known.values.numpy(), known.step.numpy(), known.lost.numpy(), known.length.numpy(), never
    logits = np.full(words, np.nan, np.float32)
    likeliest.shortlist(h, (weight, more), parts, np.float32(SLACK), logits)
    expected = weight.astype(np.float64) @ h + more
    near = 1e-5 * (np.abs(weight) @ np.abs(h) + np.abs(more))
    assert (logits[never] == -np.inf).all()
    expected[never] = -np.inf
    best = expected.argmax()
    for v in np.setdiff1d(np.arange(words), never):
        assert logits[v] <= expected[best] + near[v] + near[best]
        if expected[v] >= expected[best]:
            assert abs(logits[v] - expected[v]) <= near[v]


@settings(deadline=None, max_examples=60)
@given(
    R=st.integers(1, 6),
    count=st.integers(1, 12),
    extra=st.integers(0, 200),
    coarse=st.booleans(),
    scores=st.booleans(),
    seed=st.integers(0, 99),
)
def test_ranked_is_topk_and_logsumexp(R, count, extra, coarse, scores, seed) -> None:
    torch.manual_seed(seed)
    logits = 4 * torch.randn(R, count * likeliest.PIECES + extra)
    logits = logits.round() if coarse else logits  # ties
    steps.compiled()
    found = steps.ranked(logits, count, scores)
    assert found is not None
    values, tokens, sums = found
    expected = logits.double().logsumexp(1).numpy() * scores
    np.testing.assert_allclose(sums, expected, atol=2e-5)
    best = logits.topk(count).values.numpy()
    np.testing.assert_array_equal(np.take_along_axis(logits.numpy(), tokens, 1), best)
    np.testing.assert_allclose(values, best - expected[:, None], atol=2e-5)
    assert all(len(set(row)) == count for row in tokens.tolist())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_left_to_torch(bad: float, ready) -> None:
    steps.compiled()
    logits = torch.randn(2, 400)
    assert steps.ranked(logits, 3, True) is not None
    logits[1, 70] = bad
    assert steps.ranked(logits, 3, True) is None
    assert steps.ranked(logits[:1, ::2], 3, True) is None  # laid out otherwise
    model = build()
    with torch.inference_mode():
        model.layers[0].feed.up.weight[3, 5] = bad
        used = packed(model, {"head": Shortlist(model.head)})
        _, state = used.step(torch.tensor([[START]]), used.start(sources_of(1)))
        logits, _ = used.step(torch.tensor([[5]]), state)
        same, _ = model.step(torch.tensor([[5]]), replace(state, few=None))
    assert logits.isfinite().all() == same.isfinite().all()


def test_one_version_of_each_function_is_enough() -> None:
    """Another layout or type would be compiled anew, for seconds, in the middle of a sentence."""
    for function in COMPILED:
        assert len(function.signatures) == 1, function.__name__


# ---------------------------------------------------------------------- when it is used


@pytest.mark.parametrize(
    ("done", "kept", "used"),
    [
        (steps.LOADS - 1, True, False),
        (steps.LOADS, True, True),
        (steps.LOADS, False, False),
        (steps.COMPILES, False, True),
    ],
)
def test_it_is_loaded_or_compiled_when_that_pays(done: int, kept: bool, used: bool, monkeypatch) -> None:
    monkeypatch.setattr(steps.Done, "steps", done)
    monkeypatch.setattr(steps.Done, "code", None)
    monkeypatch.setattr(step_kernel, "is_kept", lambda: kept)
    model = build()
    with torch.inference_mode():
        state = model.start(sources_of(1))
        assert (state.few is not None) == used == (steps.Done.code is not None)
        model.step(torch.tensor([[START]]), state)
    assert steps.Done.steps == done + (0 if used else len(model.layers))


@pytest.mark.parametrize("way", ["gradients", "training", "double", "autocast", *KINDS, "other bend", "much"])
def test_is_left_out_where_it_says_something_else(way: str, ready, monkeypatch) -> None:
    model: Any = build()
    with torch.no_grad():
        assert model.start(sources_of(1)).few is not None
        if way == "training":
            model.train()
        if way == "double":
            model.double()
        if way in KINDS:
            if not can_round(way):
                pytest.skip("no such products here")
            model = packed(build(replace(SMALL, width=64)), kind=KINDS[way])
        if way == "other bend":
            model.layers[1].feed.bend = torch.tanh
        if way == "much":
            monkeypatch.setattr(steps, "MUCH", 3 * 32 * 32 - 1)
    with torch.set_grad_enabled(way == "gradients"), torch.autocast("cpu", enabled=way == "autocast"):
        assert model.start(sources_of(1)).few is None


def test_more_threads_have_torch_s_products_for_more_rows(ready, monkeypatch) -> None:
    model, most, calls = build(), {}, []
    monkeypatch.setattr(steps.StepLayer, "__call__", lambda _, x, *rest: calls.append(len(x)) or x)
    for threads in (1, 2, 4, 16):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        with torch.inference_mode():
            state = model.start(sources_of(17))
            most[threads] = state.few.rows
            model.step(torch.full((17, 1), START), state)
    assert most == {1: steps.FEW, 2: 16, 4: 4, 16: 0}
    assert calls == [17] * 3 * len(model.layers)


def test_the_head_is_torch_s_for_many_rows_and_many_words(ready, monkeypatch) -> None:
    model, seen = build(), []
    forward = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: seen.append(len(x)) or forward(self, x))
    with torch.inference_mode():
        for rows, much, expected in ((1, W * 32, []), (steps.HEAD + 1, W * 32, [41]), (1, 3 * 32 * 32, [])):
            monkeypatch.setattr(steps, "MUCH", max(much, 3 * 32 * 32))
            state = model.start(sources_of(rows))
            seen.clear()
            model.step(torch.full((rows, 1), START), state)
            assert seen == expected


def test_a_token_beyond_the_table_is_refused(ready) -> None:
    model = build()
    with torch.inference_mode(), pytest.raises(IndexError, match="token 37: the model has 37, from 0"):
        model.step(torch.tensor([[W]]), replace(model.start(sources_of(1)), length=1))


def test_waves_are_those_of_the_whole_pass() -> None:
    """The table of places grows with what is written."""
    model = build()
    assert len(model._waves(3, torch.empty(1))) == 64
    torch.testing.assert_close(model._waves(70, torch.empty(1))[:64], translator.waves(64, 32))

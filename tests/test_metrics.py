"""Metrics against scikit-learn, properties of the bootstrap, and the coverage that "95 %" promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from sadari import metrics as ours
from sadari.bleu import statistics
from sadari.errors import SadariError
from sadari.metrics.classify import SMALLEST
from sadari.metrics.intervals import BLOCKS, RESAMPLES

REGRESS = {"rmse": theirs.root_mean_squared_error, "mae": theirs.mean_absolute_error, "r2": theirs.r2_score}
CLASSIFY = {"accuracy": theirs.accuracy_score, "balanced-accuracy": theirs.balanced_accuracy_score}


def _numbers(rows: int, seed: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    targets = 2 * draw.standard_normal(rows)
    return targets + noise * draw.standard_normal(rows), targets


def _classes(
    rows: int, seed: int, right: float = 0.8, shares=(0.6, 0.3, 0.1)
) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    targets = draw.choice(len(shares), p=shares, size=rows)
    said = np.where(draw.random(rows) < right, targets, (targets + 1) % len(shares))
    probabilities = draw.dirichlet(np.ones(len(shares)), rows) * 0.4 + 0.6 * np.eye(len(shares))[said]
    return probabilities, targets


def _texts(rows: int, seed: int, bits: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Nats and tokens of texts that cost `bits` a byte on average, at four bytes a token; and their bytes."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(1, 60, rows)
    nats = draw.gamma(tokens, 4 * bits * np.log(2))
    return np.stack([nats, tokens], axis=1), 4 * tokens


def _translations(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What sentences of ten words, most of them right, have in common with their references."""
    draw = np.random.default_rng(seed)
    words = draw.integers(0, 50, (rows, 10))
    said = np.where(draw.random(words.shape) < 0.85, words, 0)
    texts = [[" ".join(map(str, row)) for row in side] for side in (said.tolist(), words.tolist())]
    return statistics(*texts), np.zeros(rows)


def _ranks(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of pictures with two captions each, which are all that a score of them needs."""
    found = np.random.default_rng(seed).integers(1, 40, (rows, 3))
    return found, found


MAKE = {
    "regress": _numbers,
    "classify": _classes,
    "language": _texts,
    "translate": _translations,
    "match": _ranks,
}


@pytest.mark.parametrize("name", REGRESS)
@given(rows=st.integers(2, 60), seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_regress_equals_sklearn(name: str, rows: int, seed: int) -> None:
    predictions, targets = _numbers(rows, seed)
    assert ours.METRICS[name].score(predictions, targets) == pytest.approx(
        REGRESS[name](targets, predictions), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("name", CLASSIFY)
@given(rows=st.integers(3, 60), seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_classify_equals_sklearn(name: str, rows: int, seed: int) -> None:
    probabilities, targets = _classes(rows, seed)
    targets[:3] = range(3)  # scikit-learn warns when a class is predicted that never occurs
    expected = CLASSIFY[name](targets, probabilities.argmax(1))
    assert ours.METRICS[name].score(probabilities, targets) == pytest.approx(expected, abs=1e-12)


def test_log_loss_equals_sklearn_and_a_certain_mistake_is_finite() -> None:
    probabilities, targets = _classes(50, 3)
    metric = ours.METRICS["log-loss"]
    assert metric.score(probabilities, targets) == pytest.approx(
        theirs.log_loss(targets, probabilities, labels=range(3))
    )
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert metric.score(certain, np.array([1, 0])) == pytest.approx(-np.log(SMALLEST))


def test_r2_of_a_constant_target_follows_sklearn() -> None:
    flat = np.full(4, 3.0)
    metric = ours.METRICS["r2"]
    assert metric.score(flat, flat) == theirs.r2_score(flat, flat) == 1
    assert metric.score(flat + 1, flat) == theirs.r2_score(flat, flat + 1) == 0


def test_r2_keeps_its_digits_far_from_zero() -> None:
    predictions, targets = _numbers(500, 0)
    metric = ours.METRICS["r2"]
    assert metric.score(predictions + 1e6, targets + 1e6) == pytest.approx(
        metric.score(predictions, targets), rel=1e-6
    )


def test_bits_per_byte_and_perplexity_by_hand() -> None:
    """Two texts of 3 and 1 tokens, each token one of eight: 12 bits in 6 bytes, however they are cut."""
    scores, size = np.array([[3 * np.log(8), 3], [np.log(8), 1]]), np.array([4, 2])
    assert ours.METRICS["bits-per-byte"].score(scores, size) == pytest.approx(2)
    assert ours.METRICS["perplexity"].score(scores, size) == pytest.approx(8)
    assert ours.METRICS["bits-per-byte"].show(1.87654) == "1.877"
    assert ours.METRICS["perplexity"].show(87.654) == "87.7"


def test_bits_per_byte_does_not_ask_for_the_tokenizer_and_perplexity_does() -> None:
    """A text in tokens of one byte, and in tokens of four bytes at four times the nats."""
    fine, coarse, size = np.array([[8.0, 8]]), np.array([[8.0, 2]]), np.array([8])
    bits, perplexity = (ours.METRICS[name] for name in ("bits-per-byte", "perplexity"))
    assert bits.score(fine, size) == bits.score(coarse, size)
    assert perplexity.score(coarse, size) == pytest.approx(perplexity.score(fine, size) ** 4)


def test_a_language_model_that_pays_less_for_every_text_is_better() -> None:
    metric, (scores, size) = ours.METRICS["bits-per-byte"], _texts(60, 0)
    one, other = (metric.contributions(scores * [factor, 1], size) for factor in (0.95, 1))
    compared = ours.compare(metric, one, other, ours.Resamples(60))
    assert compared.gain == pytest.approx(0.05 * metric.score(scores, size)) and compared.low > 0


def test_unknown_metric_names_those_of_the_task() -> None:
    with pytest.raises(
        SadariError, match=r"--metric 'auc' does not score classify; choose one of: accuracy, balanced"
    ):
        ours.find_metric("auc", "classify")
    with pytest.raises(SadariError, match=r"'accuracy' does not score regress; choose one of: rmse, mae, r2"):
        ours.find_metric("accuracy", "regress")
    assert ours.find_metric(None, "regress").name == "rmse"
    with pytest.raises(
        SadariError, match=r"'rmse' does not score language; choose one of: bits-per-byte, perplexity"
    ):
        ours.find_metric("rmse", "language")
    assert ours.find_metric(None, "language").name == "bits-per-byte"
    assert [ours.beside(ours.find_metric(None, task)).name for task in MAKE] == [
        "r2",
        "log-loss",
        "perplexity",
        "chrf",
        "median-rank",
    ]


def test_every_metric_is_defined_in_both_languages_and_beside_another() -> None:
    for metric in ours.METRICS.values():
        assert metric.define("en") != metric.define("ko")
        assert ours.beside(metric).task == metric.task and ours.beside(metric) is not metric


def test_imbalance_is_said_with_its_share() -> None:
    note = ours.imbalance(np.repeat([0, 1], [90, 10]), ("no", "yes"))
    assert note is not None and "90% of the training rows are 'no'" in note.english and "90%" in note.korean
    assert ours.imbalance(np.repeat([0, 1], [55, 45]), ("no", "yes")) is None
    assert ours.imbalance(np.repeat(range(10), 5), tuple("0123456789")) is None


@pytest.mark.parametrize("name", ours.METRICS)
def test_one_product_is_the_loop_over_resamples(name: str) -> None:
    metric = ours.METRICS[name]
    predictions, targets = MAKE[metric.task](40, 1)
    contributions = metric.contributions(predictions, targets)
    resamples = ours.Resamples(40, 30, seed=5)
    drawn = resamples.scores(metric, contributions)
    for counts, score in zip(resamples.counts.astype(int), drawn, strict=True):
        rows = np.repeat(np.arange(40), counts)
        expected = metric.reduce(contributions[rows].mean(0))
        if (
            name == "r2"
        ):  # its variance is taken round the mean of all rows, so compare through the definition
            left, squares, mean = contributions[rows].mean(0)
            expected = 1 - left / (squares - mean**2)
        assert score == pytest.approx(expected, rel=1e-6)


@given(seed=st.integers(0, 10**6), rows=st.integers(5, 80))
@settings(max_examples=25, deadline=None)
def test_comparison_is_antisymmetric_and_agrees_with_the_scores(seed: int, rows: int) -> None:
    metric = ours.METRICS["rmse"]
    predictions, targets = _numbers(rows, seed)
    one = metric.contributions(predictions, targets)
    other = metric.contributions(targets + 0.5, targets)
    resamples = ours.Resamples(rows, 200, seed)
    there, back = ours.compare(metric, one, other, resamples), ours.compare(metric, other, one, resamples)
    assert there.gain == pytest.approx(-back.gain) and there.error == pytest.approx(back.error)
    assert there.better == pytest.approx(1 - back.better) and there.low == pytest.approx(-back.high)
    assert there.gain == pytest.approx(
        metric.score(targets + 0.5, targets) - metric.score(predictions, targets)
    )
    assert there.low <= there.gain <= there.high or rows < 10


@pytest.mark.parametrize("name", ["rmse", "accuracy"])
def test_a_rung_against_itself_is_a_draw(name: str) -> None:
    metric = ours.METRICS[name]
    predictions, targets = (_numbers if metric.task == "regress" else _classes)(100, 2)
    contributions = metric.contributions(predictions, targets)
    draw = ours.compare(metric, contributions, contributions, ours.Resamples(100))
    assert draw.gain == 0 and draw.better == pytest.approx(0.5, abs=0.03)


def test_all_right_is_not_certain() -> None:
    metric = ours.METRICS["accuracy"]
    targets = np.zeros(20, int)
    interval = ours.bootstrap(metric, metric.contributions(np.eye(2)[targets], targets), ours.Resamples(20))
    assert interval.score == interval.high == 1
    assert interval.low == pytest.approx(20 / (20 + 1.959964**2))  # Wilson's bound for n of n


def test_balanced_accuracy_of_one_class_has_the_interval_of_accuracy() -> None:
    targets = np.zeros(30, int)
    probabilities = np.eye(2)[np.repeat([0, 1], [24, 6])]
    resamples = ours.Resamples(30)
    both = [
        ours.bootstrap(m, m.contributions(probabilities, targets), resamples)
        for m in (ours.METRICS["accuracy"], ours.METRICS["balanced-accuracy"])
    ]
    assert both[0] == both[1]


def test_many_rows_are_drawn_in_blocks_with_the_same_spread() -> None:
    metric = ours.METRICS["rmse"]
    predictions, targets = _numbers(3 * BLOCKS + 17, 0)
    contributions = metric.contributions(predictions, targets)
    resamples = ours.Resamples(len(targets))
    assert resamples.counts.shape == (RESAMPLES, BLOCKS)
    assert resamples.units(contributions)[:, -1].sum() == len(targets)
    theory = (
        contributions.std() / np.sqrt(len(targets)) / (2 * metric.score(predictions, targets))
    )  # delta method
    assert resamples.scores(metric, contributions).std() == pytest.approx(theory, rel=0.06)


def test_one_row_has_no_interval() -> None:
    with pytest.raises(SadariError, match="1 rows to score on: an interval needs at least 2"):
        ours.Resamples(1)


def _coverage(metric: ours.Metric, make, truth: float, rows: int, times: int) -> float:
    resamples = ours.Resamples(rows, 600)
    inside = 0
    for seed in range(times):
        interval = ours.bootstrap(metric, metric.contributions(*make(rows, seed)), resamples)
        inside += interval.low <= truth <= interval.high
    return inside / times


@pytest.mark.parametrize(
    "name, truth, make",
    [
        ("rmse", 1.0, _numbers),
        ("mae", np.sqrt(2 / np.pi), _numbers),
        ("r2", 0.75, _numbers),
        ("accuracy", 0.8, _classes),
        ("accuracy", 0.98, lambda rows, seed: _classes(rows, seed, 0.98)),
        ("balanced-accuracy", 0.8, _classes),
        ("bits-per-byte", 2.0, _texts),
        ("perplexity", 256.0, _texts),
    ],
)
def test_a_95_percent_interval_holds_the_truth_92_to_97_times_in_100(name: str, truth: float, make) -> None:
    assert 0.92 <= _coverage(ours.METRICS[name], make, truth, rows=150, times=500) <= 0.975


@pytest.mark.parametrize("disagree", [0.05, 0.15, 0.4])
@pytest.mark.parametrize("rows", [40, 150])
def test_equal_classifiers_pass_for_better_at_most_one_time_in_twenty(rows: int, disagree: float) -> None:
    metric, resamples = ours.METRICS["accuracy"], ours.Resamples(rows)
    draw, targets, passed = np.random.default_rng(0), np.zeros(rows, int), 0
    for _ in range(400):
        right = draw.random(rows) < 0.85
        flip, coin = draw.random(rows) < disagree, draw.random(rows) < 0.5
        one, other = np.where(flip, coin, right), np.where(flip, ~coin, right)
        answers = [metric.contributions(np.eye(2)[1 - hit.astype(int)], targets) for hit in (one, other)]
        passed += ours.compare(metric, *answers, resamples).better >= 0.95
    assert passed / 400 <= 0.07

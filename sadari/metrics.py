"""Every number with its definition, an interval round it, and a fair comparison of two.

A metric is what each row contributes (J numbers) and how the means of those contributions become the score:
rmse is the squared error of a row and a square root. So a score on resampled rows is one product, weights (R,
N) @ contributions (N, J), the same resamples serve every rung, and differences between rungs are paired row
by row.

Alphabet: N rows, K classes, J contributions a row, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from sadari import bleu
from sadari.errors import SadariError
from sadari.lang import Lang, Note

RESAMPLES = 2000
# more rows than this are drawn in blocks: the spread of a mean is the same, the weights stay at 33 MB
BLOCKS = 4096
LEVEL = 0.95
SMALLEST = float(np.finfo(np.float64).eps)  # probabilities are clipped here, as scikit-learn does

TEXTS = {
    "imbalanced": (
        "{share:.0%} of the training rows are {label!r}: always saying so is already that accurate. Score "
        "with --metric balanced-accuracy if the rare classes matter.",
        "학습 행의 {share:.0%}가 {label!r}입니다. 늘 그렇게 답하기만 해도 그만큼 맞습니다. 드문 클래스가 "
        "중요하면 --metric balanced-accuracy 로 채점하십시오.",
    ),
}


@dataclass(frozen=True)
class Metric:
    """A score: what a row contributes, and how means of contributions become the number."""

    name: str
    """What `--metric` calls it."""
    task: str
    """regress, classify, language or translate."""
    higher: bool
    """Whether higher is better."""
    title: tuple[str, str]
    """What sentences and tables call it: English, Korean."""
    definition: tuple[str, str]
    """The formula in words: English, Korean."""
    contributions: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """(predictions (N,), probabilities (N, K), a text's nats and tokens (N, 2) or a translation's statistics
    (N, K); targets (N,)) -> (N, J) float64.
    """
    reduce: Callable[[np.ndarray], np.ndarray]
    """Means of contributions (..., J) -> scores (...)."""
    shares: bool = False
    """Whether it is a share of right answers, or a mean of such shares: then J = 2 K, hits and rows of each
    class.
    """
    digits: int = 3
    """Significant digits of the score, where it is no share."""

    def score(self, predictions: np.ndarray, targets: np.ndarray) -> float:
        return float(self.reduce(self.contributions(predictions, targets).mean(0)))

    def call(self, lang: Lang) -> str:
        return self.title[lang == "ko"]

    def define(self, lang: Lang) -> str:
        return self.definition[lang == "ko"]

    def show(self, value: float) -> str:
        """The score as people read it: shares in per cent, all else with the metric's digits."""
        return f"{100 * value:.1f}%" if self.shares else number(value, self.digits)

    def show_gain(self, value: float, lang: Lang, unit: bool = True) -> str:
        """A difference of two scores: shares in percentage points, with or without the word."""
        if not self.shares:
            return number(value)
        return f"{100 * value:.1f}" + ("" if not unit else "%p" if lang == "ko" else " points")


def number(value: float, digits: int = 3) -> str:
    """So many significant digits; whole numbers from 1,000."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.{digits}g}"


def _squared_error(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return _column(np.square(_error(predictions, targets)))


def _absolute_error(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return _column(np.abs(_error(predictions, targets)))


def _explained(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    centred = targets.astype(np.float64) - targets.mean(dtype=np.float64)  # so that no digits cancel below
    return np.stack([np.square(_error(predictions, targets)), np.square(centred), centred], axis=1)


def _r2(means: np.ndarray) -> np.ndarray:
    left, squares, mean = np.moveaxis(means, -1, 0)
    spread = squares - np.square(mean)
    # a constant target has nothing to explain: 1 when met exactly, else 0 (scikit-learn's convention)
    return np.where(spread > 0, 1 - left / np.where(spread > 0, spread, 1), np.where(left > 0, 0.0, 1.0))


def _hits(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    hit = probabilities.argmax(1) == targets
    return np.stack([hit, np.ones(len(hit))], axis=1).astype(np.float64)


def _hits_by_class(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    rows = np.eye(probabilities.shape[1])[targets]  # (N, K)
    return np.concatenate([rows * (probabilities.argmax(1) == targets)[:, None], rows], axis=1)


def _mean_share(means: np.ndarray) -> np.ndarray:
    """The mean, over the classes that occur, of hits / rows."""
    hits, rows = np.split(means, 2, axis=-1)  # (..., K)
    present = rows > 0
    shares = np.divide(hits, rows, out=np.zeros_like(hits), where=present)
    return shares.sum(-1) / np.maximum(present.sum(-1), 1)


def _log_loss(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    given = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return _column(-np.log(np.clip(given, SMALLEST, 1 - SMALLEST)))


def _surprise(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Nats, tokens and bytes of each text."""
    return np.column_stack([scores, targets]).astype(np.float64)


def _bits_per_byte(means: np.ndarray) -> np.ndarray:
    nats, _, size = np.moveaxis(means, -1, 0)
    return nats / (size * np.log(2))


def _perplexity(means: np.ndarray) -> np.ndarray:
    nats, tokens, _ = np.moveaxis(means, -1, 0)
    return np.exp(nats / tokens)


def _counted(statistics: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Statistics (N, K) of each translation, and behind them N: a mean times that is a sum again."""
    return np.column_stack([statistics, np.full(len(statistics), float(len(statistics)))])


def _of_sums(score: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda means: score(means[..., :-1] * means[..., -1:])


def _same(statistics: np.ndarray, targets: np.ndarray) -> np.ndarray:
    hit = statistics[:, bleu.EXACT]
    return np.stack([hit, np.ones(len(hit))], axis=1)


def _error(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return predictions.astype(np.float64) - targets.astype(np.float64)


def _column(values: np.ndarray) -> np.ndarray:
    return values[:, None]


def _first(means: np.ndarray) -> np.ndarray:
    return means[..., 0]


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "rmse",
            "regress",
            False,
            ("RMSE", "RMSE"),
            (
                "root mean squared error: the square root of the mean of (prediction - target)², in the "
                "target's units",
                "평균 제곱근 오차: (예측 - 목표)²의 평균에 제곱근을 씌운 값, 단위는 목표와 같다",
            ),
            _squared_error,
            lambda means: np.sqrt(means[..., 0]),
        ),
        Metric(
            "mae",
            "regress",
            False,
            ("MAE", "MAE"),
            (
                "mean absolute error: the mean of |prediction - target|, in the target's units",
                "평균 절대 오차: |예측 - 목표|의 평균, 단위는 목표와 같다",
            ),
            _absolute_error,
            _first,
        ),
        Metric(
            "r2",
            "regress",
            True,
            ("R²", "R²"),
            (
                "R²: the share of the target's variance that is explained, 1 - squared error / variance; "
                "the mean scores 0",
                "결정 계수 R²: 목표의 분산 가운데 설명한 몫, 1 - 제곱 오차 / 분산. 평균만 답하면 0",
            ),
            _explained,
            _r2,
        ),
        Metric(
            "accuracy",
            "classify",
            True,
            ("accuracy", "정확도"),
            (
                "accuracy: the share of rows whose most probable class is the right one",
                "정확도: 가장 그럴듯한 클래스가 정답인 행의 비율",
            ),
            _hits,
            _mean_share,
            shares=True,
        ),
        Metric(
            "balanced-accuracy",
            "classify",
            True,
            ("balanced accuracy", "균형 정확도"),
            (
                "balanced accuracy: the share of right rows in each class, averaged over the classes",
                "균형 정확도: 클래스마다 맞힌 비율을 구해 클래스끼리 평균한 값",
            ),
            _hits_by_class,
            _mean_share,
            shares=True,
        ),
        Metric(
            "log-loss",
            "classify",
            False,
            ("log loss", "로그 손실"),
            (
                "log loss: the mean of -ln(probability given to the right class)",
                "로그 손실: 정답 클래스에 준 확률의 -ln 을 평균한 값",
            ),
            _log_loss,
            _first,
        ),
        Metric(
            "bits-per-byte",
            "language",
            False,
            ("bits per byte", "바이트당 비트"),
            (
                "bits per byte: the sum of -log2(probability given to each token) over the UTF-8 bytes of "
                "the texts, each text's end counted as one byte; what the model would compress a byte to, "
                "whatever the tokenizer",
                "바이트당 비트: 토큰마다 준 확률의 -log2 를 모두 더해 글의 UTF-8 바이트 수로 나눈 값(글의 "
                "끝도 한 바이트로 센다). 모델로 압축하면 한 바이트에 드는 비트이며, 토크나이저가 달라도 "
                "견줄 수 있다",
            ),
            _surprise,
            _bits_per_byte,
            digits=4,
        ),
        Metric(
            "perplexity",
            "language",
            False,
            ("perplexity", "퍼플렉시티"),
            (
                "perplexity: e to the mean of -ln(probability given to each token), among how many equally "
                "likely tokens the model hesitates; it depends on the tokenizer, so compare it only between "
                "models of the same one",
                "퍼플렉시티: 토큰마다 준 확률의 -ln 을 평균해 e의 지수로 올린 값. 똑같이 그럴듯한 토큰 몇 개 "
                "사이에서 망설이는 셈인지 나타낸다. 토크나이저에 따라 달라지므로 그것이 같은 모델끼리만 "
                "견준다",
            ),
            _surprise,
            _perplexity,
        ),
        Metric(
            "bleu",
            "translate",
            True,
            ("BLEU", "BLEU"),
            (
                "BLEU, 0 to 100: how many of the translations' one to four words in a row stand in the "
                "reference, as a geometric mean, less where the translations are shorter; one reference, "
                "case kept, words cut as 13a, zero counts smoothed by halves (sacrebleu's default)",
                "BLEU(0~100): 번역문에서 이어진 한 단어부터 네 단어까지가 참조 번역에 얼마나 있는지의 기하 "
                "평균으로, 번역문이 짧으면 깎는다. 참조 번역 하나, 대소문자 구별, 단어는 13a 로 자르고 0인 "
                "수는 반씩 줄여 메운다(sacrebleu 의 기본 설정)",
            ),
            _counted,
            _of_sums(bleu.bleu),
        ),
        Metric(
            "chrf",
            "translate",
            True,
            ("chrF", "chrF"),
            (
                "chrF2, 0 to 100: how many runs of one to six characters the translations share with the "
                "reference, recall counting twice as much as precision (sacrebleu's default); needs no "
                "words, so it is just to Korean endings",
                "chrF2(0~100): 이어진 한 글자부터 여섯 글자까지를 번역문과 참조 번역이 얼마나 함께 "
                "가지는지를 재며, 재현율을 정밀도의 두 배로 친다(sacrebleu 의 기본 설정). 단어로 자르지 "
                "않으므로 조사와 어미가 붙는 한국어에 알맞다",
            ),
            _counted,
            _of_sums(bleu.chrf),
        ),
        Metric(
            "rouge-l",
            "translate",
            True,
            ("ROUGE-L", "ROUGE-L"),
            (
                "ROUGE-L, 0 to 100: F of the longest common subsequence of words, averaged over the texts; "
                "words between white space, in lower case",
                "ROUGE-L(0~100): 가장 긴 공통 단어열로 구한 F를 글마다 평균한 값. 단어는 공백으로 자르고 "
                "대소문자는 구별하지 않는다",
            ),
            lambda statistics, targets: statistics,
            bleu.rouge,
        ),
        Metric(
            "exact",
            "translate",
            True,
            ("exact match", "완전 일치"),
            (
                "exact match: the share of answers that are their reference to the letter",
                "완전 일치: 답이 참조와 글자까지 같은 비율",
            ),
            _same,
            _mean_share,
            shares=True,
        ),
    )
}
DEFAULT = {"regress": "rmse", "classify": "accuracy", "language": "bits-per-byte", "translate": "bleu"}
BESIDE = {  # any other: log-loss
    "rmse": "r2",
    "r2": "rmse",
    "mae": "r2",
    "log-loss": "accuracy",
    "bits-per-byte": "perplexity",
    "perplexity": "bits-per-byte",
    "bleu": "chrf",
    "chrf": "bleu",
    "rouge-l": "bleu",
    "exact": "bleu",
}


def find_metric(name: str | None, task: str) -> Metric:
    """The metric called `name`, or the task's own for None: rmse, accuracy, bits-per-byte or bleu.

    Raises SadariError with the metrics of the task when there is no such one.
    """
    metric = METRICS.get(name or DEFAULT[task])
    if metric is None or metric.task != task:
        known = ", ".join(m.name for m in METRICS.values() if m.task == task)
        raise SadariError(f"--metric {name!r} does not score {task}; choose one of: {known}")
    return metric


def beside(metric: Metric) -> Metric:
    """A second number worth showing next to `metric`, of another nature."""
    return METRICS[BESIDE.get(metric.name, "log-loss")]


def imbalance(targets: np.ndarray, classes: tuple[str, ...]) -> Note | None:
    """A note when one class holds so many of the rows that accuracy flatters whoever always says it.

    That is: twice its fair share, and at least 60 %.
    """
    counts = np.bincount(targets, minlength=len(classes))
    share = counts.max() / counts.sum()
    if share < max(0.6, min(2 / len(classes), 0.8)):
        return None
    return Note.of(TEXTS, "imbalanced", "warning", share=float(share), label=classes[int(counts.argmax())])


class Resamples:
    """How often each row is drawn in each of R resamples of N rows with replacement (the bootstrap, Efron
    1979).

    Above `BLOCKS` rows, blocks of random rows are drawn instead of single ones. `nudge` counts two imagined
    rows, drawn
    along: one that speaks for the better rung and one against it.
    """

    def __init__(self, rows: int, resamples: int = RESAMPLES, seed: int = 0):
        if rows < 2:
            raise SadariError(f"{rows} rows to score on: an interval needs at least 2; give more rows")
        draw = np.random.default_rng(seed)
        blocks = min(rows, BLOCKS)
        self.rows = rows
        self.block = draw.permutation(rows) % blocks if rows > blocks else None  # (N,) the block of each row
        picks = draw.integers(blocks + 2, size=(resamples, blocks + 2))
        counts = np.stack([np.bincount(pick, minlength=blocks + 2) for pick in picks])
        self.counts = counts[:, :blocks].astype(np.float32)  # (R, blocks)
        self.nudge = (counts[:, blocks] - counts[:, blocks + 1]).astype(np.float64)  # (R,)

    def units(self, contributions: np.ndarray) -> np.ndarray:
        """What is drawn: contributions (N, J) summed over each block, with the number of rows last (blocks, J
        + 1)."""
        rows = np.column_stack([contributions, np.ones(len(contributions))])
        if self.block is None:
            return rows
        return np.stack([np.bincount(self.block, column) for column in rows.T], axis=1)

    def scores(self, metric: Metric, contributions: np.ndarray) -> np.ndarray:
        """The metric on every resample (R,)."""
        units = self.units(contributions)
        return metric.reduce(_means(self.counts @ units))

    def without(self, metric: Metric, contributions: np.ndarray) -> np.ndarray:
        """The metric with one unit left out, for each unit (the jackknife)."""
        units = self.units(contributions)
        return metric.reduce(_means(units.sum(0) - units))

    @cached_property
    def width(self) -> float:
        """By what factor a bootstrap spread is too small for few rows (Hesterberg 2015, arXiv 1411.5279,
        section 4.3)."""
        units = self.counts.shape[1]
        return float(np.sqrt(units / (units - 1)) * stats.t.ppf(0.975, units - 1) / stats.norm.ppf(0.975))


def _means(sums: np.ndarray) -> np.ndarray:
    """Sums with the number of rows last (..., J + 1) -> means (..., J)."""
    return sums[..., :-1] / np.maximum(sums[..., -1:], 1)


@dataclass(frozen=True)
class Interval:
    """A score with its 95 % interval."""

    score: float
    low: float
    high: float


def bootstrap(metric: Metric, contributions: np.ndarray, resamples: Resamples) -> Interval:
    """The score of contributions (N, J) and its 95 % interval.

    Shares of right answers get Wilson's interval, since resampling 20 right rows out of 20 never shows a
    wrong one.
    All else gets the bias-corrected and accelerated bootstrap (Efron 1987), widened for few rows.
    """
    score = float(metric.reduce(contributions.mean(0)))
    if metric.shares:
        return Interval(score, *_wilson(contributions))
    drawn = resamples.scores(metric, contributions)
    bias = stats.norm.ppf(np.clip(np.mean(drawn < score) + np.mean(drawn == score) / 2, 0.001, 0.999))
    left = resamples.without(metric, contributions)
    slope = left.mean() - left
    spread = np.square(slope).sum()
    skew = (slope**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    edge = stats.norm.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2]) * resamples.width
    share = stats.norm.cdf(bias + (bias + edge) / np.maximum(1 - skew * (bias + edge), 0.05))
    low, high = np.quantile(drawn, share)
    return Interval(score, float(min(low, score)), float(max(high, score)))


def _wilson(contributions: np.ndarray) -> tuple[float, float]:
    """Wilson's interval (1927) for a share; for a mean of shares, the classes' own intervals put together by
    the squares
    of their distances (Zou & Donner 2008, "MOVER")."""
    hits, rows = np.split(contributions.sum(0), 2)  # (K,)
    hits, rows = hits[rows > 0], rows[rows > 0]
    share, z = hits / rows, stats.norm.ppf((1 + LEVEL) / 2)
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    low, high = share - (middle - half), (middle + half) - share  # distances from the shares
    mean = share.mean()
    reach_low, reach_high = np.sqrt(np.square(low).sum()), np.sqrt(np.square(high).sum())
    return float(max(mean - reach_low / len(rows), 0)), float(min(mean + reach_high / len(rows), 1))


@dataclass(frozen=True)
class Comparison:
    """How much better one rung is than another on the same rows; above 0 means better, whatever the metric's
    direction."""

    gain: float
    low: float
    high: float
    error: float
    """The standard error of the gain, over resamples of the rows that both answered."""
    better: float
    """The probability that it is better at all: the share of resamples in which it is."""


def compare(metric: Metric, one: np.ndarray, other: np.ndarray, resamples: Resamples) -> Comparison:
    """`one` against `other` (contributions (N, J) of the same rows): the paired gain, its 95 % interval and
    probability.

    Shares of right answers move in whole rows, and a resample of three rows that all speak for one side never
    shows the other. So two imagined rows are drawn along, one for each side (after Agresti & Min 2005, who
    add half a row to each
    cell of the table of two classifiers): without them a difference that is not there passes 0.95 too often.
    """
    sign = 1 if metric.higher else -1
    gain = sign * float(metric.reduce(one.mean(0)) - metric.reduce(other.mean(0)))
    drawn = sign * (resamples.scores(metric, one) - resamples.scores(metric, other))
    if metric.shares:
        classes = one.shape[1] // 2
        drawn = drawn + resamples.nudge / (classes * np.maximum(one[:, classes:].sum(0), 1).min())
    else:
        drawn = gain + (drawn - gain) * resamples.width
    slack = 1e-9 * float(np.abs(drawn).max())  # equal sums, added up in another order
    better = np.mean(drawn > slack) + np.mean(np.abs(drawn) <= slack) / 2
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Comparison(gain, float(low), float(high), float(drawn.std()), float(better))

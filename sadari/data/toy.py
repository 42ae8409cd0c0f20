"""Generated tables whose truth is known: mnist1d, planted relations, and shapes to look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view

from sadari.errors import SadariError

Truth = Literal["linear", "product", "noise"]
Shape = Literal["circle", "moons", "spiral"]

# One row a digit: the height of its stroke at 12 moments (Greydanus & Kobak, arXiv 2011.14439; the numbers of
# greydanus/mnist1d, Apache-2.0).
_STROKES = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)
_PADDING = (
    36,
    60,
)  # zeros appended to a stroke, drawn between these: the stroke's length then varies after resampling
_LENGTH = 12 + _PADDING[1]  # moments of the signal that is translated, filled with noise and sheared
_TRANSLATION = 48  # moments that a stroke may be rolled by, at most
_SCALE, _SHEAR = 0.4, 0.75  # widths of the uniform draws for a stroke's size and slope
_SMOOTH_NOISE, _ROUGH_NOISE = 0.25, 0.02  # deviations: before smoothing, where there is no stroke; everywhere


def mnist1d(seed: int = 42, *, rows: int = 5000, length: int = 40, shuffled: bool = False) -> pl.DataFrame:
    """MNIST-1D: `rows` signals (ten times n) of `length` moments x00, x01 ..., and the `digit` each draws.

    The draws are made in the reference's order from the same generator, so that the default is the authors'
    own data set: 4,000 rows to learn from, then 1,000 to test on. There logistic regression is right in about
    32 % of the test rows, an MLP in 68 %, a convolutional network in 94 %, a person in 96 %.

    shuffled   every row's moments in one other order, the same for all: all is still there but nearness. The
               authors' convolutional network falls to 56 % then, their MLP stays where it was
    """
    draw = np.random.RandomState(seed)  # the legacy generator: the reference's
    digits = np.repeat(np.arange(10), rows // 10)  # (N,)
    padding, scale, shift, shear = (np.empty(len(digits)) for _ in range(4))
    smooth, rough = (np.empty((len(digits), _LENGTH)) for _ in range(2))
    for row in range(len(digits)):
        padding[row] = _PADDING[0] + int(draw.rand() * (_PADDING[1] - _PADDING[0] + 1))
        scale[row] = 1 + _SCALE * (draw.rand() - 0.5)
        shift[row] = draw.choice(_TRANSLATION)
        smooth[row] = draw.randn(_LENGTH)
        rough[row] = draw.randn(_LENGTH)
        shear[row] = _SHEAR * (draw.rand() - 0.5)
    order = draw.permutation(len(digits))

    # 1. stretch: a stroke and its padding, resampled to one length
    strokes = _STROKES - _STROKES.mean(1, keepdims=True)
    strokes = strokes / strokes.std(1, keepdims=True)
    strokes = (
        strokes - strokes[:, :1]
    ) / 6 + 1e-8  # starts at "nearly nothing": exactly 0 is what marks padding below
    padded = np.hstack([strokes, np.zeros((10, _PADDING[1]))])  # (10, 72)
    where = np.linspace(0, 1, _LENGTH) * (12 + padding[:, None] - 1)  # (N, 72) moments of the padded stroke
    signal = _between(padded[digits], where)
    # 2. size, and a roll to the right
    signal *= scale[:, None]
    signal = np.take_along_axis(signal, (np.arange(_LENGTH) - shift[:, None].astype(int)) % _LENGTH, axis=1)
    # 3. noise: smooth where there is no stroke, a little roughness everywhere
    signal = np.where(signal != 0, signal, _blur(_SMOOTH_NOISE * smooth)) + _ROUGH_NOISE * rough
    # 4. slope, then fewer moments
    signal -= shear[:, None] * np.linspace(-0.5, 0.5, _LENGTH)
    signal = _between(signal, np.broadcast_to(np.linspace(0, _LENGTH - 1, length), (len(digits), length)))
    # 5. shuffle the rows, then one centre and one deviation for the whole set
    signal = signal[order]
    signal = (signal - signal.mean()) / signal.std()
    if shuffled:
        signal = signal[:, np.random.RandomState(seed).permutation(length)]
    frame = pl.DataFrame(signal, schema=[f"x{moment:02}" for moment in range(length)])
    return frame.with_columns(pl.Series("digit", digits[order]))


def _between(signal: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Each row of `signal` (N, L) read at the fractional places `where` (N, M), on straight lines between."""
    left = np.clip(where.astype(int), 0, signal.shape[1] - 2)
    low = np.take_along_axis(signal, left, axis=1)
    high = np.take_along_axis(signal, left + 1, axis=1)
    return low + (high - low) * (where - left)  # (N, M)


def _blur(signal: np.ndarray) -> np.ndarray:
    """A Gaussian of deviation 2 moments over each row, cut at 4 deviations, mirrored at both ends."""
    kernel = np.exp(-0.5 * (np.arange(-8, 9) / 2) ** 2)
    windows = sliding_window_view(
        np.pad(signal, ((0, 0), (8, 8)), mode="symmetric"), 17, axis=1
    )  # (N, L, 17)
    return windows @ (kernel / kernel.sum())


def planted(
    truth: Truth,
    rows: int = 1000,
    seed: int = 0,
    *,
    task: Literal["regress", "classify"] = "regress",
    noise: float = 0.5,
    features: int = 5,
) -> pl.DataFrame:
    """A table x1 ... and `target` whose truth is planted, to see whether a verdict finds it.

    The features are independent standard normals. A score of variance 1 is made of them: `linear` a weighted
    sum of all, `product` x1 * x2 (no line sees it: each correlation with it is 0), `noise` no score.
    regress: target = score + noise * a standard normal: 1 / (1 + noise^2) of its variance can be told.
    classify: "yes" with probability sigmoid(score / noise), else "no"; for `linear`, logistic regression.
    Raises SadariError for another truth, and for sizes that make no table.
    """
    if truth not in get_args(Truth):
        raise SadariError(
            f"{truth!r} is not a truth that can be planted; choose from {', '.join(get_args(Truth))}"
        )
    if features < 2 or rows < 1 or noise <= 0:
        raise SadariError(
            f"rows={rows}, features={features}, noise={noise}: a planted table needs at least 1 row, "
            "2 features and noise above 0"
        )
    draw = np.random.default_rng(seed)
    values = draw.standard_normal((rows, features))  # (N, C)
    weights = draw.uniform(0.5, 1.5, features) * draw.choice([-1.0, 1.0], features)
    scores = {
        "linear": values @ (weights / np.linalg.norm(weights)),
        "product": values[:, 0] * values[:, 1],
        "noise": np.zeros(rows),
    }
    score = scores[truth]
    if task == "regress":
        target = pl.Series("target", score + noise * draw.standard_normal(rows))
    else:
        yes = score + noise * draw.logistic(size=rows) > 0
        target = pl.Series("target", np.where(yes, "yes", "no"))
    return pl.DataFrame(values, schema=[f"x{i + 1}" for i in range(features)]).with_columns(target)


def wave(rows: int = 300, seed: int = 0, *, noise: float = 0.2) -> pl.DataFrame:
    """One feature `x` from -3 to 3, and `y` = sin(2 x) + x / 3 + noise: bent, so no line follows it."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(-3, 3, rows)
    return pl.DataFrame({"x": x, "y": np.sin(2 * x) + x / 3 + noise * draw.standard_normal(rows)})


def plane(shape: Shape, rows: int = 600, seed: int = 0, *, noise: float = 0.1) -> pl.DataFrame:
    """Two features x1, x2 and a `side` (such as "inner" or "outer") that no straight line divides."""
    if shape not in _SHAPES:
        raise SadariError(f"{shape!r} is not a shape in the plane; choose from {', '.join(_SHAPES)}")
    names, points = _SHAPES[shape]
    draw = np.random.default_rng(seed)
    side = draw.integers(0, 2, rows)
    x1, x2 = points(draw.uniform(0, 1, rows), side)
    return pl.DataFrame(
        {
            "x1": x1 + noise * draw.standard_normal(rows),
            "x2": x2 + noise * draw.standard_normal(rows),
            "side": np.array(names)[side],
        }
    )


def _circle(along: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    turn = 2 * np.pi * along
    return (0.5 + 0.5 * side) * np.cos(turn), (0.5 + 0.5 * side) * np.sin(turn)


def _moons(along: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    turn, sign = np.pi * along, 1 - 2 * side
    return sign * np.cos(turn) + side, sign * np.sin(turn) + 0.5 * side


def _spiral(along: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    radius = 0.1 + 1.9 * np.sqrt(along)  # the root spreads the points evenly along the arm
    turn = 3.5 * radius + np.pi * side
    return radius * np.cos(turn), radius * np.sin(turn)


_SHAPES: dict[str, tuple[list[str], Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]]] = {
    "circle": (["inner", "outer"], _circle),
    "moons": (["upper", "lower"], _moons),
    "spiral": (["one", "two"], _spiral),
}

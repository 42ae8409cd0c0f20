"""Calibration: does 80% mean 80%? Probability said against share come true (Guo et al. 2017, 1706.04599)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sadari.errors import SadariError
from sadari.inspection.rows import PARTS, Part, sample
from sadari.inspection.view import Said, View, say

if TYPE_CHECKING:
    from sadari.runs import Run

TEXTS = {
    "title": (
        "{rung}: what it says and what comes true differ by {error} on average",
        "{rung}: 말한 확률과 실제 비율의 차이는 평균 {error}",
    ),
    "binary": (
        "Across: the probability said for {of}. Up: the share of those {rows} {part} rows that were {of}, "
        "with 95% intervals.",
        "가로: {of} 확률로 말한 값. 세로: {part} 데이터 {rows}행 가운데 실제 {of} 비율과 95% 구간.",
    ),
    "top": (
        "Across: the probability said for the answer given. Up: the share of those answers that were right, "
        "with 95% intervals; {rows} {part} rows.",
        "가로: 자신이 낸 답에 매긴 확률. 세로: 그 답이 맞은 비율과 95% 구간. {part} 데이터 {rows}행.",
    ),
    "size": (
        " Bars: how many rows.",
        " 막대: 행 수.",
    ),
    "over": (
        "On the dashed line, 80% means 80%. Furthest below it: {said} was said and {was} came true ({rows} "
        "rows), too sure.{chance}",
        "점선 위라면 80%는 정말 80%입니다. 점선에서 가장 먼 아래쪽: {said}라고 했지만 실제 {was} "
        "({rows}행), 지나친 확신입니다.{chance}",
    ),
    "under": (
        "On the dashed line, 80% means 80%. Furthest above it: {said} was said and {was} came true ({rows} "
        "rows), too timid.{chance}",
        "점선 위라면 80%는 정말 80%입니다. 점선에서 가장 먼 위쪽: {said}라고 했지만 실제 {was} ({rows}행), "
        "지나치게 조심스럽습니다.{chance}",
    ),
    "on": (
        "On the dashed line, 80% means 80%, and every group of rows lies on it to within a percentage point.",
        "점선 위라면 80%는 정말 80%이고, 모든 묶음이 1%p 안에서 점선 위에 있습니다.",
    ),
    "within": (
        " The interval still reaches the line: chance alone could do that.",
        " 다만 구간이 점선에 닿으므로 우연일 수도 있습니다.",
    ),
    "points": ("{value:.1f} percentage points", "{value:.1f}%p"),
    "said": ("probability said", "말한 확률"),
    "came": ("share that came true", "실제 비율"),
    "rows": ("rows", "행 수"),
}


def calibration(run: Run, *, part: Part = "validation", bins: int = 10) -> View:
    """Reliability in `bins` groups of equal width between 0 and 1.

    Two classes: the probability of the second one, and how often it came true. More: the probability of the
    answer given, and how often it was right. edges (B + 1,), said (B,), came (B,), low and high (B,) its 95 %
    interval, rows (B,); NaN where a group is empty. facts["ece"]: the expected calibration error, the mean
    over rows of |said - came| by group.
    """
    if not 2 <= bins <= 100:
        raise SadariError(f"--bins {bins} groups of probabilities; choose 2 to 100")
    rows = sample(run, part, limit=100_000)
    probabilities = run.predictions(rows.features).astype(np.float64)  # (N, K)
    classes: tuple[str, ...] = run.spec.classes  # type: ignore[assignment]
    binary = len(classes) == 2
    if binary:
        said, true = probabilities[:, 1], rows.targets == 1
    else:
        said, true = probabilities.max(1), probabilities.argmax(1) == rows.targets
    edges = np.linspace(0, 1, bins + 1)
    arrays = reliability(said, true, edges)
    came, mean, count = arrays["came"], arrays["said"], arrays["rows"]
    filled = count > 0
    error = float(np.average(np.abs(mean - came)[filled], weights=count[filled]))
    gap = np.where(filled, np.abs(mean - came) * np.sqrt(count), -1)  # a far group of two rows says little
    worst = int(gap.argmax())
    names = {"of": classes[1] if binary else "", "rows": len(said), "part": PARTS[part]}
    caption = say(TEXTS, "binary" if binary else "top", **names)
    size = say(TEXTS, "size")
    chance: Said = ("", "")
    if arrays["low"][worst] <= mean[worst] <= arrays["high"][worst]:
        chance = say(TEXTS, "within")
    key = "on" if np.nanmax(np.abs(mean - came)) < 0.01 else "over" if mean[worst] > came[worst] else "under"
    see = say(
        TEXTS, key, rows=int(count[worst]), said=f"{mean[worst]:.0%}", was=f"{came[worst]:.0%}", chance=chance
    )
    facts = {
        "rung": run.rung,
        "ece": error,
        "bins": bins,
        "part": part,
        "of": classes[1] if binary else None,
        "rows": len(said),
    }
    labels = {"said": TEXTS["said"], "came": TEXTS["came"], "rows": TEXTS["rows"]}
    shown = tuple(TEXTS["points"][k].format(value=100 * error) for k in (0, 1))
    return View(
        "calibration",
        say(TEXTS, "title", rung=run.rung, error=shown),
        (caption[0] + size[0], caption[1] + size[1]),
        see,
        {"edges": edges, **arrays},
        facts,
        labels,
    )


def reliability(said: np.ndarray, true: np.ndarray, edges: np.ndarray) -> dict[str, np.ndarray]:
    """Means of `said` (N,) and `true` (N,) between `edges` (B + 1,), the uppermost included: all (B,)."""
    place = np.clip(np.searchsorted(edges, said, side="right") - 1, 0, len(edges) - 2)
    count = np.bincount(place, minlength=len(edges) - 1)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, said, minlength=len(count)) / count
        came = np.bincount(place, true, minlength=len(count)) / count
        low, high = wilson(came, count)
    return {"said": mean, "came": came, "low": low, "high": high, "rows": count}


def wilson(share: np.ndarray, rows: np.ndarray, z: float = 1.959964) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95% interval (1927) of shares seen in so many rows; NaN for no rows."""
    rows = np.where(rows > 0, rows, np.nan)
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)

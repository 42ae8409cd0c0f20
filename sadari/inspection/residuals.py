"""Residuals: target minus prediction. What is left over shows what the model has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.inspection.rows import PARTS, Part, sample
from sadari.inspection.view import View, say

if TYPE_CHECKING:
    from sadari.runs import Run

WORST = 5
BINS = 10
SHARES = (0.1, 0.5, 0.9)

TEXTS = {
    "title": (
        "{rung} misses {target} by at most {typical} in half of the rows, by over {large} in one of ten",
        "{rung}: {target} 오차는 절반의 행에서 {typical} 이하, 열에 하나는 {large} 이상",
    ),
    "caption": (
        "Up: target minus prediction, above 0 where the target is higher. Across: the prediction. {rows} "
        "{part} rows; band: the middle 80%, line: the median; ringed: the {worst} worst.",
        "세로: 목표 − 예측, 0보다 위면 실제가 더 큽니다. 가로: 예측. {part} 데이터 {rows}행, 띠: 가운데 "
        "80%, 선: 중앙값, 고리: 가장 빗나간 {worst}행.",
    ),
    "spread": (
        "Across: target minus prediction; up: how many of {rows} {part} rows. Every row gets the same "
        "prediction.",
        "가로: 목표 − 예측, 세로: {part} 데이터 {rows}행 중 행 수. 모든 행의 예측이 같습니다.",
    ),
    "even": (
        "The median stays near 0 and the band about as wide everywhere ({narrow} to {wide}): what is left "
        "shows no pattern along the prediction. Worst: row {row}, {target} {value}, predicted {prediction}.",
        "중앙값이 줄곧 0 가까이 있고 띠의 폭도 비슷합니다({narrow}~{wide}). 남은 오차에 예측을 따라가는 "
        "무늬가 없습니다. 가장 빗나간 것은 {row}행: 실제 {value}, 예측 {prediction}.",
    ),
    "bent": (
        "The median leaves 0 by up to {bend} ({share} of the residuals' spread): a pattern that the model "
        "has not caught. Worst: row {row}, {target} {value}, predicted {prediction}.",
        "중앙값이 0에서 최대 {bend} 벗어납니다(오차 퍼짐의 {share}). 모델이 놓친 무늬가 있습니다. 가장 "
        "빗나간 것은 {row}행: 실제 {value}, 예측 {prediction}.",
    ),
    "uneven": (
        "The band is {narrow} wide at its narrowest and {wide} at its widest: some predictions are far less "
        "certain than others. Worst: row {row}, {target} {value}, predicted {prediction}.",
        "띠의 폭이 {narrow}에서 {wide}까지 달라집니다. 어떤 예측은 다른 것보다 훨씬 덜 확실합니다. 가장 "
        "빗나간 것은 {row}행: 실제 {value}, 예측 {prediction}.",
    ),
    "constant": (
        "One answer for every row, {prediction}: what is left over is as wide as the target itself "
        "(standard deviation {spread}) and averages {mean} here. Each rung above is worth what it takes off "
        "this width.",
        "모든 행에 같은 답 {prediction}: 남은 오차의 퍼짐은 목표 자체와 같고(표준편차 {spread}) 여기서 "
        "평균은 {mean}입니다. 위의 단은 이 폭을 줄이는 만큼 값어치가 있습니다.",
    ),
    "predicted": ("predicted {target}", "{target} 예측"),
    "order": ("row of the table", "표의 행 번호"),
    "residual": ("{target} minus prediction", "{target} − 예측"),
}


def residuals(run: Run, *, part: Part = "validation") -> View:
    """prediction, residual, row (N,): target - prediction in the target's units, rows counted from 1.

    bin_prediction, bin_low, bin_middle, bin_high (B,): the 10, 50 and 90% quantiles of the residuals in
    groups of rows of like prediction and equal size. facts["worst"]: the worst rows.
    """
    rows = sample(run, part)
    prediction = run.predictions(rows.features).astype(np.float64)
    left = rows.values - prediction
    target = run.spec.target
    constant = bool(np.ptp(prediction) <= 1e-6 * max(1.0, float(np.abs(prediction).max())))
    order = np.argsort(prediction, kind="stable")
    groups = [group for group in np.array_split(order, int(np.clip(len(order) // 20, 3, BINS))) if len(group)]
    band = np.array([np.quantile(left[group], SHARES) for group in groups])  # (B, 3)
    middle = np.array([np.median(prediction[group]) for group in groups])
    size = np.abs(left)
    worst = np.argsort(-size, kind="stable")[:WORST]
    facts: dict[str, Any] = {
        "rung": run.rung,
        "target": target,
        "part": part,
        "mean": float(left.mean()),
        "rmse": float(np.sqrt(np.square(left).mean())),
        "spread": float(left.std()),
        "constant": constant,
        "worst": [
            {
                "row": int(rows.numbers[i]) + 1,
                "target": float(rows.values[i]),
                "prediction": float(prediction[i]),
            }
            for i in worst
        ],
    }
    arrays = {
        "prediction": prediction,
        "residual": left,
        "row": rows.numbers + 1,
        "bin_prediction": middle,
        "bin_low": band[:, 0],
        "bin_middle": band[:, 1],
        "bin_high": band[:, 2],
    }
    title = say(
        TEXTS,
        "title",
        rung=run.rung,
        target=target,
        typical=float(np.median(size)),
        large=float(np.quantile(size, 0.9)),
    )
    caption = say(
        TEXTS, "spread" if constant else "caption", rows=len(left), part=PARTS[part], worst=len(worst)
    )
    labels = {
        "residual": say(TEXTS, "residual", target=target),
        "prediction": say(TEXTS, "predicted", target=target),
        "row": say(TEXTS, "order"),
    }
    return View("residuals", title, caption, _see(facts, band, left), arrays, facts, labels)


def _see(facts: dict[str, Any], band: np.ndarray, left: np.ndarray) -> tuple[str, str]:
    first = facts["worst"][0]
    widths = band[:, 2] - band[:, 0]
    bend = float(np.abs(band[:, 1]).max())
    spread = facts["spread"] or 1.0
    values = {
        "target": facts["target"],
        "row": first["row"],
        "value": first["target"],
        "prediction": first["prediction"],
        "narrow": float(widths.min()),
        "wide": float(widths.max()),
        "bend": bend,
        "share": f"{bend / spread:.0%}",
        "mean": facts["mean"],
        "spread": facts["spread"],
    }
    if facts["constant"]:
        return say(TEXTS, "constant", **values)
    # a median of n rows strays by 1.25 / sqrt(n) deviations on its own; twice the largest of ten such is past
    # chance
    chance = 2 * 1.25 / np.sqrt(max(1, len(left) / len(band)))
    if bend / spread > max(0.5, chance):
        return say(TEXTS, "bent", **values)
    if len(band) > 3 and widths.max() > 2 * widths.min():
        return say(TEXTS, "uneven", **values)
    return say(TEXTS, "even", **values)

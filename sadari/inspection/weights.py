"""Weights: what each feature weighs; features are standardised, so that weights can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.errors import SadariError
from sadari.inspection.view import Said, View, say

if TYPE_CHECKING:
    from sadari.runs import Run

TEXTS = {
    "line": (
        "{rung}: {feature} weighs most: {each} {change} predicted {target} by {size}",
        "{rung}: 가장 무거운 특성은 {feature}, {each} {target} 예측이 {size} {change}",
    ),
    "raises": ("raises", "오릅니다"),
    "lowers": ("lowers", "내립니다"),
    "deviation": ("one standard deviation more", "표준편차 1만큼 늘면"),
    "being": ("being so", "여기에 해당하면"),
    "odds": (
        "{rung}: {feature} weighs most: {each} multiplies the odds of {of} by {factor}",
        "{rung}: 가장 무거운 특성은 {feature}, {each} {of} 오즈가 {factor}배 됩니다",
    ),
    "network": (
        "{rung}: its first layer listens most to {feature}",
        "{rung}: 첫 층이 가장 크게 듣는 특성은 {feature}",
    ),
    "number caption": (
        "Change of predicted {target} for one standard deviation more of a number, or for a category being "
        "so; all else equal. {shown}",
        "다른 것이 같을 때, 수는 표준편차 1만큼 늘 때, 범주는 거기에 해당할 때 {target} 예측이 변하는 양. "
        "{shown}",
    ),
    "odds caption": (
        "Change of the {scale} for one standard deviation more of a number, or for a category being so; all "
        "else equal. {shown}",
        "다른 것이 같을 때, 수는 표준편차 1만큼 늘 때, 범주는 거기에 해당할 때 {scale} 변화. {shown}",
    ),
    "network caption": (
        "Length of the weights by which an input reaches the {units} units of the first hidden layer (root "
        "of the sum of their squares). {shown}",
        "입력 하나가 첫 은닉층의 유닛 {units}개로 가는 가중치의 길이(제곱합의 제곱근). {shown}",
    ),
    "some": ("The {shown} largest of {all}.", "전체 {all}개 중 큰 {shown}개."),
    "every": ("All {all}.", "전체 {all}개."),
    "see line": (
        "Blue raises the answer, orange lowers it. {half} of {all} features carry half of all the "
        "weight.{twins}",
        "파랑은 답을 올리고 주황은 내립니다. 특성 {all}개 중 {half}개가 전체 무게의 절반을 집니다.{twins}",
    ),
    "twins": (
        " {one} and {other} move together (correlation {correlation:.2f}), so their weights can trade "
        "against each other and should be read as one.",
        " {one}, {other} 둘은 함께 움직여(상관 {correlation:.2f}) 무게를 서로 주고받을 수 있으니 하나로 "
        "묶어 읽어야 합니다.",
    ),
    "see network": (
        "A long bar only says that the first layer takes the input in; what becomes of it, later layers "
        "decide: look at the curve of {feature}. {half} of {all} inputs carry half of all the weight.",
        "긴 막대는 첫 층이 그 입력을 받아들인다는 뜻일 뿐, 쓰임은 뒤의 층이 정합니다. {feature} 곡선을 "
        "보십시오. 입력 {all}개 중 {half}개가 전체 무게의 절반을 집니다.",
    ),
    "log-odds": ("log-odds of {of}", "{of} 로그 오즈"),
    "score": (
        "score of each class (log-odds against the average class)",
        "클래스마다의 점수(평균 클래스에 견준 로그 오즈)",
    ),
    "weight": ("weight: {unit} per standard deviation", "무게: 표준편차 1당 {unit}"),
    "length": ("length of the first layer's weights", "첫 층 가중치의 길이"),
    "log": ("log(1 + {target})", "log(1 + {target})"),
}
TWINS = 0.8  # correlation from which two weights are not told apart with ease


def weights(run: Run, *, top: int = 20) -> View:
    """What each of the C features weighs, the `top` heaviest first, named in facts["names"].

    line: weight (F,) in the target's units; logistic: weight (F,), the log-odds of the second class, or (K,
    F) scores of K classes, centred over the classes; networks: length (F,) of the first layer's weights of an
    input, and first (D, F), the weights themselves; deep-skip also direct (O, F).
    """
    if top < 1:
        raise SadariError(f"--top {top} features cannot be shown; give 1 or more")
    model: Any = run.model
    names = np.array(run.spec.feature_names, dtype=str)
    if hasattr(model, "hidden"):
        return _network(run, model, names, top)
    matrix = model.linear.weight.detach().double().numpy()  # (O, C)
    classes = run.spec.classes
    if classes is None:
        matrix = matrix * run.spec.target_scale
    elif len(matrix) > 1:
        matrix = matrix - matrix.mean(0)  # softmax sees differences only
    size = np.abs(matrix).max(0)
    order = np.argsort(-size, kind="stable")[:top]
    heaviest = int(order[0])
    facts = {
        "rung": run.rung,
        "names": names[order].tolist(),
        "all": len(names),
        "bias": model.linear.bias.detach().double().tolist(),
        "classes": list(classes) if classes and len(matrix) > 1 else None,
        "half": _half(size),
        "twins": _twins(run, size),
    }
    each = say(TEXTS, "being" if _is_category(run, heaviest) else "deviation")
    values: dict[str, Any] = {
        "rung": run.rung,
        "feature": str(names[heaviest]),
        "each": each,
        "shown": _shown(order, names),
    }
    unit: Said
    if classes is None:
        unit = (
            say(TEXTS, "log", target=run.spec.target)
            if run.spec.log_target
            else (run.spec.target, run.spec.target)
        )
        value = float(matrix[0, heaviest])
        values |= {
            "target": unit,
            "size": abs(value),
            "change": say(TEXTS, "raises" if value > 0 else "lowers"),
        }
        title, caption = say(TEXTS, "line", **values), say(TEXTS, "number caption", **values)
    else:
        k = int(np.abs(matrix[:, heaviest]).argmax())
        of = classes[1] if len(matrix) == 1 else classes[k]
        unit = say(TEXTS, "log-odds", of=of) if len(matrix) == 1 else say(TEXTS, "score")
        values |= {"of": of, "factor": f"{np.exp(matrix[k, heaviest]):.3g}", "scale": unit}
        title, caption = say(TEXTS, "odds", **values), say(TEXTS, "odds caption", **values)
    twins: Said = ("", "")
    if facts["twins"]:
        one, other, correlation = facts["twins"]
        twins = tuple(text.format(one=one, other=other, correlation=correlation) for text in TEXTS["twins"])  # type: ignore[assignment]
    see = say(TEXTS, "see line", half=facts["half"], all=len(names), twins=twins)
    shown = matrix[:, order]
    arrays = {"weight": shown[0] if len(shown) == 1 else shown}
    return View("weights", title, caption, see, arrays, facts, {"weight": say(TEXTS, "weight", unit=unit)})


def _network(run: Run, model: Any, names: np.ndarray, top: int) -> View:
    first = model.hidden[0].weight.detach().double().numpy()  # (D, C)
    length = np.sqrt(np.square(first).sum(0))
    order = np.argsort(-length, kind="stable")[:top]
    arrays = {"length": length[order], "first": first[:, order]}
    if model.direct is not None:
        arrays["direct"] = model.direct.weight.detach().double().numpy()[:, order]
    feature = str(names[order[0]])
    facts = {"rung": run.rung, "names": names[order].tolist(), "all": len(names), "half": _half(length)}
    return View(
        "weights",
        say(TEXTS, "network", rung=run.rung, feature=feature),
        say(TEXTS, "network caption", units=len(first), shown=_shown(order, names)),
        say(TEXTS, "see network", feature=feature, half=facts["half"], all=len(names)),
        arrays,
        facts,
        {"length": TEXTS["length"]},
    )


def _shown(order: np.ndarray, names: np.ndarray) -> Said:
    return say(TEXTS, "some" if len(order) < len(names) else "every", shown=len(order), all=len(names))


def _half(size: np.ndarray) -> int:
    """How many of the heaviest features carry half of the sum of sizes."""
    total = np.cumsum(np.sort(size)[::-1])
    return int(np.searchsorted(total, total[-1] / 2)) + 1


def _is_category(run: Run, feature: int) -> bool:
    kinds = [column.kind for column in run.spec.columns for _ in column.features]
    return kinds[feature] == "category"


def _twins(run: Run, size: np.ndarray) -> tuple[str, str, float] | None:
    """The most correlated pair among the ten heaviest features, if their correlation passes TWINS."""
    features = run.data().train.features[:20_000].astype(np.float64)
    order = np.argsort(-size, kind="stable")[:10]
    chosen = features[:, order]
    chosen, order = chosen[:, chosen.std(0) > 0], order[chosen.std(0) > 0]
    if len(order) < 2:
        return None
    together = np.array(np.corrcoef(chosen.T))
    np.fill_diagonal(together, 0)
    one, other = np.unravel_index(np.abs(together).argmax(), together.shape)
    if abs(together[one, other]) < TWINS:
        return None
    names = run.spec.feature_names
    pair = sorted((int(order[one]), int(order[other])))
    return names[pair[0]], names[pair[1]], float(together[one, other])

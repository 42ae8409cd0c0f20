"""Transfer: the score against the number of labelled pictures, for a network that begins at nothing and for
those that bring what they learnt elsewhere.

With few labels what was learnt from other pictures is worth more than any cleverness here; with many, a
network of one's own catches up (Kornblith, Shlens & Le 2018, 1805.08974; Zhai et al. 2019, 1910.04867).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.batches import usual_size
from sadari.budget import Budget
from sadari.data.split import Split
from sadari.errors import SadariError
from sadari.fitting import Plan, plan_fit, run_fit
from sadari.inspection.calibration import wilson
from sadari.inspection.rows import PARTS, Part
from sadari.inspection.view import Said, View, say
from sadari.inspection.watching import watchers
from sadari.ladder import find_rung, ladder_for
from sadari.loop import SadariInterrupted

if TYPE_CHECKING:
    from sadari.data.prepare import Prepared
    from sadari.runs import Run

SCRATCH = "resnet"  # what begins at nothing, unless the run's own rung does
BROUGHT = ("probe", "fine-tune")  # rungs that bring what they learnt elsewhere
STEPS = 300
LEAST, MOST = 10, 2000  # labelled pictures, unless asked for others
SCORED, CHECKED = 2000, 500  # pictures that a score is taken on, and that tell when to stop, at most
CHECKS = 20  # looks at the latter in one training

TEXTS = {
    "ahead": (
        "With {few} labelled pictures {best} has {best_score} right and {other} {other_score}; with {many} "
        "they have {best_last} and {other_last}",
        "라벨 붙은 그림 {few}장으로 정답 비율은 {best} {best_score}, {other} {other_score}. {many}장이면 "
        "{best_last}, {other_last}",
    ),
    "alone": (
        "{best} goes from {best_score} right with {few} labelled pictures to {best_last} with {many}",
        "{best}: 라벨 붙은 그림 {few}장으로 정답 {best_score}, {many}장으로 {best_last}",
    ),
    "caption": (
        "{name}: share of {rows} {part} pictures answered rightly, against the labelled pictures learnt "
        "from: nested parts of the training pictures, every class in its share; at most {steps} steps "
        "each. Whiskers: 95% intervals.{left}",
        "{name}: {part} 그림 {rows}장 가운데 맞힌 비율. 가로는 배운 라벨 붙은 그림 수: 훈련 그림의 일부를 "
        "클래스 비율대로, 작은 것이 큰 것에 들어가게 골랐다. 저마다 많아야 {steps}걸음. 수염은 95% "
        "구간.{left}",
    ),
    "left": (
        " Left out: {name} ({why}).",
        " 뺀 단: {name} ({why}).",
    ),
    "see": (
        "{what} {found} When to stop was told to all by the same {checks} validation labels, which you would "
        "not have with so few.",
        "{what} {found} 다만 멈출 때를 고르는 데는 모두 같은 검증 라벨 {checks}개를 썼는데, 라벨이 몇 "
        "장뿐이라면 그만큼이 없을 것입니다.",
    ),
    "brought": (
        "The distance between the curves is what was learnt elsewhere, counted in labels that you need not "
        "write.",
        "두 곡선의 거리는 다른 곳에서 배워 온 것, 곧 붙이지 않아도 되는 라벨입니다.",
    ),
    "nothing": (
        "None of these has learnt anything elsewhere: each has only its labels to go by.",
        "여기에는 다른 곳에서 배워 온 단이 없어, 저마다 주어진 라벨만으로 배웁니다.",
    ),
    "reached": (
        "{other} needs {needs} labels for what {best} has with {few}.",
        "{few}장으로 배운 {best}의 점수에 이르려면 {other}에는 라벨 {needs}개가 필요합니다.",
    ),
    "never": (
        "{other} does not reach with {many} labels what {best} has with {few}.",
        "{few}장으로 배운 {best}의 점수에 {other}의 점수는 {many}장으로도 이르지 못합니다.",
    ),
    "only": (
        "Only one curve could be drawn here; a pretrained one is to stand beside it.",
        "여기서는 곡선 하나만 그릴 수 있었습니다. 사전 훈련된 단이 곁에 있어야 견줄 수 있습니다.",
    ),
    "sizes": ("labelled pictures", "라벨 붙은 그림 수"),
    "score": ("{part} pictures right", "맞힌 {part} 그림"),
    "low": ("lower end", "구간 아래"),
    "high": ("upper end", "구간 위"),
}


def transfer(
    run: Run,
    *,
    rungs: Sequence[str] = (),
    sizes: Sequence[int] = (),
    weights: str = "",
    steps: int = STEPS,
    part: Part = "test",
) -> View:
    """Fit each rung to S nested parts of the run's training pictures and score it.

    rungs   names on the ladder of pictures, by default the run's own (else resnet), probe and fine-tune;
            those whose weights are not at hand are left out, and said
    sizes   numbers of labelled pictures; by default 10, 20, 50, 100 ... up to 2,000 or all there are
    weights what probe and fine-tune begin from; else what the run began from, or their default
    steps   of each training, at most; what is solved directly takes none

    sizes (S,), score, low, high (R, S): the share of pictures of `part` that is right, and its 95 % interval.
    facts["rungs"]: the R that were fitted; facts["left"]: the others, with the reason.
    Raises SadariError for a rung that is on no ladder, when none is left, or for a size out of range.
    """
    prepared = run.data()
    wanted = _rungs(rungs or (run.rung if run.rung not in BROUGHT else SCRATCH, *BROUGHT))
    chosen = _sizes(sizes, len(prepared.split.train), len(run.spec.classes))
    if steps < 1 or part not in ("validation", "test"):
        raise SadariError(f"--steps {steps} --part {part}: give 1 step or more, and validation or test")
    if not weights and run.rung in BROUGHT:
        weights = run.config["model"]["weights"]
    order = nested(prepared.train.targets, run.config["seed"])
    found: dict[str, np.ndarray] = {}
    left: dict[str, str] = {}
    for name in wanted:
        right = []
        try:
            for size in chosen:
                right.append(
                    _scored(run, name, _few(prepared, order[:size]), len(order), weights, steps, part)
                )
        except SadariError as error:
            left[name] = str(error)
        else:
            found[name] = np.array(right)
    if not found:
        name, why = next(iter(left.items()))
        raise SadariError(f"none of {', '.join(wanted)} can be fitted here; {name}: {why}")
    rows = min(len(getattr(prepared.split, part)), SCORED)
    checks = min(len(prepared.split.validation), CHECKED)
    values = {"steps": steps, "rows": rows, "checks": checks, "part": PARTS[part]}
    return _view(chosen, found, left, {"name": prepared.table.name, **values})


def nested(targets: np.ndarray, seed: int) -> np.ndarray:
    """Row numbers (N,) in an order of which every beginning holds each class in about its share."""
    draw = np.random.default_rng(seed)
    place = np.empty(len(targets))
    for label in np.unique(targets):
        rows = draw.permutation(np.flatnonzero(targets == label))
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return np.lexsort((draw.random(len(targets)), place))


def _rungs(names: Sequence[str]) -> list[str]:
    """The rungs asked for, each once. SadariError for one that is not on the ladder at all."""
    known = ladder_for("classify", "images").names
    for name in names:
        if name not in known:
            find_rung(name, "classify", "images")
    return list(dict.fromkeys(names))


def _sizes(asked: Sequence[int], total: int, classes: int) -> list[int]:
    """Numbers of pictures to learn from, ascending; as asked, or in steps of 1, 2, 5 from one a class up."""
    if asked:
        if min(asked) < 1 or max(asked) > total:
            wrong = next(size for size in asked if not 1 <= size <= total)
            raise SadariError(f"--sizes {wrong}: there are 1 to {total:,} training pictures to learn from")
        return sorted(set(asked))
    least, most = min(max(LEAST, classes), total), min(MOST, total)
    steps = [a * 10**b for b in range(1, 7) for a in (1, 2, 5)]
    inside = [step for step in steps if least <= step <= most]
    if not inside or most > 1.2 * inside[-1]:
        inside.append(most)
    return inside


def _few(prepared: Prepared, chosen: np.ndarray) -> Prepared:
    """The same data with these training pictures alone, and no more others than scores need."""
    rows = {
        "train": np.sort(chosen),
        "validation": _spread(len(prepared.split.validation), CHECKED),
        "test": _spread(len(prepared.split.test), SCORED),
    }
    numbers = {name: getattr(prepared.split, name)[at] for name, at in rows.items()}
    arrays: dict[str, Any] = {}
    for name, at in rows.items():
        before: Any = getattr(prepared, name)
        arrays[name] = replace(before, features=before.features[at], targets=before.targets[at])
    return replace(prepared, split=Split(**numbers), **arrays)


def _spread(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` numbers, evenly spread."""
    return np.arange(count) if count <= most else np.arange(most) * count // most


def _scored(run: Run, name: str, few: Prepared, total: int, weights: str, steps: int, part: str) -> float:
    """The share of a part's pictures that a rung has right when it has learnt from these few."""
    model = {"weights": weights} if name in BROUGHT and weights else None
    if name == run.rung and name not in BROUGHT:
        model = run.config["model"]
    settings = {"evaluate_every": max(steps // CHECKS, 1), "precision": "fp32"}
    plan = plan_fit(
        name,
        run.config["data"]["source"],
        prepared=few,
        budget=Budget(steps=steps),
        seed=run.config["seed"],
        model=model,
        train=settings,
    )
    plan, count = _unhurried(plan, total), len(few.split.train)
    with tempfile.TemporaryDirectory(prefix="sadari-transfer-") as folder:
        try:
            fitted = run_fit(plan, Path(folder) / name, watchers(f"{name} {count:,}"))
        except SadariInterrupted as stopped:  # whose message would name a folder that goes
            raise SadariInterrupted(f"stopped while {name} learnt from {count:,} pictures") from stopped
    arrays: Any = getattr(plan.prepared, part)
    return float((fitted.predictions(arrays.features).argmax(1) == arrays.targets).mean())


def _unhurried(plan: Plan, total: int) -> Plan:
    """The plan with as much weight decay a step as a pass over all the pictures would have.

    Decay is set by the pass, and a pass over ten pictures is one step: hundreds of them would hold every
    weight near zero.
    """
    batch = plan.training.batch_size
    mine, all_of_them = (
        math.ceil(rows / (batch or usual_size(rows))) for rows in (len(plan.prepared.split.train), total)
    )
    training = replace(plan.training, weight_decay=plan.training.weight_decay * mine / all_of_them)
    return replace(plan, training=training, config={**plan.config, "train": asdict(training)})


def _view(
    sizes: list[int], found: dict[str, np.ndarray], left: dict[str, str], values: dict[str, Any]
) -> View:
    names = list(found)
    score = np.stack([found[name] for name in names])  # (R, S)
    low, high = wilson(score, np.full(score.shape, float(values["rows"])))
    brought = [name for name in names if name in BROUGHT]
    base = next((name for name in names if name not in BROUGHT), names[0])
    rivals = [name for name in brought or names if name != base]
    best = max(rivals, key=lambda name: found[name][0], default=base)
    values |= {
        "few": sizes[0],
        "many": sizes[-1],
        "best": best,
        "other": base,
        **{
            f"{who}_{when}": f"{found[name][at]:.0%}"
            for who, name in (("best", best), ("other", base))
            for when, at in (("score", 0), ("last", -1))
        },
    }
    missing = _sentences([say(TEXTS, "left", name=name, why=why.rstrip(".")) for name, why in left.items()])
    reached = _reached(sizes, found, best, base, values)
    return View(
        "transfer",
        say(TEXTS, "ahead" if best != base else "alone", **values),
        say(TEXTS, "caption", left=missing, **values),
        say(TEXTS, "see", what=TEXTS["brought" if brought else "nothing"], found=reached, **values),
        {"sizes": np.array(sizes), "score": score, "low": low, "high": high},
        {"rungs": names, "left": left, "rows": values["rows"]},
        {
            "sizes": TEXTS["sizes"],
            **{name: say(TEXTS, name, part=values["part"]) for name in ("score", "low", "high")},
        },
    )


def _reached(
    sizes: list[int], found: dict[str, np.ndarray], best: str, base: str, values: dict[str, Any]
) -> Said:
    """How many labels the rung that begins at nothing needs for what the best has with the fewest."""
    if best == base:
        return TEXTS["only"]
    enough = np.flatnonzero(found[base] >= found[best][0])
    if not len(enough):
        return say(TEXTS, "never", **values)
    return say(TEXTS, "reached", needs=sizes[int(enough[0])], **values)


def _sentences(said: Sequence[Said]) -> Said:
    return "".join(english for english, _ in said), "".join(korean for _, korean in said)

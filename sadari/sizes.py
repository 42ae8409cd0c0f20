"""Score against data size: "more data, or a taller rung?"

A rung learns from nested parts of the training rows (an eighth, a quarter, a half, all) and is scored on the
same test rows. A network's parts train together as one stack, each with as many starts as the rung itself.
Errors fall with the number of rows n as a + b n^-c (Cortes et al. 1994; Hestness et al. 2017, arXiv
1712.00409); the law is fitted anew on each resample of the test rows, which gives the gain to expect from
twice the rows an interval. What that interval does not hold is the luck of which rows were drawn for
training.

Alphabet: N rows, S sizes, R resamples, J contributions a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from sadari.fitting import Plan, can_solve, solve, tensors
from sadari.lang import Lang
from sadari.layers.stack import Stack, stackable
from sadari.metrics import Interval, Metric, Resamples, bootstrap, compare
from sadari.runs import Run
from sadari.train import train
from sadari.verdict import PROBABILITY

SHARES = (1 / 8, 1 / 4, 1 / 2)
LEAST = 16  # rows that a part must hold to say anything
EXPONENTS = np.linspace(0.05, 1.5, 30)  # of the law; theory has 1/2 for a rate and 1 for a parametric model

TEXTS = {
    "data": (
        "More data rather than a taller rung: with twice the rows {rung} should gain about {gain} of "
        "{metric} (95% interval {low} to {high}){rival}.",
        "더 높은 단보다 더 많은 데이터가 낫습니다. 행이 두 배면 {rung} 단은 {metric} 약 {gain} 나아질 "
        "것입니다(95% 구간 {low} ~ {high}){rival}.",
    ),
    "rung": (
        "A taller rung rather than more data: with twice the rows {rung} should gain about {gain} of "
        "{metric} (95% interval {low} to {high}){rival}.",
        "더 많은 데이터보다 더 높은 단이 낫습니다. 행이 두 배여도 {rung} 단은 {metric} 약 {gain} 나아질 "
        "뿐입니다(95% 구간 {low} ~ {high}){rival}.",
    ),
    "neither": (
        "Neither is sure to help: with twice the rows {rung} should gain about {gain} of {metric} (95% "
        "interval {low} to {high}){rival}.",
        "어느 쪽도 확실하지 않습니다. 행이 두 배면 {rung} 단은 {metric} 약 {gain} 나아질 것으로 "
        "보입니다(95% 구간 {low} ~ {high}){rival}.",
    ),
    "rival": (
        "; {next} gains {step} with the rows there are",
        ". {next} 단은 지금 있는 행으로 {step} 낫습니다",
    ),
    "no gain": (
        "; {next} gains nothing with the rows there are",
        ". {next} 단은 지금 있는 행으로 나아지지 않습니다",
    ),
    "top": ("; there is no rung above it", ". 그 위에는 단이 없습니다"),
}


@dataclass(frozen=True)
class Curve:
    """One rung's answers at each size, from few rows to all."""

    rung: str
    rows: tuple[int, ...]
    contributions: tuple[np.ndarray, ...]
    """What each test row contributes to the metric (N, J), size after size; the last is the rung of the
    table.
    """

    def intervals(self, metric: Metric, resamples: Resamples) -> list[Interval]:
        return [bootstrap(metric, contributions, resamples) for contributions in self.contributions]


def learn_parts(plan: Plan, run: Run) -> tuple[list[int], list[np.ndarray]]:
    """The rung of `run`, fitted by `plan`, learnt again from nested parts of its training rows.

    Returns the parts' numbers of rows, and the predictions for the test rows after each, as `Run.predictions`
    gives them. The parts are the beginnings of one seeded shuffle; those too small to say anything are left
    out.
    """
    total = len(plan.prepared.split.train)
    order = torch.from_numpy(np.random.default_rng(plan.config["seed"]).permutation(total))
    parts = [order[: round(share * total)].sort().values for share in SHARES]
    parts = [part for part in parts if len(part) >= LEAST]
    networks = _networks(plan, parts) if stackable(plan.networks()[0]) or not parts else _apart(plan, parts)
    runs = [replace(run, model=network) for network in networks]
    return [len(part) for part in parts], [each.answers(plan.prepared.test) for each in runs]


def _apart(plan: Plan, parts: Sequence[torch.Tensor]) -> list[Any]:
    """The network of each part, one after another; each is paid for by its share of the budget."""
    arrays, total = tensors(plan.prepared.train), len(plan.prepared.split.train)
    found = []
    for part in parts:
        network, share = plan.networks()[0], len(part) / total
        rows = None
        if plan.task.batching == "captions":  # of several captions a picture: the feed draws from these
            mine, rows = arrays, [part]
        elif "targets" in arrays:
            mine = {name: values[part] for name, values in arrays.items()}
        else:  # documents of a stream: as many from its beginning
            mine = {"features": arrays["features"][: int(plan.prepared.train.starts[len(part)])]}  # type: ignore[attr-defined]
        if can_solve(network, plan.loss):
            solve(network, mine, plan.loss, plan.prepared.spec)
        else:
            steps = math.ceil(plan.training.budget_steps * share)
            training = replace(
                plan.training, budget_seconds=plan.training.budget_seconds * share, budget_steps=steps
            )
            train(network, plan.task, mine, tensors(plan.prepared.validation), training, rows=rows)
        found.append(network.eval())
    return found


def _networks(plan: Plan, parts: Sequence[torch.Tensor]) -> list[Any]:
    """The best network of each part."""
    arrays = tensors(plan.prepared.train)
    networks: list[list[Any]] = [[*plan.networks()] for _ in parts]
    if not parts:
        return []
    if can_solve(networks[0][0], plan.loss):
        for (network, *_), part in zip(networks, parts, strict=True):
            mine = {name: values[part] for name, values in arrays.items()}
            solve(network, mine, plan.loss, plan.prepared.spec)
        return [network for network, *_ in networks]
    stack = Stack.of([network for starts in networks for network in starts])
    trained = train(
        stack,
        plan.task,
        arrays,
        tensors(plan.prepared.validation),
        plan.training,
        rows=[part for part in parts for _ in range(plan.starts)],
    )
    members = stack.unstack()
    best = trained.best_score.reshape(len(parts), plan.starts).argmin(1)
    return [members[i * plan.starts + int(start)].eval() for i, start in enumerate(best)]


def doubling(rows: Sequence[int], losses: np.ndarray) -> np.ndarray:
    """How far the losses (R, S) at `rows` (S,) would still fall with twice the last number of rows: (R,).

    The law a + b n^-c with a, b >= 0 is fitted by least squares for each exponent on a grid; the best one
    counts.
    """
    share = np.asarray(rows, dtype=np.float64) / rows[-1]
    least = np.full(len(losses), np.inf)
    gain = np.zeros(len(losses))
    for exponent in EXPONENTS:
        x = share**-exponent  # (S,)
        slope = np.maximum((losses @ (x - x.mean())) / np.square(x - x.mean()).sum(), 0)  # (R,)
        floor = losses.mean(1) - slope * x.mean()
        sunk = floor < 0  # a loss below nothing cannot be: the law then goes through the origin
        slope = np.where(sunk, np.maximum(losses @ x / np.square(x).sum(), 0), slope)
        floor = np.where(sunk, 0, floor)
        misfit = np.square(losses - floor[:, None] - slope[:, None] * x).sum(1)
        better = misfit < least
        least = np.where(better, misfit, least)
        gain = np.where(better, slope * (1 - 2**-exponent), gain)
    return gain


def answer(
    curve: Curve, metric: Metric, resamples: Resamples, above: tuple[str, np.ndarray] | None
) -> dict[str, Any] | None:
    """Answer "more data or a taller rung?" for a rung, given the name and contributions of the best rung
    above it.

    More data is sure to help where the last doubling did, a taller rung where it is better, each as surely as
    the verdict asks; of two that are, the one that gains more is named. None with fewer than three sizes.
    """
    if len(curve.rows) < 3:
        return None
    drawn = np.stack([resamples.scores(metric, part) for part in curve.contributions], axis=1)  # (R, S)
    points = np.array([[metric.reduce(part.mean(0)) for part in curve.contributions]], dtype=np.float64)
    losses, point = (metric.most - drawn, metric.most - points) if metric.higher else (drawn, points)
    gain = float(doubling(curve.rows, point)[0])
    low, high = np.quantile(doubling(curve.rows, losses), [0.025, 0.975])
    low, high = min(float(low), gain), max(float(high), gain)
    *_, half, full = curve.contributions
    data = compare(metric, full, half, resamples).better >= PROBABILITY
    step = compare(metric, above[1], full, resamples) if above else None
    taller = step is not None and step.better >= PROBABILITY
    if data and taller and step is not None:
        key = "data" if gain >= step.gain else "rung"
    else:
        key = "data" if data else "rung" if taller else "neither"
    sentences = []
    languages: tuple[Lang, Lang] = ("en", "ko")
    for column, lang in enumerate(languages):
        rival_key = "top" if step is None else "rival" if step.gain > 0 else "no gain"
        rival = TEXTS[rival_key][column].format(
            next=above[0] if above else "", step=metric.show_gain(step.gain, lang) if step else ""
        )
        shown = {
            "gain": metric.show_gain(gain, lang),
            "low": metric.show_gain(low, lang, unit=False),
            "high": metric.show_gain(high, lang, unit=False),
        }
        sentences.append(
            TEXTS[key][column].format(rung=curve.rung, metric=metric.call(lang), rival=rival, **shown)
        )
    return {
        "answer": key,
        "rung": curve.rung,
        "gain": gain,
        "low": low,
        "high": high,
        "above": above[0] if above else None,
        "above_gain": step.gain if step else None,
        "reasons": dict(zip(languages, sentences, strict=True)),
    }

"""Memory: how much of the loss's gradient reaches each earlier step, and what no gradient can teach.

(Hochreiter 1991 and Bengio et al. 1994 for the vanishing; the adding problem is that of Hochreiter &
Schmidhuber 1997, in the form of Arjovsky et al. 2016, 1511.06464.)
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.inspection.rows import PARTS, Part, sample
from sadari.inspection.view import View, say
from sadari.layers import recurrent
from sadari.layers.tokens import is_real
from sadari.models.rnn import RNNConfig
from sadari.tasks import build

if TYPE_CHECKING:
    from sadari.runs import Run

FRESH = ("small", "rnn", "lstm")  # whose curves at birth stand beside the run's: see `_born`
TEXTS_SHOWN = 32  # the longest of the part
TOGETHER = 4  # examples at once: a model that is recorded may keep large values
VANISHED = 1e-6  # of what reaches the last step: a gradient that teaches nothing
TRIVIAL = 1 / 6  # mean squared error of always answering 1: twice the variance of a number from 0 to 1

TEXTS = {
    "title": (
        "{rung}: {lag} steps back the gradient is {least} times the last step's",
        "{rung}: {lag}단계 앞의 기울기는 마지막 단계의 {least}배",
    ),
    "caption": (
        "Across: steps back from the last one that is read. Up: norm of the loss's gradient in what that "
        "step reads, the last step's being 1; geometric mean over {count} {part} {examples}. Dashed: "
        "networks of the same width ({width}) that read forwards and have learnt nothing yet.",
        "가로: 마지막에 읽은 단계에서 몇 단계 앞인가. 세로: 그 단계가 읽은 것에 대한 손실 기울기의 크기"
        "(마지막 단계를 1로), {part} {examples} {count}개의 기하평균. 점선: 앞으로만 읽고 아직 배우지 "
        "않은 같은 너비({width})의 망.",
    ),
    "see": (
        "{own} Before learning, {small}; {rnn}; {lstm}. Where no gradient arrives, no example can teach "
        "the network to look.{adding}",
        "{own} 배우기 전에는 {small}, {rnn}, {lstm}입니다. 기울기가 닿지 않는 곳은 아무리 많은 예로도 보도록 "
        "가르칠 수 없습니다.{adding}",
    ),
    "own gone": (
        "This {rung}'s gradient is below a millionth of the last step's from {gone} steps back.",
        "이 {rung}의 기울기는 {gone}단계 앞에서부터 마지막 단계의 백만분의 1 아래입니다.",
    ),
    "own left": (
        "This {rung}'s gradient is never below a millionth of the last step's: of all steps before, the one "
        "{lag} steps back gets least, {least} times as much.",
        "이 {rung}의 기울기는 마지막 단계의 백만분의 1 아래로 내려가지 않습니다. 가장 작은 곳은 {lag}단계 "
        "앞의 {least}배입니다.",
    ),
    "gone": (
        "that of {kind} falls below a millionth after {gone} steps",
        "{kind}은 {gone}단계 만에 백만분의 1 아래",
    ),
    "kept": ("that of {kind} is {left} after {lag} steps", "{kind}은 {lag}단계 앞에서 {left}배"),
    "a small": ("an RNN with small weights", "가중치가 작은 RNN"),
    "a rnn": ("an RNN whose weights only turn its state", "가중치가 상태를 돌리기만 하는 RNN"),
    "a lstm": ("an LSTM", "LSTM"),
    "adding": (
        " On the adding problem over {length} steps, where always answering 1 errs by {trivial}, {steps} "
        "updates bring the LSTM to {lstm}, the RNN to {rnn}, and to {small} from small weights.",
        " {length}단계 덧셈 문제에서 늘 1이라고 답하면 오차가 {trivial}인데, {steps}번 갱신 뒤 LSTM은 "
        "{lstm}, RNN은 {rnn}, 작은 가중치에서 출발한 RNN은 {small}입니다.",
    ),
    "lag": ("steps back", "몇 단계 앞"),
    "run": ("gradient, the last step's being 1", "기울기 크기 (마지막 단계를 1로)"),
    "text": ("texts", "글"),
    "series": ("series", "수열"),
    "stretch": ("stretches of text", "글 구간"),
    "adding_steps": ("updates", "갱신 횟수"),
    "adding_lstm": ("error of the adding problem", "덧셈 문제의 오차"),
    "this run": ("this run ({rung})", "이 실행 ({rung})"),
    "rnn": ("rnn, untaught", "rnn, 배우기 전"),
    "lstm": ("lstm, untaught", "lstm, 배우기 전"),
    "small": ("rnn of small weights", "가중치가 작은 rnn"),
    "trivial": ("always answering 1", "늘 1이라고 답할 때"),
    "vanished": ("a millionth", "백만분의 1"),
}


def memory(
    run: Run, *, part: Part = "validation", lags: int = 500, adding: int = 0, adding_steps: int = 1600
) -> View:
    """Gradient of the loss in what each earlier step reads: lag, run, small, rnn, lstm, each (A,).

    `rnn` and `lstm` are fresh networks of the run's width on the same examples, `small` an RNN whose weights
    are drawn as torch draws them, too small to keep a state. Lag 0 is the last step that is read, and every
    curve is 1 there. With `adding` T, all three are also taught to add two marked numbers of T: adding_steps,
    adding_small, adding_rnn, adding_lstm (S,), their mean squared errors on fresh examples.
    facts["gone"]: for each curve the first lag below a millionth, or None.
    Raises SadariError when no text is two steps long, or a number is out of range.
    """
    if lags < 1 or adding < 0 or adding == 1 or adding_steps < 1:
        raise SadariError(
            f"--lags {lags} --adding {adding} --adding-steps {adding_steps}: give lags and steps from 1 up, "
            "and a length of the adding problem from 2 up, or 0 for none"
        )
    examples, targets = _examples(run, part, lags)
    width = int(getattr(run.model.config, "width", 128))  # type: ignore[union-attr, arg-type]
    curves = {"run": reach(run.model, run, examples, targets)}
    for kind in FRESH:
        curves[kind] = reach(_born(run, kind, width), run, examples, targets)
    far = len(curves["run"]) - 1
    gone = {name: _gone(curve) for name, curve in curves.items()}
    lowest = 1 + int(curves["run"][1:].argmin())
    facts: dict[str, Any] = {
        "rung": run.rung,
        "gone": gone,
        "lowest": lowest,
        "vanished": VANISHED,
        "width": width,
    }
    arrays = {"lag": np.arange(far + 1), **curves}
    added: Any = ""
    if adding:
        seen = {kind: adding_course(adding, kind, adding_steps) for kind in FRESH}
        arrays["adding_steps"] = seen["lstm"][0]
        arrays |= {f"adding_{kind}": errors for kind, (_, errors) in seen.items()}
        facts["adding"] = {"length": adding, "trivial": TRIVIAL}
        ends = {kind: float(errors[-1]) for kind, (_, errors) in seen.items()}
        added = say(TEXTS, "adding", length=adding, trivial=TRIVIAL, steps=adding_steps, **ends)
    words = {"rung": run.rung, "lag": lowest, "least": float(curves["run"][lowest])}
    own = "own left" if gone["run"] is None else "own gone"
    spoken = {
        kind: say(TEXTS, "kept", kind=TEXTS[f"a {kind}"], lag=far, left=float(curves[kind][-1]))
        if gone[kind] is None
        else say(TEXTS, "gone", kind=TEXTS[f"a {kind}"], gone=gone[kind])
        for kind in FRESH
    }
    examples_said = TEXTS["stretch" if run.task.name == "language" else run.kind]
    return View(
        "memory",
        say(TEXTS, "title", **words),
        say(TEXTS, "caption", count=len(examples), part=PARTS[part], examples=examples_said, width=width),
        say(TEXTS, "see", own=say(TEXTS, own, gone=gone["run"], **words), adding=added, **spoken),
        arrays,
        facts,
        {
            "lag": TEXTS["lag"],
            "run": TEXTS["run"],
            **{kind: TEXTS[kind] for kind in FRESH},
            "this run": say(TEXTS, "this run", rung=run.rung),
            "vanished": TEXTS["vanished"],
            "trivial": TEXTS["trivial"],
            "adding_steps": TEXTS["adding_steps"],
            "adding_small": TEXTS["small"],
            "adding_rnn": ("rnn", "rnn"),
            "adding_lstm": ("lstm", "lstm"),
            "error": TEXTS["adding_lstm"],
        },
    )


def _born(run: Run, kind: str, width: int) -> nn.Module:
    """A fresh network of a kind, that reads forwards; "small" is an RNN with torch's own first weights."""
    settings = {"width": width} | ({} if run.task.name == "language" else {"directions": 1})
    rung = "lstm" if kind == "lstm" else "rnn"
    model: Any = build(rung, run.task.name, settings, run.spec.width, run.loss, 0, run.kind)
    if kind == "small":
        _shrink(model.rnn)
    return model


def _shrink(rnn: nn.RNN) -> None:
    """Weights as torch draws them, uniform within 1 / sqrt(C): a state loses nearly half its size a step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rnn.reset_parameters()


def _gone(curve: np.ndarray) -> int | None:
    """The first lag at which a curve is below a millionth."""
    below = np.nonzero(curve < VANISHED)[0]
    return int(below[0]) if len(below) else None


def _examples(run: Run, part: Part, lags: int) -> tuple[Tensor, Tensor]:
    """What to read (B, T), at most lags + 1 steps of it, and what should be answered at its end (B,)."""
    if run.task.name == "language":
        stream = torch.from_numpy(np.asarray(getattr(run.data(), part).features)).to(torch.int64)
        context = getattr(run.model, "context", None)
        length = min(lags + 1, context or lags + 1, len(stream) - 1)
        if length < 2:
            raise SadariError(f"the {part} text is {len(stream)} tokens long; two steps need three")
        starts = torch.linspace(0, len(stream) - 1 - length, TEXTS_SHOWN).long().unique()
        windows = torch.stack([stream[i : i + length + 1] for i in starts])
        return windows[:, :-1], windows[:, -1]
    rows = sample(run, part)
    features, targets = torch.from_numpy(rows.features), torch.from_numpy(rows.targets)
    if run.kind == "series":
        return features[:TEXTS_SHOWN, -(lags + 1) :], targets[:TEXTS_SHOWN]
    lengths = is_real(features).sum(1)
    longest = lengths.argsort(descending=True, stable=True)[:TEXTS_SHOWN]
    if lengths[longest[0]] < 2:
        raise SadariError(f"no {part} text has two tokens, so nothing was read before the last; give longer")
    longest = longest[lengths[longest] >= 2]
    return features[longest, : min(int(lengths[longest[0]]), lags + 1)].long(), targets[longest]


def reach(model: nn.Module, run: Run, examples: Tensor, targets: Tensor) -> np.ndarray:
    """Norm of the gradient that reaches each lag (A,), that at lag 0 being 1; geometric mean over examples.

    In double precision, where single ends at 1e-38. Lags that fewer than half the examples have are left out.
    """
    double = copy.deepcopy(model).double().eval()
    norms, real = _norms(double, run, examples, targets)  # (B, T)
    lengths = real.sum(1)
    common = int(lengths.double().quantile(0.5, interpolation="higher"))
    with np.errstate(divide="ignore"):
        logs = np.full((len(examples), common), np.nan)
        for row, (norm, length) in enumerate(zip(norms.numpy(), lengths.tolist(), strict=True)):
            back = norm[:length][::-1][:common]  # lag 0 first
            logs[row, : len(back)] = np.log(back)
    mean = np.nanmean(logs, axis=0)  # minus infinity where any is 0
    return np.exp(mean - mean[0]) if np.isfinite(mean[0]) else np.exp(mean)


def _norms(model: nn.Module, run: Run, examples: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Each example's own gradient norm in what each of its steps reads, and which steps are real: (B, T)."""
    net: Any = model
    if run.kind == "series":
        read = examples.double().requires_grad_()
        run.loss(net(read), targets).sum().backward()
        assert read.grad is not None
        return read.grad.abs(), torch.ones_like(read, dtype=torch.bool)
    norms = []
    for some, wanted in zip(examples.split(TOGETHER), targets.split(TOGETHER), strict=True):
        kept: list[Tensor] = []

        def keep(name: str, value: Tensor, kept: list[Tensor] = kept) -> Tensor:
            if name == "embedded":  # what every model that reads tokens calls the vectors that it begins with
                value.retain_grad()
                kept.append(value)
            return value

        if run.task.name == "language":
            hidden, _ = net.hidden(some, None, keep)
            losses = nn.functional.cross_entropy(net.head(hidden[:, -1]), wanted, reduction="sum")
        else:
            losses = run.loss(net(some, keep), wanted).sum()
        losses.backward()
        assert kept[0].grad is not None
        norms.append(kept[0].grad.norm(dim=-1))
    return torch.cat(norms), is_real(examples)


# ---------------------------------------------------------------------- the adding problem


class Adder(nn.Module):
    """Two numbers a step, a value and a mark, read by an RNN or LSTM; one answer after the last."""

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.config = RNNConfig(width=width, directions=1, dropout=0.0)
        self.enter = nn.Linear(2, width)
        self.core = recurrent.make_core(nn.LSTM if kind == "lstm" else nn.RNN, self.config)
        self.output = nn.Linear(width, 1)
        recurrent.initialise(self)
        if kind == "small":
            _shrink(self.core)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, 2) -> (B,)."""
        states, _ = recurrent.read(self.core, self.enter(x))
        return self.output(states[:, -1]).squeeze(-1)


def draw_sums(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The adding problem: values from 0 to 1 and a mark in each half (B, T, 2); their sum (B,)."""
    values, marks = torch.rand(count, length, generator=generator), torch.zeros(count, length)
    half = length // 2
    marks.scatter_(1, torch.randint(0, half, (count, 1), generator=generator), 1.0)
    marks.scatter_(1, torch.randint(half, length, (count, 1), generator=generator), 1.0)
    return torch.stack([values, marks], -1), (values * marks).sum(1)


def adding_course(
    length: int,
    kind: str,
    steps: int,
    seed: int = 0,
    *,
    width: int = 64,
    rate: float = 0.003,
    looks: int = 20,
) -> tuple[np.ndarray, np.ndarray]:
    """Teach an "lstm", an "rnn" or a "small" one to add: steps (S,) and mean squared errors (S,).

    The adding problem of `length`; Adam on 64 fresh examples a step, gradients clipped at 1; the errors are
    those of 1,000 others. Always answering 1 errs by 1/6.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Adder(kind, width)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    x, y = draw_sums(1000, length, generator)
    every = max(steps // looks, 1)
    seen, errors = [], []
    for step in range(1, steps + 1):
        given, wanted = draw_sums(64, length, generator)
        optimizer.zero_grad(set_to_none=True)
        (model(given) - wanted).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % every == 0 or step == steps:
            with torch.no_grad():
                errors.append((model(x) - y).square().mean().item())
            seen.append(step)
    return np.array(seen), np.array(errors)

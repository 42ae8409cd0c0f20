"""Views that open a model up: each returns arrays and words, `sadari.charts` draws them.

The table below is plain data, so that the views can be listed without importing torch.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from sadari.errors import SadariError
from sadari.lang import in_unit

if TYPE_CHECKING:
    from sadari.inspection.view import View
    from sadari.runs import Run

REGRESS, CLASSIFY = ("mean", "line"), ("prior", "logistic")
LINEAR, NETWORKS = ("line", "logistic"), ("shallow", "deep", "deep-skip")


@dataclass(frozen=True)
class ViewInfo:
    """Where a view lives, and the runs that it can open."""

    module: str
    function: str
    tasks: tuple[str, ...]
    rungs: tuple[str, ...]
    summary_en: str
    summary_ko: str
    many: bool = False
    """It takes the runs of a whole climb at once."""
    kinds: tuple[str, ...] = ("table", "series")
    """Kinds of data that it knows how to show."""

    def fits(self, task: str, rung: str, kind: str = "table") -> bool:
        return task in self.tasks and rung in self.rungs and kind in self.kinds


def _view(
    name: str,
    tasks: tuple[str, ...],
    rungs: tuple[str, ...],
    summary_en: str,
    summary_ko: str,
    many: bool = False,
    kinds: tuple[str, ...] = ("table", "series"),
) -> tuple[str, ViewInfo]:
    word = name.replace("-", "_")
    module = f"sadari.inspection.{word}"
    return name, ViewInfo(module, word, tasks, rungs, summary_en, summary_ko, many, kinds)


BOTH = ("regress", "classify")
EVERY = (*REGRESS, *CLASSIFY, *NETWORKS)
READERS = ("one-hot", "embedding", "rnn", "lstm", "attention", "transformer", "probe", "fine-tune")
ANY = ("table", "series", "text")
WRITERS = ("rnn", "lstm", "lstm-attention", "transformer")

VIEWS: dict[str, ViewInfo] = dict(
    (
        _view(
            "curve", BOTH, EVERY,
            "the prediction along one feature, every rung over the data",
            "한 특성을 따라 변하는 예측을 모든 단에 대해 데이터 위에 그린다",
            many=True,
        ),
        _view(
            "residuals", ("regress",), (*REGRESS, *NETWORKS, "rnn", "lstm"),
            "what is left over: target minus prediction, and the rows that are worst",
            "남은 오차: 목표에서 예측을 뺀 값, 그리고 가장 크게 빗나간 행",
        ),
        _view(
            "calibration", ("classify",), (*CLASSIFY, *NETWORKS, *READERS),
            "whether 80% means 80 %: probability said against share that came true",
            "80%라고 말하면 정말 80%인가: 말한 확률과 실제 비율",
            kinds=ANY,
        ),
        _view(
            "confusion", ("classify",), (*CLASSIFY, *NETWORKS, *READERS),
            "which class is taken for which",
            "어느 클래스를 어느 클래스로 잘못 보는가",
            kinds=ANY,
        ),
        _view(
            "boundary", ("classify",), (*CLASSIFY, *NETWORKS),
            "where the answer changes over two features",
            "두 특성 위에서 답이 바뀌는 곳",
        ),
        _view(
            "weights", BOTH, (*LINEAR, *NETWORKS),
            "what each feature weighs",
            "특성마다의 무게",
        ),
        _view(
            "surface", BOTH, (*LINEAR, *NETWORKS),
            "the loss over two weights, with the path of descent",
            "두 가중치 위의 손실 지형과 경사 하강이 지나간 길",
        ),
        _view(
            "learning-rate", BOTH, (*LINEAR, *NETWORKS),
            "the loss after some steps at each learning rate, and the rate that is too large",
            "학습률마다 몇 걸음 뒤의 손실, 그리고 너무 큰 학습률",
        ),
        _view(
            "regions", BOTH, NETWORKS,
            "the straight pieces of a relu network, counted exactly",
            "relu 신경망을 이루는 곧은 조각을 정확히 센다",
        ),
        _view(
            "flexibility", BOTH, ("shallow",),
            "1, 3, 10 and 100 hidden units on the same data",
            "같은 데이터에 은닉 유닛 1, 3, 10, 100개",
        ),
        _view(
            "gradients", BOTH, ("deep", "deep-skip"),
            "how much gradient reaches each layer, with and without direct connections",
            "직접 연결이 있을 때와 없을 때 층마다 닿는 기울기의 크기",
        ),
        _view(
            "attention", ("classify", "language"), ("attention", "transformer", "probe", "fine-tune"),
            "what each head looks at in a text, and how much of each word reaches the answer",
            "글에서 헤드마다 어디를 보는지, 각 낱말이 답에 얼마나 닿는지",
            kinds=("text",),
        ),
        _view(
            "memory", (*BOTH, "language"), ("rnn", "lstm", "attention", "transformer"),
            "how much of the loss's gradient reaches each earlier step, beside a fresh RNN and LSTM",
            "손실의 기울기가 앞선 단계마다 얼마나 닿는가, 갓 만든 RNN·LSTM과 나란히",
            kinds=("text", "series"),
        ),
        _view(
            "gates", (*BOTH, "language"), ("lstm", "attention"),
            "what one unit of an LSTM forgets, writes and shows, token by token",
            "LSTM의 유닛 하나가 토큰마다 무엇을 잊고 쓰고 보이는가",
            kinds=("text", "series"),
        ),
        _view(
            "following", ("language",), ("n-gram", "rnn", "lstm", "transformer"),
            "what it expects after a beginning: the likeliest tokens and their odds",
            "첫머리 다음에 무엇이 오리라 보는가: 가장 그럴듯한 토큰과 확률",
            kinds=("text",),
        ),
        _view(
            "words", ("classify", "language"), ("embedding", "rnn", "lstm", "attention", "transformer"),
            "which words are near each other, where one-hot has all equally far",
            "어느 낱말이 서로 가까운가, 원-핫에서는 모두 똑같이 멀다",
            kinds=("text",),
        ),
        _view(
            "speed", ("classify", "language"), ("rnn", "lstm", "transformer"),
            "tokens a second against the length of a text, in training and in writing",
            "글 길이에 따른 초당 토큰 수, 훈련할 때와 쓸 때",
            kinds=("text",),
        ),
        _view(
            "alignment", ("translate",), ("lstm-attention", "transformer"),
            "where in the source each written word looked",
            "쓴 낱말마다 원문의 어디를 보았는가",
            kinds=("pairs",),
        ),
        _view(
            "bottleneck", ("translate",), ("lookup", *WRITERS),
            "BLEU and chrF against the length of the source, every rung beside the others",
            "원문 길이에 따른 BLEU와 chrF, 모든 단을 나란히",
            many=True, kinds=("pairs",),
        ),
        _view(
            "forcing", ("translate",), WRITERS,
            "the loss along a target, behind the true words and behind its own",
            "쓴 글을 따라 변하는 손실, 참 낱말 뒤에서와 자기가 쓴 낱말 뒤에서",
            kinds=("pairs",),
        ),
        _view(
            "beam", ("translate",), WRITERS,
            "the search for one translation as a tree, and what wider beams bring",
            "번역 하나를 찾는 탐색을 나무로, 그리고 빔을 넓히면 무엇이 달라지는가",
            kinds=("pairs",),
        ),
    )
)  # fmt: skip


def views_for(task: str, rung: str, kind: str = "table") -> list[str]:
    """Names of the views that fit a run, in the order of the table."""
    return [name for name, info in VIEWS.items() if info.fits(task, rung, kind)]


def view_function(view: str) -> Any:
    """The function of a view; its keyword-only parameters are the view's options. Imports torch."""
    info = VIEWS[view]
    return getattr(importlib.import_module(info.module), info.function)


def look(runs: Run | Sequence[Run], view: str, **options: Any) -> View:
    """Open a run up, or with `curve` all the runs of a climb at once.

    Raises SadariError when there is no such view, when it does not fit the run (with those that do), or when
    an option is none of the view's.
    """
    several = list(runs) if isinstance(runs, Sequence) else [runs]
    if not several:
        raise SadariError("no run to look into; give the folder of at least one")
    task, fitting = several[0].task.name, views_for(several[0].task.name, several[0].rung, several[0].kind)
    if view not in VIEWS:
        near = get_close_matches(view, VIEWS, n=1)
        meant = f"; did you mean {near[0]}?" if near else ";"
        raise SadariError(f"there is no view {view!r}{meant} Views that fit this run: {', '.join(fitting)}")
    info = VIEWS[view]
    for run in several:
        if not info.fits(run.task.name, run.rung, run.kind):
            alike = [rung for rung in info.rungs if info.fits(run.task.name, rung, run.kind)]
            raise SadariError(
                f"view {view!r} does not fit a {run.rung} that was fitted to {run.task.name}; views that do: "
                f"{', '.join(views_for(run.task.name, run.rung, run.kind))}"
                + f" ({view} opens: {', '.join(alike)})"
                * bool(alike)
            )
    if len(several) > 1 and not info.many:
        raise SadariError(f"view {view!r} looks into one run, {len(several)} were given; give one")
    if any(run.task.name != task for run in several):
        raise SadariError(
            "these runs have different tasks, regress and classify; look into runs of one climb"
        )
    function = view_function(view)
    known = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    for name in options:
        if name not in known:
            flags = ", ".join("--" + option.replace("_", "-") for option in known) or "none"
            raise SadariError(f"view {view!r} has no option --{name.replace('_', '-')}; its options: {flags}")
    seen = function(several if info.many else several[0], **options)
    if several[0].kind == "text" and "table" in info.kinds:  # a view for all data, which speaks of rows
        seen = replace(seen, **{part: _of_texts(getattr(seen, part)) for part in ("title", "caption", "see")})
    return seen


def _of_texts(said: tuple[str, str]) -> tuple[str, str]:
    return in_unit(said[0], "text"), in_unit(said[1], "text")

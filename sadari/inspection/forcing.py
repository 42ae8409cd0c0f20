"""Forcing: what a token costs behind the true words and behind the model's own, position by position.

Taught behind true words only, a model has never seen its own mistakes, and one leads to the next: exposure
bias (Ranzato et al. 2016, 1511.06732; Bengio et al. 2015, 1506.03099, for scheduled sampling against it).

With x the source, y the reference and w what the model writes greedily, the two losses at position t are
    teacher   -ln p(y_t | x, y_1 .. y_t-1)
    free      -ln p(y_t | x, w_1 .. w_t-1),    w_t = argmax p(. | x, w_1 .. w_t-1)
They are equal until the first w_t that is not y_t. From there on `free` asks for the reference's token of the
same place in a text that goes another way: that is the price of a mistake, but also, in real language, that
of saying it otherwise or one word later. Behind an END of its own the model writes on, as far as the
reference goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sadari.errors import SadariError
from sadari.inspection.pairs import names_of, opened, pairs_of, sources_of, targets_of
from sadari.inspection.rows import PARTS, Part
from sadari.inspection.view import Said, View, say
from sadari.layers.tokens import is_real, trimmed
from sadari.metrics import number

if TYPE_CHECKING:
    from sadari.runs import Run

BLOCK = 32  # pairs at once: each has a number for every token of the vocabulary at every position
ENOUGH = 20  # pairs that a position must have

TEXTS = {
    "title": (
        "{name}: {teacher} nats a token behind the true words, {free} behind its own",
        "{name}: 참 낱말 뒤에서 토큰당 {teacher}내트, 자기가 쓴 낱말 뒤에서 {free}내트",
    ),
    "caption": (
        "Above, the loss of the reference's token at each position; below, the share of positions where the "
        "likeliest token is the reference's. Solid: behind the true words, as in training. Dashed: behind "
        "what the model wrote itself, greedily, compared place by place. {count} {part} pairs, positions "
        "that {least} or more of them reach; bands are 95% intervals.",
        "위: 자리마다 정답 토큰의 손실. 아래: 가장 그럴듯한 토큰이 정답인 비율. 실선은 훈련할 때처럼 참 낱말 "
        "뒤, 점선은 모델이 탐욕적으로 쓴 낱말 뒤에서 같은 자리끼리 견준 것. {part} 쌍 {count}개, {least}쌍 "
        "이상이 닿는 자리만. 띠는 95% 구간.",
    ),
    "see": (
        "{taught} {first} {others}{why} Not all of it is error: a text that says the same one word later is "
        "charged at every place.",
        "{taught} {first} {others}{why} 모두 오류인 것은 아닙니다. 같은 말을 한 낱말 늦게 쓴 글도 자리마다 "
        "손실을 뭅니다.",
    ),
    "why always": (
        "One wrong word stays in what is read next, and behind it the model was never taught.",
        "틀린 낱말 하나는 그다음에 읽을 글에 남고, 모델은 그런 글 뒤에서 배운 적이 없습니다.",
    ),
    "why sampled": (
        "One wrong word stays in what is read next; what it read of its own in training is to teach "
        "it how to go on from there.",
        "틀린 낱말 하나는 그다음에 읽을 글에 남습니다. 훈련할 때 자기 낱말을 읽은 것은 거기서 이어 가기 "
        "위해서입니다.",
    ),
    "always": (
        "In training {name} read true words alone.",
        "{name}은(는) 훈련할 때 참 낱말만 읽었습니다.",
    ),
    "sampled": (
        "In training {name} read words of its own too ({schedule} decay).",
        "{name}은(는) 훈련할 때 자기가 쓴 낱말도 읽었습니다({schedule} 감소).",
    ),
    "erred": (
        "{share} of its texts leave the reference somewhere; behind that place a token costs {free} nats, "
        "and {teacher} where the same texts go on with true words.",
        "글의 {share}가 어디선가 정답과 갈라집니다. 갈라진 뒤의 토큰은 {free}내트, 같은 글을 참 낱말로 "
        "이으면 {teacher}내트입니다.",
    ),
    "none": ("None of its texts leaves the reference.", "정답과 갈라진 글이 하나도 없습니다."),
    "other": (
        "{name} ({forcing}): {teacher} behind true words, {free} behind its own. ",
        "{name}({forcing}): 참 낱말 뒤 {teacher}, 자기 낱말 뒤 {free}. ",
    ),
    "only true": ("true words alone", "참 낱말만"),
    "decay": ("{schedule} decay", "{schedule} 감소"),
    "position": ("position in the target, tokens", "쓴 글에서의 자리, 토큰"),
    "loss": ("loss, nats", "손실, 내트"),
    "right": ("right tokens", "맞은 토큰"),
    "teacher": ("loss behind true words", "참 낱말 뒤의 손실"),
    "free": ("loss behind its own", "자기 낱말 뒤의 손실"),
    "teacher_error": ("error of the loss behind true words", "참 낱말 뒤 손실의 표준 오차"),
    "free_error": ("error of the loss behind its own", "자기 낱말 뒤 손실의 표준 오차"),
    "right_teacher": ("right behind true words", "참 낱말 뒤에서 맞은 비율"),
    "right_free": ("right behind its own", "자기 낱말 뒤에서 맞은 비율"),
    "whole": ("texts without an error so far", "그때까지 틀리지 않은 글의 비율"),
    "pairs": ("pairs", "쌍 수"),
    "behind true": ("{name}, true words", "{name}, 참 낱말"),
    "behind own": ("{name}, its own", "{name}, 자기 낱말"),
}


@dataclass(frozen=True)
class Course:
    """What one run's tokens cost: N pairs, T positions."""

    teacher: Float[np.ndarray, "N T"]
    """Nats of the reference's token behind true words; 0 where nothing is written."""
    free: Float[np.ndarray, "N T"]
    """The same behind what the model wrote."""
    right_teacher: Bool[np.ndarray, "N T"]
    """Whether the likeliest token is the reference's, behind true words."""
    right_free: Bool[np.ndarray, "N T"]
    """The same behind what the model wrote."""
    real: Bool[np.ndarray, "N T"]
    """Where the reference has a token, END included."""

    @property
    def whole(self) -> Bool[np.ndarray, "N T"]:
        """Whether all tokens before a position were written as the reference has them."""
        before = np.cumprod(self.right_free | ~self.real, axis=1).astype(bool)
        return np.concatenate([np.ones((len(before), 1), bool), before[:, :-1]], axis=1) & self.real


def forcing(run: Run, *, beside: Sequence[str] = (), part: Part = "test", most: int = 300) -> View:
    """Loss and share of right tokens by position, behind true words and behind the model's own: (R, P) each.

    beside   folders of runs on the same pairs, split and tokens: one taught with scheduled sampling, say
    most     pairs that are looked at, at most

    position (P,) from 1, pairs (P,) that reach it; teacher, free, right_teacher, right_free, whole (texts
    that are still the reference), and the standard errors of the two losses. SadariError when a run beside
    is of other data, or cuts texts in another way, so that positions differ.
    """
    runs = [run, *(opened(path, run) for path in beside)]
    for path, other in zip(beside, runs[1:], strict=True):
        if other.spec.tokenizer.fingerprint != run.spec.tokenizer.fingerprint:
            raise SadariError(
                f"--beside {path} cuts texts into other tokens, so its positions are others; give a run with "
                "the same tokenizer"
            )
        if other.rung == "lookup":
            raise SadariError(
                f"--beside {path} is a lookup, which reads nothing that it writes; leave it out"
            )
    pairs = pairs_of(run, part, most)
    targets = targets_of(run, pairs.references)
    courses = [course_of(one, sources_of(one, pairs.sources), targets) for one in runs]
    reached = courses[0].real.sum(0)
    last = max(int((reached >= min(ENOUGH, reached[0])).sum()), 1)
    names = names_of(runs)
    after = [_after(course) for course in courses]
    facts: dict[str, Any] = {
        "rung": run.rung,
        "rungs": names,
        "of": [one.rung for one in runs],
        "forcing": [_forcing(one) for one in runs],
        "teacher": [float(course.teacher.sum() / course.real.sum()) for course in courses],
        "free": [float(course.free.sum() / course.real.sum()) for course in courses],
        "erred": [one["erred"] for one in after],
        "teacher_after": [one["teacher"] for one in after],
        "free_after": [one["free"] for one in after],
    }
    arrays = {"position": 1 + np.arange(last), "pairs": reached[:last]}
    each = [_by_position(course, last) for course in courses]
    arrays |= {name: np.stack([one[name] for one in each]) for name in each[0]}
    means = {key: number(facts[key][0]) for key in ("teacher", "free")}
    return View(
        "forcing",
        say(TEXTS, "title", name=names[0], **means),
        say(TEXTS, "caption", count=len(pairs), part=PARTS[part], least=min(ENOUGH, int(reached[0]))),
        _see(facts),
        arrays,
        facts,
        {name: TEXTS[name] for name in ("loss", "right", *arrays)}
        | {f"true {i}": say(TEXTS, "behind true", name=name) for i, name in enumerate(names)}
        | {f"own {i}": say(TEXTS, "behind own", name=name) for i, name in enumerate(names)},
    )


@torch.inference_mode()
def course_of(run: Run, sources: Int[Tensor, "N S"], targets: Int[Tensor, "N T1"]) -> Course:
    """Both losses of every reference token; the free one step by step behind the model's own argmax."""
    T = targets.shape[1] - 1
    parts: list[list[np.ndarray]] = [[] for _ in range(4)]
    for source, target in zip(sources.split(BLOCK), targets.split(BLOCK), strict=True):
        source, target = trimmed(source), trimmed(target)
        wanted = target[:, 1:]
        seen = (_judged(run.model(source, target[:, :-1]), wanted), _free(run, source, wanted))
        (teacher, right_teacher), (free, right_free) = seen
        for into, values in zip(parts, (teacher, free, right_teacher, right_free), strict=True):
            wide = torch.zeros(len(values), T, dtype=values.dtype)
            wide[:, : values.shape[1]] = values
            into.append(wide.numpy())
    nats, own, right, own_right = (np.concatenate(part) for part in parts)
    return Course(nats, own, right, own_right, is_real(targets[:, 1:]).numpy())


def _free(run: Run, source: Int[Tensor, "B S"], wanted: Int[Tensor, "B T"]) -> tuple[Tensor, Tensor]:
    """`_judged` position by position, the argmax of one being read at the next."""
    model: Any = run.model
    state = model.start(source)
    token = torch.full((len(source), 1), run.spec.start)
    seen = []
    for t in range(wanted.shape[1]):
        logits, state = model.step(token, state)
        seen.append(_judged(logits.unsqueeze(1), wanted[:, t : t + 1]))
        token = logits.argmax(-1, keepdim=True)
    nats, right = zip(*seen, strict=True)
    return torch.cat(nats, 1), torch.cat(right, 1)


def _judged(logits: Float[Tensor, "B T V"], wanted: Int[Tensor, "B T"]) -> tuple[Tensor, Tensor]:
    """Nats of the wanted tokens (B, T), and whether each is the likeliest; nothing where none is wanted."""
    real = is_real(wanted)
    given = logits.gather(2, wanted.clamp(min=0).unsqueeze(2)).squeeze(2)
    return (logits.logsumexp(-1) - given).double() * real, (logits.argmax(-1) == wanted) & real


def _by_position(course: Course, last: int) -> dict[str, np.ndarray]:
    """Means over the pairs that reach a position, each (P,), and the standard errors of the losses."""
    count = np.maximum(course.real.sum(0), 1)
    found: dict[str, np.ndarray] = {}
    for name in ("teacher", "free"):
        nats = getattr(course, name)
        mean = nats.sum(0) / count
        spread = (np.square(nats - mean) * course.real).sum(0) / np.maximum(count - 1, 1)
        found |= {name: mean[:last], f"{name}_error": np.sqrt(spread / count)[:last]}
    for name in ("right_teacher", "right_free", "whole"):
        found[name] = (getattr(course, name).sum(0) / count)[:last]
    return found


def _after(course: Course) -> dict[str, Any]:
    """The share of texts that leave the reference, and both mean losses behind that place (None if none)."""
    behind = course.real & ~course.whole
    erred = (course.real & ~course.right_free).any(1)
    if not behind.any():
        return {"erred": float(erred.mean()), "teacher": None, "free": None}
    losses = {name: float(getattr(course, name)[behind].mean()) for name in ("teacher", "free")}
    return {"erred": float(erred.mean()), **losses}


def _see(facts: dict[str, Any]) -> Said:
    names, taught = facts["rungs"], facts["forcing"]
    first = TEXTS["none"]
    if facts["free_after"][0] is not None:
        losses = {"free": facts["free_after"][0], "teacher": facts["teacher_after"][0]}
        first = say(TEXTS, "erred", share=f"{facts['erred'][0]:.0%}", **losses)
    others = [
        say(
            TEXTS,
            "other",
            name=name,
            teacher=facts["teacher"][i],
            free=facts["free"][i],
            forcing=TEXTS["only true"] if taught[i] == "always" else say(TEXTS, "decay", schedule=taught[i]),
        )
        for i, name in enumerate(names)
        if i
    ]
    spoken = "always" if taught[0] == "always" else "sampled"
    return say(
        TEXTS,
        "see",
        taught=say(TEXTS, spoken, name=names[0], schedule=taught[0]),
        first=first,
        why=TEXTS[f"why {spoken}"],
        others=("".join(one for one, _ in others), "".join(other for _, other in others)),
    )


def _forcing(run: Run) -> str:
    """How it was taught: always behind true words, or with scheduled sampling of some decay."""
    return str(run.config.get("train", {}).get("forcing", "always"))

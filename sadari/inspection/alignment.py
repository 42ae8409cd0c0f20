"""Alignment: where in the source each written word looked.

Weights are the model's own (Bahdanau et al. 2014, 1409.0473, figure 3): of an LSTM with attention its one row
a step, of a Transformer the mean over the heads of the last decoder layer, which need not be the layer that
aligns best (Garg et al. 2019, 1909.02074). A row belongs to the token that was written, not to the one that
was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sadari.errors import SadariError
from sadari.inspection.pairs import (
    END,
    Pairs,
    by_words,
    pairs_of,
    sources_of,
    targets_of,
    translated,
    words_of,
)
from sadari.inspection.record import Recorder
from sadari.inspection.rows import PARTS, Part
from sadari.inspection.view import Said, View, say
from sadari.layers.tokens import is_real
from sadari.search import Searching

if TYPE_CHECKING:
    from sadari.runs import Run

MOST = 40  # words of a side that a picture has room for
FEWEST, USUAL = 6, 16  # words that an example has at least and at most, if there is one
MEASURED = 200  # pairs that the shares are taken over
BAND = 0.1  # of the length, to both sides of a diagonal
CLEAR = 0.5  # a share from which a picture is called by it
LETTERS = 18  # of a word in a sentence

TEXTS = {
    "title_mirrored": (
        "{rung} goes through the source from back to front: {share} of written tokens look most at their "
        "mirrored place",
        "{rung}: 원문을 뒤에서 앞으로 훑는다. 쓴 토큰의 {share}가 거울처럼 뒤집힌 자리를 가장 많이 본다",
    ),
    "title_along": (
        "{rung} goes along the source: {share} of the weight lies near the diagonal",
        "{rung}: 원문을 차례로 따라간다. 무게의 {share}가 대각선 가까이에 있다",
    ),
    "title_free": (
        "{rung}: each written token looks at {reach} places of the source at a time",
        "{rung}: 쓴 토큰마다 원문의 {reach}곳쯤을 한 번에 본다",
    ),
    "caption": (
        "A row for each word that was written, greedily, from the top; a column for each word of the source; "
        "the darker, the more weight. {weights}{wanted} Shares are over {count} {part} pairs, token by "
        "token, with the words of the data written; near is within a tenth of the length.{cut}",
        "행은 탐욕적으로 쓴 낱말, 위에서부터. 열은 원문의 낱말. 짙을수록 무게가 크다. {weights}{wanted} "
        "비율은 {part} 쌍 {count}개에서 데이터의 낱말로 토큰마다 셈했다. 가까이란 길이의 10분의 1 안.{cut}",
    ),
    "one weights": ("The weights of its attention.", "어텐션의 무게 그대로."),
    "mean weights": (
        "The mean over the {heads} heads of layer {layer}.",
        "{layer}층 헤드 {heads}개의 평균.",
    ),
    "head weights": ("Head {head} of layer {layer}.", "{layer}층 {head}번 헤드."),
    "wanted": (" The data has “{reference}”.", " 데이터에는 “{reference}”."),
    "cut": (" The first {most} words of a side.", " 한쪽의 처음 낱말 {most}개까지."),
    "see": (
        "While writing “{word}” it looks most at “{source}” ({share}). {shape} No vector has to hold the "
        "whole text: for each word the source is read again, where it matters. A dark cell says where "
        "information came from, not that the two words mean the same.",
        "“{word}”을(를) 쓸 때 “{source}”을(를) 가장 많이 봅니다({share}). {shape} 벡터 하나에 글을 다 담을 "
        "필요가 없습니다. 낱말마다 필요한 곳을 원문에서 다시 읽기 때문입니다. 짙은 칸은 정보가 어디서 "
        "왔는지를 말할 뿐, 두 낱말의 뜻이 같다는 말은 아닙니다.",
    ),
    "shape": (
        "Over all pairs {anti} of the tokens look most at the mirrored place and {diagonal} at the same "
        "place; {near} of the weight is near the diagonal, {near_anti} near the other one.",
        "모든 쌍에서 토큰의 {anti}가 뒤집힌 자리를, {diagonal}가 같은 자리를 가장 많이 봅니다. 무게의 "
        "{near}가 대각선 가까이에, {near_anti}가 반대 대각선 가까이에 있습니다.",
    ),
    "no shape": (
        "These pairs are too short to have a diagonal.",
        "쌍이 너무 짧아 대각선이라 할 것이 없습니다.",
    ),
    "source": ("word of the source", "원문의 낱말"),
    "target": ("word that was written", "쓴 낱말"),
    "weights": ("weight", "무게"),
    "reach": ("source words looked at at a time", "한 번에 보는 원문 낱말 수"),
}


@dataclass(frozen=True)
class Shape:
    """How alignments of many pairs lie, token by token, END's step left out; None where no pair is long."""

    antidiagonal: float | None
    """Share of steps that look most at the place mirrored from the other end."""
    diagonal: float | None
    """Share of steps that look most at the same place; lengths that differ are stretched."""
    near: float | None
    """Share of weight that lies near the diagonal."""
    near_anti: float | None
    """Share of weight that lies near the other diagonal."""
    entropy: float
    """Mean over steps, in nats; e to it is the number of places looked at at a time."""
    pairs: int
    steps: int


def alignment(
    run: Run,
    *,
    text: str | None = None,
    part: Part = "test",
    layer: int | None = None,
    head: int | None = None,
) -> View:
    """Where each written word looks in the source, for one source.

    text     what to translate; else a source of the part, of middling length
    layer    from 1, of a Transformer's decoder, instead of the last; its heads' mean unless `head` is given

    source (s,) and target (t,) as words, tokens of a word taken together, the first 40 of each; weights
    (t, s), whose whole rows sum to 1; reach (t,): e to a whole row's entropy. The facts hold a `Shape` of the
    part's pairs.
    SadariError for a layer or head that the model has not, or an empty text.
    """
    measured = pairs_of(run, part, MEASURED)
    if text is None:
        text, reference = _middling(run, measured)
    elif not text.strip():
        raise SadariError("the text has no words to look at; give some with --text")
    else:
        reference = None
    source = sources_of(run, [text])
    answer = translated(run, [text], Searching())[0][0]
    target = torch.tensor([[run.spec.start, *answer.tokens]])
    tokens = weights_of(run, source, target, layer, head)[0].double().numpy()  # (T, S)
    across, columns = words_of(run.spec.source_tokenizer, source[0].tolist())
    down, rows = words_of(run.spec.tokenizer, [*answer.tokens, run.spec.end])
    weights = by_words(tokens, rows, columns)
    cut, reaches = max(weights.shape) > MOST, np.exp(_entropies(weights))[:MOST]
    weights, across, down = weights[:MOST, :MOST], across[:MOST], down[:MOST]
    said = run.spec.decode(answer.tokens)
    shape = shape_of(run, measured, layer, head)
    word = _clearest(weights, across, down)
    reach = float(np.exp(shape.entropy))
    case = _case(shape)
    share = {"mirrored": shape.antidiagonal, "along": shape.near, "free": 0.0}[case]
    return View(
        "alignment",
        say(TEXTS, f"title_{case}", rung=run.rung, share=f"{share:.0%}", reach=f"{reach:.1f}"),
        say(
            TEXTS,
            "caption",
            weights=_which(run, layer, head),
            wanted="" if reference in (None, said) else say(TEXTS, "wanted", reference=reference),
            count=shape.pairs,
            part=PARTS[part],
            cut=say(TEXTS, "cut", most=MOST) if cut else "",
        ),
        say(
            TEXTS,
            "see",
            word=down[word][:LETTERS],
            source=across[int(weights[word].argmax())][:LETTERS],
            share=f"{weights[word].max():.0%}",
            shape=_said(shape),
        ),
        {
            "source": np.array(across),
            "target": np.array(down),
            "weights": weights.astype(np.float32),
            "reach": reaches,
        },
        {
            "rung": run.rung,
            "text": text,
            "translation": said,
            "reference": reference,
            "layer": layer,
            "head": head,
            **vars(shape),
            "reach": reach,
        },
        {name: TEXTS[name] for name in ("source", "target", "weights", "reach")},
    )


def weights_of(
    run: Run, source: Int[Tensor, "B S"], target: Int[Tensor, "B T"], layer: int | None, head: int | None
) -> Float[Tensor, "B T S"]:
    """Where the step after each target token looks; by default the model's own `alignment`."""
    model: Any = run.model
    with torch.inference_mode():
        if layer is None and head is None:
            return model.alignment(source, target)
        recorder = Recorder()
        model.hidden(source, target, recorder)
    crosses = [value for name, value in recorder.values.items() if name.endswith(".cross")]  # (B, H, T, S)
    if not crosses:
        raise SadariError(f"a {run.rung} has one row of weights a step; leave out --layer and --head")
    _check(layer, len(crosses), "layer")
    _check(head, crosses[0].shape[1], "head")
    chosen = crosses[-1 if layer is None else layer - 1]
    return chosen.mean(1) if head is None else chosen[:, head - 1]


def shape_of(run: Run, pairs: Pairs, layer: int | None = None, head: int | None = None) -> Shape:
    """The shape of the alignments of these pairs, their own targets written."""
    found: list[tuple[np.ndarray, ...]] = []
    entropies: list[np.ndarray] = []
    for first in range(0, len(pairs), 50):
        some = pairs.chosen(range(first, min(first + 50, len(pairs))))
        source, target = sources_of(run, some.sources), targets_of(run, some.references)
        weights = weights_of(run, source, target[:, :-1], layer, head).double().numpy()
        sizes, steps = is_real(source).sum(1).tolist(), (is_real(target).sum(1) - 2).tolist()
        for look, S, T in zip(weights, sizes, steps, strict=True):
            look = look[:T, :S]  # END of the source may be looked at, END of the target is not counted
            entropies.append(_entropies(look))
            if T > 1 and S > 2:
                found.append(_lies(look))
    every = np.concatenate(entropies)
    if not len(every):
        raise SadariError("the targets of these pairs have no tokens; choose another --part")
    shares: list[float | None] = [None] * 4
    if found:
        shares = [float(np.concatenate(column).mean()) for column in zip(*found, strict=True)]
    anti, same, near, near_anti = shares
    return Shape(anti, same, near, near_anti, float(every.mean()), len(pairs), len(every))


def _lies(look: Float[np.ndarray, "T S"]) -> tuple[np.ndarray, ...]:
    """Of each step: whether it looks most at the mirrored and at the same place, and its weight near both.

    The last column is END's, on which no diagonal lies.
    """
    T, S = look.shape[0], look.shape[1] - 1
    along = np.arange(T) / (T - 1) * (S - 1)
    most, places = look.argmax(1), np.arange(S)
    reach = max(BAND * S, 0.5)
    near = [np.abs(places - at[:, None]) <= reach for at in (along, S - 1 - along)]
    return (
        most == np.rint(S - 1 - along),
        most == np.rint(along),
        *((look[:, :S] * band).sum(1) for band in near),
    )


def _entropies(weights: Float[np.ndarray, "T S"]) -> Float[np.ndarray, " T"]:
    logs = np.log(weights, out=np.zeros_like(weights), where=weights > 0)
    return -(weights * logs).sum(-1)


def _case(shape: Shape) -> str:
    if shape.antidiagonal is None or shape.diagonal is None or shape.near is None:
        return "free"
    if shape.antidiagonal >= max(CLEAR, shape.diagonal):
        return "mirrored"
    return "along" if shape.near >= CLEAR else "free"


def _said(shape: Shape) -> Said:
    if shape.antidiagonal is None:
        return TEXTS["no shape"]
    shares = {"anti": shape.antidiagonal, "diagonal": shape.diagonal}
    shares |= {"near": shape.near, "near_anti": shape.near_anti}
    return say(TEXTS, "shape", **{name: f"{share:.0%}" for name, share in shares.items()})


def _which(run: Run, layer: int | None, head: int | None) -> Said:
    """Which weights are drawn."""
    depth = getattr(run.model.config, "depth", 0)
    if not depth:
        return TEXTS["one weights"]
    if head is None:
        return say(TEXTS, "mean weights", heads=run.model.config.heads, layer=layer or depth)  # type: ignore[union-attr]
    return say(TEXTS, "head weights", head=head, layer=layer or depth)


def _clearest(weights: np.ndarray, across: list[str], down: list[str]) -> int:
    """The written word whose look is clearest, END on either side only where there is nothing else."""
    words = np.array([name != END for name in down])[:, None] & np.array([name != END for name in across])
    return int(np.where(words, weights, weights - 1).max(1).argmax())


def _middling(run: Run, pairs: Pairs) -> tuple[str, str]:
    """The pair whose source has the middle number of words, FEWEST to USUAL; the first of equals."""
    lengths = np.array(
        [len(words_of(run.spec.source_tokenizer, one)[0]) for one in run.spec.encode_sources(pairs.sources)]
    )
    wanted = int(np.clip(np.median(lengths), FEWEST, USUAL))
    row = int(np.abs(lengths - wanted).argmin())
    return pairs.sources[row], pairs.references[row]


def _check(number: int | None, count: int, what: str) -> None:
    if number is not None and not 1 <= number <= count:
        raise SadariError(f"--{what} {number}: this model's {what}s are 1 to {count}")

"""From a source to its target: the likeliest one found by one beam or several, or one drawn by its odds.

    state = model.start(source)                   the source (B, S) read, nothing written
    logits, state = model.step(tokens, state)     T target tokens further, START first: (B, V) of the next
    state = model.reorder(state, rows)            keep, drop or repeat rows

The sum of log-probabilities falls with every token, so that short targets would win; the score divides it by
((5 + L) / 6)^length_penalty for L tokens, END included (Wu et al. 2016, 1609.08144, equation 14). A target
ends with END: one that reaches the most tokens gets END then and there, at the price that the model names.

A state may show where a step looked: an attribute `attention` (B, S), rows sum to 1. A model without it may
have `alignment(source, target) -> (B, T, S)`, asked once, when all is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from sadari.errors import SadariError
from sadari.layers.packed import packed
from sadari.layers.rounded import KINDS
from sadari.layers.shortlist import Shortlist, can_shortlist
from sadari.layers.tokens import PAD, is_real, trimmed
from sadari.search.alone import Alone
from sadari.search.beams import Beams
from sadari.search.settings import Candidate, Found, Searching, Step, Translator
from sadari.search.single import Single
from sadari.search.twins import twin_of, with_part

__all__ = ["Candidate", "Found", "Searching", "Step", "Translator", "aligned", "search"]
BLOCK = 128  # targets that are aligned at once
MANY = 1 << 20  # numbers in a head from which a shortlist is faster for one row than all of it laid out


def search(
    model: Translator,
    sources: Int[Tensor, "B S"],
    searching: Searching,
    start: int,
    end: int,
    never: Iterable[int] = (),
    prefixes: Sequence[Sequence[int]] | None = None,
    trace: list[Step] | None = None,
    *,
    align: bool = False,
    scores: bool = True,
    limits: np.ndarray | None = None,
    precision: str = "fp32",
) -> list[list[Found]]:
    """The targets of each source, the best first: `n_best` of them, or fewer where there are no more.

    sources   (B, S), END behind each, PAD at the right; each comes out as it would alone, in any order
    never     tokens that are not written (their odds are not shared out: `logp` is the model's own)
    prefixes  tokens that each target begins with; those of one length are searched together
    trace     gets a `Step` for every step of every sentence
    align     fill `Found.alignment`, if the model can
    scores    False lets a greedy search leave `logp` and `score` NaN and never sum over the vocabulary
    limits    (B,) tokens written at most, END aside, where `max_tokens` is 0; None: twice the source's and 10
    precision of products with the model's weights: fp32; bf16 and int8 are not quite the same

    Beam search keeps the `beam` best unfinished targets. END among the `beam` best candidates of a step makes
    a finished one; the `n_best` of these by score are kept. The search of a sentence ends when no beam can
    still beat the worst of them, which is exact: what a beam with log-probability l <= 0 may come to lies
    below l / penalty(most tokens + 1), since l only falls and the penalty only grows, up to there. A beam of
    1 ends with its first END. Groups (Vijayakumar et al. 2018, 1610.02424) choose in turn, each with
    `diversity` times the beams of earlier groups that took a token at this step off its log-probability, and
    keep finished targets of their own; what is given are the best of each group, then the second best.

    Raises SadariError when the model's logits are no finite numbers.
    """
    real = is_real(sources).sum(1).tolist()
    prefixes = [()] * len(real) if prefixes is None else prefixes
    if len(prefixes) != len(real):
        raise SadariError(f"{len(prefixes)} prefixes for {len(real)} sources; give one each, () for none")
    drawing = searching.temperature > 0
    several = not drawing and (searching.beam > 1 or trace is not None)
    scores = scores or drawing or several
    shortlist = len(real) == 1 and not (scores or searching.no_repeat)
    unwritten = set(never) - {end}
    shown = align and getattr(model, "alignment", None) is None  # by the steps, where they looked
    plain = not (shown or searching.no_repeat or searching.groups > 1 or trace is not None)
    plain = plain and several == scores
    found: list[list[Found]] = [[] for _ in real]
    with torch.inference_mode(), _ready(model, shortlist, unwritten, precision) as ready:
        for length in sorted({len(prefix) for prefix in prefixes}):
            rows = [i for i, prefix in enumerate(prefixes) if len(prefix) == length]
            begun = [[start, *map(int, prefixes[i])] for i in rows]
            most = None if limits is None else limits[rows]
            about = ready, trimmed(sources[rows]), begun, searching, end, unwritten, align, scores, most
            if len(rows) == 1 and plain:
                answers = Alone(*about).beams() if several else Alone(*about).greedy()
            else:
                answers = Beams(*about).write(rows, trace) if several else Single(*about).write()
            for i, answer in zip(rows, answers, strict=True):
                found[i] = answer
        if align and getattr(model, "alignment", None) is not None:
            found = aligned(model, sources, found, start)
    return found


@contextmanager
def _ready(model: Any, shortlist: bool, never: set[int], precision: str) -> Iterator[Any]:
    """The model without dropout, as a twin with its weights laid out; where it pays, with a shortlist."""
    training = isinstance(model, nn.Module) and model.training
    if training:
        model.eval()
    try:
        if not isinstance(model, nn.Module):
            yield model
            return
        if precision != "fp32":
            yield packed(model, kind=KINDS[precision])
            return
        head: Any = getattr(model, "head", None)
        large = shortlist and can_shortlist(head) and head.weight.numel() >= MANY
        twin = twin_of(model)
        yield with_part(twin, "head", Shortlist(head, never)) if large else twin
    finally:
        if training:
            model.train()


def aligned(
    model: Any, sources: Int[Tensor, "B S"], found: list[list[Found]], start: int
) -> list[list[Found]]:
    """Targets of `search` with what `model.alignment` says of each, by teacher forcing."""
    real = is_real(sources).sum(1).tolist()
    flat = [(i, one) for i, answers in enumerate(found) for one in answers]
    out: list[list[Found]] = [[] for _ in found]
    for first in range(0, len(flat), BLOCK):
        block = flat[first : first + BLOCK]
        rows = [i for i, _ in block]
        targets = [torch.tensor([start, *one.tokens]) for _, one in block]
        target = pad_sequence(targets, batch_first=True, padding_value=PAD).to(sources.device)
        with torch.inference_mode():
            looks = model.alignment(trimmed(sources[rows]), target)
        for (i, one), look in zip(block, looks, strict=True):
            cut = look[: len(one.tokens), : real[i]].clone()
            out[i].append(Found(one.tokens, one.logp, one.score, cut))
    return out

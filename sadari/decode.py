"""Writing on: one token after another, from any model that can start, step and reorder.

    state = model.start(batch)                    nothing read yet
    logits, state = model.step(tokens, state)     T tokens further: logits (B, V) of the next
    state = model.reorder(state, rows)            keep, drop or repeat rows of the batch

An RNN's state is its hidden vector, a Transformer's its cache, an n-gram's the last words; nothing here asks.
A step may write into the state that it is given: only the one that it returns is good afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.shortlist import Shortlist, can_shortlist

Prompt = str | Sequence[int]
"""A text, or its tokens."""
NUCLEUS = 1024  # likeliest tokens that top_p looks at first: they hold the nucleus of all but a lost model
FEW, MANY = 4, 48  # texts at once, and tokens, for which another layout of the weights pays
LARGE = 1 << 16  # numbers in a weight from which its reading takes longer than the call


class Writer(Protocol):
    """A model that writes."""

    def start(self, batch: int) -> Any: ...
    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]: ...
    def reorder(self, state: Any, rows: Tensor) -> Any: ...


class Stream(Protocol):
    """Makes text of tokens one by one, and never gives out half a character."""

    def add(self, token: int, /) -> str: ...
    def end(self) -> str: ...


class Tokenizer(Protocol):
    """What text is made of."""

    @property
    def end(self) -> int: ...
    def encode(self, texts: Sequence[str], /) -> Sequence[Any]: ...
    def stream(self) -> Stream: ...


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; each field's text is the help of its flag."""

    max_tokens: int = 100
    """Tokens written at most."""
    temperature: float = 0.8
    """How freely tokens are drawn: 0 = always the likeliest, 1 = by the model's own odds, above = wilder."""
    top_k: int = 0
    """Draw from so many likeliest tokens only; 0 = from all."""
    top_p: float = 0.95
    """Draw from the fewest likeliest tokens whose odds sum to this share; 1 = from all."""
    penalty: float = 1.0
    """How much less likely a token becomes once it was written (its logit by this factor); 1 = not at all."""
    window: int = 0
    """Tokens back that the penalty looks; 0 = all, the prompt included."""
    no_repeat: int = 0
    """Never write so many tokens in a row that stand in the text already; 0 = may repeat."""
    stop: tuple[str, ...] = ()
    """Texts before which the writing ends."""
    seed: int = 0
    """Start of the random choices: the same seed writes the same; text i of a batch draws as seed + i."""

    @property
    def likeliest(self) -> bool:
        """Whether the next token is always the one with the largest logit of the model's own."""
        return self.temperature == 0 and self.penalty == 1 and not self.no_repeat

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        for name in ("max_tokens", "top_k", "window", "no_repeat", "seed"):
            if getattr(self, name) < 0:
                raise SadariError(f"{name} {getattr(self, name)} is below 0; use {name}={_usual(name)}")
        if not 0 <= self.temperature < math.inf:
            raise SadariError(f"temperature {self.temperature}: it is 0 or more; use temperature=0.8")
        if not 0 < self.top_p <= 1:
            raise SadariError(f"top_p {self.top_p}: the share lies in (0, 1]; use top_p=0.95, or 1 for all")
        if not 0 < self.penalty < math.inf:
            raise SadariError(f"penalty {self.penalty}: it is above 0; use penalty=1.2, or 1 for none")
        if "" in self.stop:
            raise SadariError("stop '' stands everywhere, so that nothing would be written; leave it out")


def _usual(name: str) -> Any:
    return Sampling.__dataclass_fields__[name].default


GREEDY = Sampling(temperature=0.0)


def generate(
    model: Writer, tokenizer: Tokenizer, prompts: Sequence[Prompt], sampling: Sampling = Sampling()
) -> list[str]:
    """What each prompt is continued with, the prompt and the stop text not included.

    A prompt given as text begins a document; one given as tokens is read as it is. All are written at once;
    each comes out as it would alone, with `seed + i` for text i.
    """
    written = ["" for _ in prompts]
    for row, piece in pieces(model, tokenizer, prompts, sampling):
        written[row] += piece
    return written


def stream(
    model: Writer, tokenizer: Tokenizer, prompt: Prompt, sampling: Sampling = Sampling()
) -> Iterator[str]:
    """The continuation of one prompt piece by piece; the pieces join to what `generate` gives."""
    for _, piece in pieces(model, tokenizer, [prompt], sampling):
        yield piece


def pieces(
    model: Writer, tokenizer: Tokenizer, prompts: Sequence[Prompt], sampling: Sampling = Sampling()
) -> Iterator[tuple[int, str]]:
    """(i, piece of text i), as they are written; never half a character, and nothing of a stop text."""
    tokens = [_tokens(tokenizer, prompt) for prompt in prompts]
    special = (getattr(tokenizer, name, None) for name in ("unknown", "start"))
    never = {token for token in special if token is not None and token != tokenizer.end}
    writing = Writing(model, tokens, sampling, tokenizer.end, never)
    streams, watches = [tokenizer.stream() for _ in prompts], [Watch(sampling.stop) for _ in prompts]
    for row, prompt in enumerate(tokens):
        for known in prompt:
            streams[row].add(known)  # not given out, but what it ends with decides how the text goes on
    with writing:
        while writing.rows:
            for row, token in writing.step():
                piece = "" if token is None else streams[row].add(token)
                piece = watches[row].add(piece)
                if watches[row].stopped:
                    writing.drop(row)
                elif token is None:
                    rest = streams[row].end().removesuffix("\ufffd")  # cut short within a character: leave it
                    piece += watches[row].add(rest)
                    piece += watches[row].end()
                if piece:
                    yield row, piece


def _tokens(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    """A text's tokens after an END, behind which documents begin in what a language model learnt from."""
    if isinstance(prompt, str):
        return [tokenizer.end, *map(int, tokenizer.encode([prompt])[0])]
    return [*map(int, prompt)]


class Writing:
    """A batch of texts being written, each a token further at every step.

    Prompts of different lengths need no padding: all are read together up to the end of the shortest, then a
    token at a time, a row's own token while its prompt lasts and the chosen one after. A text that is done
    leaves the batch.
    """

    def __init__(
        self,
        model: Writer,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling = GREEDY,
        end: int | None = None,
        never: Iterable[int] = (),
    ) -> None:
        for i, prompt in enumerate(prompts):
            if not len(prompt):
                raise SadariError(f"prompt {i + 1} has no token to go on from; give it one, such as END")
        self.model, self.prompts, self.sampling, self.end = model, prompts, sampling, end
        self.never = sorted(never)
        self.rows = (
            list(range(len(prompts))) if sampling.max_tokens else []
        )  # texts in the batch, in its order
        self.texts = [list(prompt) for prompt in prompts]  # those read or written so far
        self.seen: list[dict[tuple[int, ...], set[int]]] = [{} for _ in prompts]
        self.random = [torch.Generator().manual_seed(sampling.seed + i) for i in range(len(prompts))]
        self.state: Any = None
        self.dropped: set[int] = set()
        self.read = 0  # tokens of each text that the state holds
        self.laid_out: list[tuple[Tensor, Tensor]] = []
        self.head: Any = None  # the model's own, while a shortlist stands in its place
        self.module: Any = model if isinstance(model, nn.Module) else None
        parameter = None if self.module is None else next(self.module.parameters(), None)
        self.device = torch.device("cpu") if parameter is None else parameter.device

    def __enter__(self) -> Writing:
        if self.module is not None:
            self.was_training = self.module.training
            self.module.eval()
            if len(self.prompts) <= FEW and self.sampling.max_tokens >= MANY:
                if self.sampling.likeliest and can_shortlist(getattr(self.module, "head", None)):
                    self.head = self.module.head
                    self.module.head = Shortlist(self.head, self.never)
                laid_out = lay_out(self.module)
                self.laid_out = laid_out if self.was_training else []  # else it may well write again
        return self

    def __exit__(self, *_: object) -> None:
        if self.module is not None:
            self.module.train(self.was_training)
            if self.head is not None:
                self.module.head = self.head
        for weight, before in self.laid_out:
            weight.data = before

    def drop(self, row: int) -> None:
        """Write no more on this text."""
        self.dropped.add(row)

    @torch.inference_mode()
    def step(self) -> list[tuple[int, int | None]]:
        """A token further: (i, its new token) for each text that got one; None when it came to its end.

        1. drop who is done  2. read the last token  3. choose the next, or take the prompt's own
        """
        living = [place for place, row in enumerate(self.rows) if row not in self.dropped]
        if len(living) < len(self.rows):
            self.rows = [self.rows[place] for place in living]
            if self.rows and self.state is not None:
                self.state = self.model.reorder(self.state, torch.tensor(living, device=self.device))
        if not self.rows:
            return []
        if self.state is None:
            before, self.read = 0, min(len(self.prompts[row]) for row in self.rows)
            self.state = self.model.start(len(self.rows))
        else:
            before, self.read = self.read, self.read + 1
        tokens = [self.texts[row][before : self.read] for row in self.rows]
        logits, self.state = self.model.step(torch.tensor(tokens, device=self.device), self.state)  # (B, V)
        chosen: list[tuple[int, int | None]] = []
        for place, row in enumerate(self.rows):
            text = self.texts[row]
            if self.read < len(text):
                continue  # its prompt goes on
            token = self._choose(logits[place], row)
            if token == self.end:
                chosen.append((row, None))
                self.drop(row)
                continue
            chosen.append((row, token))
            text.append(token)
            if len(text) - len(self.prompts[row]) == self.sampling.max_tokens:
                chosen.append((row, None))
                self.drop(row)
        return chosen

    def _choose(self, logits: Tensor, row: int) -> int:
        """The token that goes on text `row`: forbid, then draw."""
        text, sampling = self.texts[row], self.sampling
        forbidden = list(self.never)
        if sampling.no_repeat:
            forbidden += self._repeats(row)
        if sampling.penalty != 1:
            logits = penalised(logits, text[-sampling.window :], sampling.penalty)
        if forbidden:
            allowed = logits.clone()
            allowed[forbidden] = -math.inf
            if not bool(
                allowed.isneginf().all()
            ):  # else a tiny vocabulary is used up: repeat, not fall silent
                logits = allowed
        return draw(logits, sampling, self.random[row])

    def _repeats(self, row: int) -> set[int]:
        """Tokens that would complete a run of `no_repeat` tokens that stands in the text already."""
        text, n, seen = self.texts[row], self.sampling.no_repeat, self.seen[row]
        first = len(text) - n if seen else 0  # of the runs not yet noted
        for i in range(max(0, first), len(text) - n + 1):
            seen.setdefault(tuple(text[i : i + n - 1]), set()).add(text[i + n - 1])
        return seen.get(tuple(text[len(text) - n + 1 :]), set())


@torch.no_grad()
def lay_out(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Store wide layers' weights column by column, as a product with one row reads them fastest.

    Returns (weight, what it held) of each, to be put back; no number changes. A token's time is that of
    reading all weights once, and torch's product of a row with the usual layout reads at half the memory's
    speed (measured: 14 of 27 GB/s for 384 to 50,257). Narrow layers lose by it and stay; so do weights that
    are not in float32 on a processor.
    """
    laid_out = []
    for layer in model.modules():
        if not isinstance(layer, nn.Linear) or layer.out_features <= layer.in_features:
            continue
        weight = layer.weight
        if weight.numel() >= LARGE and weight.dtype == torch.float32 and weight.device.type == "cpu":
            before = weight.data
            if before.is_contiguous():  # else it is laid out already
                weight.data = before.t().contiguous().t()
                laid_out.append((weight, before))
    return laid_out


def penalised(logits: Tensor, text: Sequence[int], factor: float) -> Tensor:
    """Logits (V,) with those of tokens in `text` made lower: over the factor if positive, else times it.

    (Keskar 2019, 1909.05858, section 4.1, with the sign minded, as transformers does it.)
    """
    tokens = torch.tensor(sorted(set(text)), dtype=torch.int64, device=logits.device)
    theirs = logits[tokens]
    logits = logits.clone()
    logits[tokens] = torch.where(theirs > 0, theirs / factor, theirs * factor)
    return logits


def draw(logits: Tensor, sampling: Sampling, random: torch.Generator) -> int:
    """A token by its logits (V,): the likeliest at temperature 0, else drawn from what top_k and top_p leave.

    One random number a token, whatever is left to draw from. Raises SadariError when the logits are no
    numbers.
    """
    if sampling.temperature == 0:
        best, token = logits.max(0)
        _check(best)
        return int(token)
    threshold = torch.rand((), generator=random, dtype=torch.float64)
    logits = logits.double().cpu() / max(sampling.temperature, 1e-6)
    order = None
    if 0 < sampling.top_k < len(logits):
        logits, order = logits.topk(sampling.top_k)  # from the likeliest down
    odds = (logits - logits.max()).exp()
    total = odds.sum()
    _check(total)
    odds /= total
    if sampling.top_p < 1:
        if order is None:
            odds, order = _likeliest(odds, sampling.top_p)
        before = odds.cumsum(0) - odds
        odds = odds[before < sampling.top_p]  # the first is always in: nothing is before it
    sums = odds.cumsum(0)
    place = min(int(torch.searchsorted(sums, threshold * sums[-1], right=True)), len(sums) - 1)
    return place if order is None else int(order[place])


def _likeliest(odds: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Odds from the largest down, and whose they are; as many as hold the share, without sorting all of V."""
    if len(odds) > NUCLEUS:
        top, order = odds.topk(NUCLEUS)
        if top.sum() >= share:
            return top, order
    return odds.sort(descending=True)


def _check(value: Tensor) -> None:
    if not bool(value.isfinite()):
        raise SadariError("the model's logits are no finite numbers; its training broke down: fit it again")


class Watch:
    """Lets text through up to a stop text, and holds back what may be the beginning of one."""

    def __init__(self, stop: Sequence[str]) -> None:
        self.stop, self.held, self.stopped = stop, "", False

    def add(self, piece: str) -> str:
        """The text that can be given out now; nothing more once `stopped`."""
        if self.stopped or not self.stop:
            return "" if self.stopped else piece
        text = self.held + piece
        found = [place for place in (text.find(stop) for stop in self.stop) if place >= 0]
        if found:
            self.stopped, self.held = True, ""
            return text[: min(found)]
        held = max(
            n for stop in self.stop for n in range(min(len(stop), len(text) + 1)) if text.endswith(stop[:n])
        )
        self.held = text[len(text) - held :]
        return text[: len(text) - held]

    def end(self) -> str:
        """What was held back, as no stop text came of it."""
        held, self.held = self.held, ""
        return held


class Uncached:
    """Any model of tokens (B, T) to logits (B, T, V) as a writer: slow, since each step reads all anew."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def start(self, batch: int) -> Tensor:
        """No tokens yet (B, 0)."""
        return torch.empty(batch, 0, dtype=torch.int64)

    def step(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Read everything from the beginning."""
        state = torch.cat((state, tokens), dim=1)
        return self.model(state)[:, -1], state

    def reorder(self, state: Tensor, rows: Tensor) -> Tensor:
        """The tokens of these rows."""
        return state[rows]

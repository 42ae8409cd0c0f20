"""What is asked of pairs of texts: write the target, token after token, having read the source.

Teacher forcing gives the model the true target so far, whatever it would have written itself. Scheduled
sampling (Bengio et al. 2015, 1506.03099) lets it see its own words more and more often, as it will have to
when it writes alone:

1. choose what is read   each true word stays with a probability that falls in the course of the training;
                         else the model's own likeliest takes its place, and no gradient goes through that
2. the usual pass        over what was chosen; foretold are the true words, always

A recurrent model chooses step by step, so that a choice hangs on those before it. A model that reads all
words in one pass (`parallel = True`) chooses by a first pass over the true ones (Mihaylova & Martins 2019,
1906.07651): two passes, not T. Given what is read, one parallel pass and T single steps are the same sums, so
the second half is the same for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.layers.tokens import PAD, is_real
from sadari.layers.vocabulary import vocabulary_loss
from sadari.losses import CrossEntropy, Loss

Batch = Mapping[str, Tensor]
BLOCK = 1 << 13  # tokens of both sides read at once when nothing is learnt, padding included
LOGITS = 1 << 24  # held at once then: 64 MB
SCORED = 1 << 15  # target tokens that the loop looks at between two steps


def _between(curve: Callable[[float], float]) -> Callable[[float], float]:
    """`curve`, stretched so that it falls from 1 at 0 to 0 at 1."""
    first, last = curve(0.0), curve(1.0)
    return lambda done: (curve(done) - last) / (first - last)


# Of the true words that are to be replaced at the end, the share that still stands when so much of the
# training is done: Bengio's three courses, with a steepness that uses the whole length.
COURSES: dict[str, Callable[[float], float]] = {
    "always": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "exponential": _between(lambda done: math.exp(-4 * done)),
    "inverse-sigmoid": _between(lambda done: 1 / (1 + math.exp(10 * (done - 0.5)))),
}


def forcing_share(course: str, end: float, step: int, steps: int) -> float:
    """The share of true words that the model reads at `step` (0 .. steps - 1): 1 at the first, `end` at the
    last."""
    return 1.0 - (1.0 - end) * (1.0 - COURSES[course](step / max(steps - 1, 1)))


class TokenLoss(CrossEntropy):
    """Cross-entropy over V tokens: without the table of smoothed labels, which would have V² numbers."""

    task = "translate"

    def __init__(self, tokens: int, smoothing: float = 0.0) -> None:
        self.outputs = tokens
        self.smoothing = smoothing

    def _label(self, target: Tensor, like: Tensor) -> Tensor:
        evenly = like.new_full((*target.shape, self.outputs), self.smoothing / self.outputs)
        sure = evenly.new_full((*target.shape, 1), 1 - self.smoothing)
        return evenly.scatter_add_(-1, target.long().unsqueeze(-1), sure)


class TranslateTask:
    """Foretell each token of a target from those before it and the source.

    A batch is `{"features": (B, S), "targets": (B, T+1)}`: a source with END behind; START, a target and END;
    PAD at the right of both.
    """

    name = "translate"
    batching: ClassVar[str] = "pairs"

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.force("always", 1.0)

    def configure(self, config: Any) -> None:
        """Take what a `TrainConfig` says of forcing."""
        self.force(config.forcing, config.forcing_end)

    def force(self, course: str, end: float) -> None:
        """Let the share of true words fall by a course of `COURSES` to `end`.

        Until `at` says how far the training is, it is `end`: what is timed beforehand is the dearer step.
        """
        self.course, self.end = course, end
        self.share = 1.0 if course == "always" else end

    def at(self, step: int, steps: int) -> None:
        """The next batch is that of `step`, of 0 .. steps - 1."""
        self.share = forcing_share(self.course, self.end, step, steps)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`"loss"`: mean nats a target token, smoothed if the loss is."""
        net: Any = model
        source, target = batch["features"], batch["targets"]
        read, wanted = target[:, :-1], target[:, 1:]
        if self.share < 1.0:
            read = chosen(net, source, read, self.share)
        real = is_real(wanted)
        hidden = net.hidden(source, read)[real]  # (N, C)
        head = net.head
        return {
            "loss": vocabulary_loss(
                hidden, head.weight, head.bias, wanted[real], smoothing=self.loss.smoothing
            )
        }

    def backward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Fill the gradients and return the losses, each (1,)."""
        model.zero_grad(set_to_none=True)
        losses = self(model, batch)
        losses["loss"].backward()
        return {name: value.detach().reshape(1) for name, value in losses.items()}

    def evaluate(self, model: nn.Module, arrays: Batch) -> Tensor:
        """Mean nats a target token over all pairs, (1,), without dropout and without smoothing."""
        nats, tokens = self.nats(model, arrays)
        return (nats.sum() / tokens.sum().clamp(min=1)).reshape(1)

    def score(self, model: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        """What the loop watches: `evaluate` on about `SCORED` target tokens, of pairs spread evenly."""
        N = len(arrays["targets"])
        tokens = max(int(is_real(arrays["targets"][:, 1:]).sum()), 1)
        if tokens > SCORED:
            most = max(N * SCORED // tokens, 1)
            some = torch.arange(most, device=arrays["targets"].device) * N // most
            arrays = {name: array[some] for name, array in arrays.items()}
        loss = self.evaluate(model, arrays)
        return {"loss": loss, "score": loss}

    @torch.inference_mode()
    def nats(self, model: nn.Module, arrays: Batch) -> tuple[Tensor, Tensor]:
        """For each pair the sum over its target of -ln p(token | those before, source), (N,) float64, and how
        many tokens that are, (N,) int64: END is one, START is none."""
        net: Any = model
        was_training = model.training
        model.eval()
        source, target = arrays["features"], arrays["targets"]
        nats = torch.zeros(len(target), dtype=torch.float64, device=target.device)
        tokens = is_real(target[:, 1:]).sum(-1)
        for rows in blocks(source, target):
            read, written = source[rows], target[rows]
            longest = int(tokens[rows].max())
            if not longest:
                continue
            read = read[:, : max(int(is_real(read).sum(-1).max()), 1)]
            wanted = written[:, 1 : longest + 1]
            real = is_real(wanted)
            surprise = torch.zeros(wanted.shape, dtype=torch.float64, device=target.device)
            surprise[real] = torch.cat(
                [
                    F.cross_entropy(logits.float(), some.long(), reduction="none").double()
                    for logits, some in _logits(net, read, written[:, :longest], real, wanted[real])
                ]
            )
            nats[rows] = surprise.sum(-1)
        model.train(was_training)
        return nats, tokens


def blocks(source: Int[Tensor, "N S"], target: Int[Tensor, "N T"]) -> Iterator[Int[Tensor, " n"]]:
    """The numbers of pairs of like length to be read together, the shortest first."""
    lengths = torch.stack([is_real(source).sum(-1), is_real(target).sum(-1)], dim=-1)  # (N, 2)
    order = lengths[:, 0].argsort(stable=True)
    order = order[lengths[order].sum(-1).argsort(stable=True)]
    start = 0
    while start < len(order):
        ahead = lengths[order[start : start + BLOCK]]
        widest = ahead.cummax(0).values.sum(-1)  # of the first 1, 2, ... pairs, both sides
        fits = int((widest * torch.arange(1, len(ahead) + 1, device=widest.device) <= BLOCK).sum())
        yield order[start : start + max(fits, 1)]
        start += max(fits, 1)


@torch.no_grad()
def chosen(
    net: Any, source: Int[Tensor, "B S"], read: Int[Tensor, "B T"], share: float
) -> Int[Tensor, "B T"]:
    """What is read in the place of `read`: true words kept with probability `share`, else the model's own.

    START and PAD stay. The random numbers are torch's global ones, as many for every model.
    """
    keep = torch.rand(read.shape, device=read.device) < share
    keep[:, :1] = True
    keep |= ~is_real(read)
    if getattr(net, "parallel", False):
        own = torch.full_like(read, PAD)
        asked = ~keep[:, 1:]
        if bool(asked.any()):
            hidden = net.hidden(source, read)[:, :-1][asked]
            own[:, 1:][asked] = torch.cat([net.head(h).argmax(-1) for h in _few(hidden, net.head)]).to(own)
        return torch.where(keep, read, own)
    words = read[:, :1]
    found, state = [words], net.start(source)
    for t in range(1, read.shape[1]):
        logits, state = net.step(words, state)
        words = torch.where(keep[:, t : t + 1], read[:, t : t + 1], logits.argmax(-1, keepdim=True).to(read))
        found.append(words)
    return torch.cat(found, dim=1)


def _few(hidden: Float[Tensor, "N C"], head: nn.Linear) -> tuple[Tensor, ...]:
    """Rows by so many that their logits have room."""
    return hidden.split(max(LOGITS // head.out_features, 1))


def _logits(
    net: Any, source: Tensor, read: Tensor, real: Tensor, wanted: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (n, V) and the tokens (n,) that they should foretell, of the `real` places, a few at a time."""
    if not hasattr(net, "head"):  # what finds its answer has none
        yield net(source, read)[real], wanted
        return
    rows = _few(net.hidden(source, read)[real], net.head)
    for hidden, some in zip(rows, wanted.split(len(rows[0])), strict=True):
        yield net.head(hidden), some

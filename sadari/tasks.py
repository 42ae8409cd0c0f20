"""What is asked of a model: a task turns (model, batch) into named losses, and is where data and models meet.

The loop knows tasks only by `backward`, `evaluate` and `score`; a method such as distillation wraps one.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sadari.data.spec import TableSpec
from sadari.data.spec_captions import CaptionSpec
from sadari.data.spec_images import ImageSpec
from sadari.data.spec_pairs import PairSpec
from sadari.data.spec_text import LanguageSpec, TextSpec
from sadari.ladder import find_rung
from sadari.layers.tokens import is_real
from sadari.layers.vocabulary import vocabulary_loss
from sadari.losses import Loss, make_loss
from sadari.tasks_pairs import TokenLoss, TranslateTask

Batch = Mapping[str, Tensor]
Monitor = Literal["auto", "loss", "error"]
EVALUATION_ROWS = (
    8192  # rows a block: hidden layers of a few hundred units then stay within a second-level cache
)
EVALUATION_TOKENS = 1 << 14  # tokens a block of texts, padding included
STRETCH, WARM = 256, 32  # tokens scored and read before, by a model that has no context of its own
SCORED_TOKENS = 1 << 15  # of the validation stream that the loop looks at between two steps
SCORED_MACS, SCORED_TEXTS = 1 << 39, 256  # multiply-adds of such a look at texts, and texts at the least
Spec = TableSpec | TextSpec | LanguageSpec | PairSpec | ImageSpec | CaptionSpec


@runtime_checkable
class Penalised(Protocol):
    """A model whose objective is the sum of losses over the rows plus a penalty, as ridge regression's is."""

    def penalty(self) -> Tensor: ...


class TableTask:
    """Predict one column of a table: `regress` a number, or `classify` into classes.

    A batch is `{"features": (B, C) float, "targets": (B,) float or class numbers}`; for a stack of K
    networks `(K, B, C)` and `(K, B)`, or the shapes above to show every member the same rows.
    """

    batching: ClassVar[str] = "rows"
    """Which batches feed it: see `sadari.batches`."""

    def __init__(self, name: str, loss: Loss, monitor: Monitor = "auto", rows: int = 0) -> None:
        self.name = name
        self.loss = loss
        self.monitor = monitor
        self.rows = rows  # trained on: what a model's penalty on the sum of losses is divided by

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Named losses of one batch; `"loss"` is the one to minimise, a mean over the rows."""
        loss = self.loss(model(batch["features"]), batch["targets"]).mean()
        if self.rows and isinstance(model, Penalised):
            loss = loss + model.penalty() / self.rows
        return {"loss": loss}

    def backward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Fill the gradients and return losses (K,): by the model's own formulas if it has them."""
        by_hand = getattr(model, "gradients", None)
        if by_hand is not None:
            return {"loss": by_hand(batch["features"], batch["targets"], self.loss)}
        model.zero_grad(set_to_none=True)
        losses = self(model, batch)
        losses["loss"].backward()
        return {name: value.detach().reshape(1) for name, value in losses.items()}

    def evaluate(self, model: nn.Module, arrays: Batch) -> Tensor:
        """Mean loss over all rows, (K,) for a stack and (1,) otherwise, in blocks and without dropout."""
        return self._means(model, arrays, errors=False)[0]

    def score(self, model: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        """What the loop watches on the validation rows, each (K,): `score` is the one that it minimises.

        `monitor` "loss" scores by the mean loss; "error" by the share of rows given a wrong class, and, where
        that is equal, by the loss; "auto" by errors for classes. A network goes on to put more rows right
        long after its loss has turned up: the few that it gets wrong it gets wrong with growing certainty.
        """
        errors = self.name == "classify" and self.monitor != "loss"
        means = self._means(model, arrays, errors)
        if not errors:
            return {"loss": means[0], "score": means[0]}
        loss, error = means
        below_one_row = loss / (1 + loss) / len(arrays["targets"])
        return {"loss": loss, "error": error, "score": error + below_one_row}

    def blocks(self, features: Tensor) -> Iterator[tuple[Any, Tensor]]:
        """Rows to answer together, as what picks them, and their features."""
        for start in range(0, len(features), EVALUATION_ROWS):
            rows = slice(start, start + EVALUATION_ROWS)
            yield rows, features[rows]

    @torch.no_grad()
    def outputs(self, model: nn.Module, features: Tensor) -> Tensor:
        """The model's raw outputs (N, O), computed in blocks."""
        found = torch.empty(len(features), self.loss.outputs)
        for rows, block in self.blocks(features):
            found[rows] = model(block)
        return found

    @torch.no_grad()
    def _means(self, model: nn.Module, arrays: Batch, errors: bool) -> Tensor:
        """Mean loss, and share of wrong classes if asked for: (1 or 2, K)."""
        features, targets = arrays["features"], arrays["targets"]
        was_training = model.training
        model.eval()
        total = torch.zeros(1 + errors, getattr(model, "members", 1), dtype=torch.float64)
        for rows, block in self.blocks(features):
            output = model(block)
            output = output.to(torch.promote_types(output.dtype, torch.float32))  # the loop may ask in bf16
            target = targets[rows].expand(output.shape[:-1])
            total[0] += self.loss(output, target).double().sum(-1).reshape(-1)
            if errors:
                total[1] += (self.loss.predict(output).argmax(-1) != target).sum(-1).reshape(-1)
        model.train(was_training)
        return total / len(targets)


class TextTask(TableTask):
    """`classify` texts: features are tokens (B, T) with PAD at the right."""

    batching: ClassVar[str] = "texts"

    def score(self, model: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        """As for rows; of a model that takes long to read them, on some of the texts, evenly spread."""
        net: Any = model
        lengths = is_real(arrays["features"]).sum(-1)
        length = max(round(lengths.double().mean().item()), 1) if len(lengths) else 1
        each = macs_of(type(net), net.config, 0, self.loss.outputs, length) if hasattr(net, "macs") else 1
        most = max(SCORED_MACS // max(each, 1), SCORED_TEXTS)
        if len(lengths) > most:
            chosen = torch.arange(most) * len(lengths) // most
            arrays = {name: array[chosen] for name, array in arrays.items()}
        return super().score(model, arrays)

    def blocks(self, features: Tensor) -> Iterator[tuple[Any, Tensor]]:
        """Texts of like length together, cut where the longest ends."""
        lengths = is_real(features).sum(-1).clamp(min=1)
        order = lengths.argsort(stable=True)
        start = 0
        while start < len(order):
            size, longest = 1, 1  # as many texts as have room, each as long as the last of them
            ahead = lengths[order[start : start + EVALUATION_TOKENS]]
            fits = (ahead * torch.arange(1, len(ahead) + 1) <= EVALUATION_TOKENS).nonzero()
            size = max(int(fits[-1]) + 1, 1) if len(fits) else 1
            rows = order[start : start + size]
            longest = int(lengths[rows[-1]])
            yield rows, features[rows][:, :longest]
            start += size


class LanguageTask:
    """Foretell each token of a stream from those before it.

    A batch is `{"tokens": (B, T), "targets": (B, T)}`, and for a model that carries its state on also
    `state.0`, `state.1` ...: read before the first token, and overwritten with what the last one left.
    """

    name = "language"
    batching: ClassVar[str] = "stretches"

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`"loss"`: mean nats a token."""
        net: Any = model
        carried = [batch[f"state.{i}"] for i in range(len(batch) - 2)]
        begin = tuple(part.clone() for part in carried)  # autograd keeps it; the batch's own is overwritten
        hidden, state = net.hidden(batch["tokens"], begin or None)
        for old, new in zip(carried, state if carried else (), strict=True):
            old.copy_(new.detach())
        head = net.head
        return {
            "loss": vocabulary_loss(hidden.flatten(0, 1), head.weight, head.bias, batch["targets"].flatten())
        }

    def backward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Fill the gradients and return the losses, each (1,)."""
        model.zero_grad(set_to_none=True)
        losses = self(model, batch)
        losses["loss"].backward()
        return {name: value.detach().reshape(1) for name, value in losses.items()}

    def evaluate(self, model: nn.Module, arrays: Batch) -> Tensor:
        """Mean nats a token over the whole stream, (1,), without dropout."""
        return self.nats(model, arrays["features"]).mean().reshape(1)

    def score(self, model: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        """What the loop watches: mean nats a token over the beginning of the validation stream."""
        loss = self.nats(model, arrays["features"][:SCORED_TOKENS], overlap=False).mean().reshape(1)
        return {"loss": loss, "score": loss}

    @torch.inference_mode()
    def nats(self, model: nn.Module, stream: Tensor, overlap: bool = True) -> Tensor:
        """-ln p of each token of a stream (N,) given those before it, float64; the first is 1 / V.

        A model with a state reads the stream in lanes that each begin a little earlier, to warm up. One with
        a context reads windows of it; with `overlap` they overlap by half, so that every token but the first
        ones has at least half a context before it.
        """
        net: Any = model
        if hasattr(net, "log_probabilities"):
            return -torch.from_numpy(net.log_probabilities(stream))
        was_training = model.training
        model.eval()
        reach = net.context or STRETCH
        warm = reach // 2 if overlap else (WARM if net.carries else 0)
        found = torch.full(
            (len(stream),), float(torch.tensor(net.head.out_features).log()), dtype=torch.float64
        )
        step = reach if net.carries else max(reach - warm, 1)
        starts = torch.arange(1, len(stream), step)  # of the tokens that a window scores
        together = max(EVALUATION_TOKENS // (step + warm), 1)
        for first in starts.split(together):
            begins = (first - 1 - warm).clamp(min=0)  # the window's first token that is read
            width = int((first - 1 - begins).max()) + step
            columns = begins.unsqueeze(1) + torch.arange(width + 1)  # (W, width + 1)
            tokens = stream[columns.clamp(max=len(stream) - 1)].to(torch.int64)
            logits = net.head(net.hidden(tokens[:, :-1], None)[0]).float()
            nats = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
            )
            places = columns[:, 1:]
            scored = (
                (places >= first.unsqueeze(1))
                & (places < (first + step).unsqueeze(1))
                & (places < len(stream))
            )
            found[places[scored]] = nats.view_as(places)[scored].double()
        model.train(was_training)
        return found


Task = TableTask | LanguageTask | TranslateTask


def make_task(
    kind: str, name: str, loss: Loss, spec: Spec | None = None, monitor: Monitor = "auto", rows: int = 0
) -> Any:
    """What is asked of `kind` data: texts and tables share everything but how rows are read together.

    Only pictures, with captions or without, need the `spec`, which says how their pixels are scaled.
    """
    if name == "language":
        return LanguageTask(loss)
    if name == "translate":
        return TranslateTask(loss)
    if isinstance(spec, CaptionSpec):
        from sadari.tasks_match import Contrast, MatchTask  # it stands on this file

        assert isinstance(loss, Contrast)
        return MatchTask(loss, spec, monitor)
    if isinstance(spec, ImageSpec):
        from sadari.tasks_images import ImageTask  # it stands on this file

        return ImageTask(name, loss, spec, monitor, rows)
    return (TextTask if kind == "text" else TableTask)(name, loss, monitor, rows)


def loss_for(spec: Spec, name: str | None = None, **settings: Any) -> Loss:
    """The usual loss, squared for numbers and cross-entropy for classes and tokens, or that of `name`."""
    if isinstance(spec, LanguageSpec):
        return make_loss("cross-entropy", classes=spec.width)
    if isinstance(spec, PairSpec):
        checked = make_loss("cross-entropy", classes=2, **settings)
        return TokenLoss(spec.outputs, checked.smoothing)
    if isinstance(spec, CaptionSpec):
        from sadari.tasks_match import Contrast  # it stands on this file

        return Contrast.of(spec, name, **settings)
    classes = None if spec.classes is None else len(spec.classes)
    if name is None:
        name = "squared" if classes is None else "binary" if classes == 2 else "cross-entropy"
    return make_loss(name, classes=classes, **settings)


def build(
    rung: str,
    task: str,
    settings: Mapping[str, Any],
    inputs: Any,
    loss: Loss,
    seed: int,
    kind: str = "table",
) -> nn.Module:
    """A fresh model of a rung for C `inputs`, its weights drawn from `seed` and from nothing else.

    Of pictures, `inputs` is (C, H, W), and the weights lie as convolutions like them, channels last.

    Raises SadariError when the rung is not on the task's ladder or a setting does not fit it.
    """
    model_class = find_rung(rung, task, kind).load()
    config = model_class.Config(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config, inputs, loss.outputs)
    return model.to(memory_format=torch.channels_last) if kind in ("images", "captions") else model


def macs_of(model_class: Any, config: Any, inputs: Any, outputs: int, length: int = 1) -> int:
    """Multiply-adds for one example; of a text, one of `length` tokens (of a language, one token)."""
    if "length" in inspect.signature(model_class.macs).parameters:
        return model_class.macs(config, inputs, outputs, length)
    return model_class.macs(config, inputs, outputs)

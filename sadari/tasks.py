"""What is asked of a model: a task turns (model, batch) into named losses, and is where data and models meet.

The loop knows tasks only by `backward`, `evaluate` and `score`; a method such as distillation wraps one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sadari.data.spec import TableSpec
from sadari.ladder import find_rung
from sadari.losses import Loss, make_loss

Batch = Mapping[str, Tensor]
Monitor = Literal["auto", "loss", "error"]
EVALUATION_ROWS = (
    8192  # rows a block: hidden layers of a few hundred units then stay within a second-level cache
)


@runtime_checkable
class Penalised(Protocol):
    """A model whose objective is the sum of losses over the rows plus a penalty, as ridge regression's is."""

    def penalty(self) -> Tensor: ...


class TableTask:
    """Predict one column of a table: `regress` a number, or `classify` into classes.

    A batch is `{"features": (B, C) float, "targets": (B,) float or class numbers}`; for a stack of K
    networks `(K, B, C)` and `(K, B)`, or the shapes above to show every member the same rows.
    """

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

    @torch.no_grad()
    def _means(self, model: nn.Module, arrays: Batch, errors: bool) -> Tensor:
        """Mean loss, and share of wrong classes if asked for: (1 or 2, K)."""
        features, targets = arrays["features"], arrays["targets"]
        was_training = model.training
        model.eval()
        total = torch.zeros(1 + errors, getattr(model, "members", 1), dtype=torch.float64)
        for start in range(0, len(targets), EVALUATION_ROWS):
            rows = slice(start, start + EVALUATION_ROWS)
            output = model(features[rows])
            target = targets[rows].expand(output.shape[:-1])
            total[0] += self.loss(output, target).double().sum(-1).reshape(-1)
            if errors:
                total[1] += (self.loss.predict(output).argmax(-1) != target).sum(-1).reshape(-1)
        model.train(was_training)
        return total / len(targets)


def loss_for(spec: TableSpec, name: str | None = None, **settings: Any) -> Loss:
    """A table's loss: squared for numbers, cross-entropy for classes, unless `name` says otherwise."""
    classes = None if spec.classes is None else len(spec.classes)
    if name is None:
        name = "squared" if classes is None else "binary" if classes == 2 else "cross-entropy"
    return make_loss(name, classes=classes, **settings)


def build(rung: str, task: str, settings: Mapping[str, Any], inputs: int, loss: Loss, seed: int) -> nn.Module:
    """A fresh model of a rung for C `inputs`, its weights drawn from `seed` and from nothing else.

    Raises SadariError when the rung is not on the task's ladder or a setting does not fit it.
    """
    model_class = find_rung(rung, task).load()
    config = model_class.Config(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(config, inputs, loss.outputs)

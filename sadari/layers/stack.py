"""Stack: K networks of one architecture trained as one, by formulas of their own on buffers that are kept.

A small network's step of training is overhead, not arithmetic: recording a graph, allocating, walking a
hundred Python frames. Here the weights of all members lie in one flat (K, P) tensor, so that one optimizer
call serves them all; every matrix is a view into it; every product is batched over K; and each intermediate
value lives in a workspace that is made once a batch size. One network is K = 1, with plain two-dimensional
products. Dense layers only: `DenseNetwork` in dense.py says which chain is meant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.activations import Activation, find_activation
from sadari.layers.dense import DenseNetwork
from sadari.losses import Loss

WORKSPACES = 8  # batch sizes whose buffers are kept: training and evaluation, and the odd last of each
BLOCK = 1 << 18  # hidden values of an evaluation block, 1 MiB a layer: so they stay in second-level cache


def stackable(model: nn.Module) -> bool:
    """Whether `Stack` can train this model: a chain of dense layers (shallow, deep, deep-skip)."""
    return isinstance(model, DenseNetwork)


class _Layer:
    """One dense layer as views: weight (K, out, in), bias (K, 1, out), their gradients; K left out if 1."""

    def __init__(self, name: str, weights: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
        def cut(views: dict[str, Tensor], key: str) -> Tensor:
            view = views[f"{name}.{key}"]
            return view[0] if view.shape[0] == 1 else view

        self.weight, self.weight_gradient = cut(weights, "weight"), cut(gradients, "weight")
        self.transposed = self.weight.mT  # (in, out)
        if f"{name}.bias" in weights:
            bias = cut(weights, "bias")
            self.bias = bias if bias.ndim == 1 else bias.unsqueeze(1)
            self.bias_gradient = cut(gradients, "bias")


class _Workspace:
    """Every intermediate value of one batch size: (K, B, size), or (B, size) for K = 1."""

    def __init__(self, stack: Stack, rows: int) -> None:
        flat = stack.flat.detach()
        lead = (rows,) if stack.members == 1 else (stack.members, rows)
        layers = stack.layers

        def buffers(count: int, size: int = stack.width) -> list[Tensor]:
            return [flat.new_empty(*lead, size) for _ in range(count)]

        self.pre = buffers(layers)
        # where the derivative reads the output, the output overwrites the input
        self.post = self.pre if stack.activation.keeps == "y" else buffers(layers)
        self.masks: list[Tensor] = []
        self.stream: list[Tensor] = []  # what a layer hands on, where that is not its activation itself
        if stack.dropout > 0:
            cells = layers * math.prod(lead) * stack.width
            self.bits = flat.new_empty(math.ceil(cells / 4), dtype=torch.int64)  # 16 random bits a unit
            self.drawn = self.bits.view(torch.int16)[:cells]
            self.mask = flat.new_empty(cells)
            self.masks = list(self.mask.view(layers, *lead, stack.width))
        if stack.dropout > 0 or stack.residual:
            self.stream = buffers(layers)
        self.branch, self.delta, self.spare = buffers(3)
        self.branch_transposed = self.branch.mT
        (self.output,) = buffers(1, stack.outputs)
        (self.output_delta,) = buffers(1, stack.outputs)
        self.output_transposed = self.output_delta.mT


class Stack(nn.Module):
    """K networks of one architecture, weights in one flat parameter (K, P); `unstack` gives them back."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        first: Any = models[0]
        self.models = list(models)  # a list, so that their parameters are not registered a second time
        self.members = len(models)
        self.residual: bool = first.residual
        self.activation: Activation = find_activation(first.config.activation)
        self.dropout: float = first.config.dropout
        self.layers, self.width = len(first.hidden), first.config.width
        self.outputs: int = first.output.out_features
        self.shapes = {name: value.shape for name, value in first.named_parameters()}
        self.generator: torch.Generator | None = None  # draws the dropout masks; None is torch's global one
        with torch.no_grad():
            rows = [nn.utils.parameters_to_vector(model.parameters()) for model in models]
        self.flat = nn.Parameter(torch.stack(rows))  # (K, P)
        self._bind()

    @classmethod
    def of(cls, models: Sequence[nn.Module]) -> Stack:
        """Stack networks of one class, config and size; SadariError when they differ or are no such chain."""
        if not models:
            raise SadariError("no models to stack; give at least one")
        for model in models:
            if not isinstance(model, DenseNetwork):
                name = type(model).__name__
                raise SadariError(f"cannot stack {name}; stack shallow, deep or deep-skip networks")
            if _signature(model) != _signature(models[0]):
                mine, other = _signature(model), _signature(models[0])
                raise SadariError(f"cannot stack {mine} on {other}; members share class, config and sizes")
        return cls(models)

    def split(self, flat: Float[Tensor, "K P"]) -> dict[str, Tensor]:
        """Views of a (K, P) tensor (`flat`, its gradient) by name: "hidden.0.weight" -> (K, D, C), ..."""
        parts = flat.split([shape.numel() for shape in self.shapes.values()], dim=1)
        named = zip(self.shapes.items(), parts, strict=True)
        return {name: part.unflatten(1, shape) for (name, shape), part in named}

    def _bind(self) -> None:
        """Cut `flat` and its gradient into the views that the products read and write."""
        with torch.inference_mode(False):
            gradient = self.flat.grad
            if gradient is None:
                gradient = self.flat.grad = torch.zeros_like(self.flat)
            weights, gradients = self.split(self.flat.detach()), self.split(gradient)
        self._pointer, self._gradient = self.flat.data_ptr(), gradient
        self._hidden = [_Layer(f"hidden.{i}", weights, gradients) for i in range(self.layers)]
        self._output = _Layer("output", weights, gradients)
        self._direct = _Layer("direct", weights, gradients) if "direct.weight" in weights else None
        self._workspaces: dict[int, _Workspace] = {}

    def _workspace(self, rows: int) -> _Workspace:
        flat = self._parameters["flat"]  # past nn.Module's attribute search: this runs in every step
        # a stack that was moved, copied or cast has new storage, and zero_grad may have dropped the gradient
        if flat.data_ptr() != self._pointer or flat.grad is not self._gradient:  # type: ignore[union-attr]
            self._bind()
        space = self._workspaces.get(rows)
        if space is None:
            if len(self._workspaces) == WORKSPACES:
                del self._workspaces[next(iter(self._workspaces))]
            with torch.inference_mode(False):  # made once, used inside and outside of inference mode
                space = self._workspaces[rows] = _Workspace(self, rows)
        return space

    def _batched(self, values: Tensor, ndim: int) -> Tensor:
        """Batches (K, ...) or one for all (...), which has `ndim` axes -> (...) for K = 1, else (K, ...)."""
        if values.ndim > ndim:
            return values[0] if self.members == 1 else values
        return values if self.members == 1 else values.expand(self.members, *values.shape)

    def _forward(self, x: Tensor, space: _Workspace, drop: bool) -> list[Tensor]:
        """Leaves the answer in `space.output`; returns what each layer was given, the output layer last."""
        activation, residual = self.activation, self.residual
        multiply_add = torch.addmm if self.members == 1 else torch.baddbmm
        if drop:
            self._draw_masks(space)
        h, given = x, [x]
        for i, layer in enumerate(self._hidden):
            z = multiply_add(layer.bias, h, layer.transposed, out=space.pre[i])
            a = activation.forward(z, space.post[i])
            if drop and residual and i > 0:
                h = torch.addcmul(h, a, space.masks[i], out=space.stream[i])
            elif drop:
                h = torch.mul(a, space.masks[i], out=space.stream[i])
            elif residual and i > 0:
                h = torch.add(h, a, out=space.stream[i])
            else:
                h = a
            given.append(h)
        multiply_add(self._output.bias, h, self._output.transposed, out=space.output)
        if self._direct is not None:
            multiply_add(space.output, x, self._direct.transposed, out=space.output)
        return given

    def _draw_masks(self, space: _Workspace) -> None:
        """Inverted dropout: 1 / keep or 0 a unit, from 16 random bits each, a fifth of bernoulli_'s time."""
        threshold = min(max(round((1 - self.dropout) * 65536), 1), 65535)
        space.bits.random_(-(2**63), None, generator=self.generator)
        torch.lt(space.drawn, threshold - 32768, out=space.mask)
        space.mask.mul_(65536 / threshold)

    def forward(self, features: Float[Tensor, "... B C"]) -> Float[Tensor, "K B O"]:
        """The members' answers, dropout only while training. No graph is recorded: train by `gradients`."""
        x = self._batched(features, 2)
        blocks = x.split(max(BLOCK // (self.members * self.width), 1), dim=-2)
        answers = []
        for block in blocks:
            space = self._workspace(block.shape[-2])
            self._forward(block, space, self.training and self.dropout > 0)
            answers.append(space.output.clone())
        answer = torch.cat(answers, dim=-2)  # (B, O) or (K, B, O)
        return answer.unsqueeze(0) if self.members == 1 else answer

    def gradients(
        self, features: Float[Tensor, "... B C"], targets: Shaped[Tensor, "... B"], loss: Loss
    ) -> Float[Tensor, " K"]:
        """Mean loss of each member over its own rows; `flat.grad` is overwritten with its derivative.

        features (K, B, C) and targets (K, B), or one batch for all, (B, C) and (B,).
        """
        # 1. forward, keeping what the backward reads
        x, y = self._batched(features, 2), self._batched(targets, 1)
        rows, drop, activation = x.shape[-2], self.training and self.dropout > 0, self.activation
        multiply, multiply_add = (torch.mm, torch.addmm) if self.members == 1 else (torch.bmm, torch.baddbmm)
        space = self._workspace(rows)
        given = self._forward(x, space, drop)
        # 2. the loss and its derivative, the mean's 1 / B counted in
        values, slopes = loss.value_and_gradient(space.output, y)
        g = torch.mul(slopes, 1 / rows, out=space.output_delta)  # (B, O)
        # 3. the output layer and the direct connection
        layer = self._output
        multiply(space.output_transposed, given[-1], out=layer.weight_gradient)
        torch.sum(g, -2, out=layer.bias_gradient)
        if self._direct is not None:
            multiply(space.output_transposed, x, out=self._direct.weight_gradient)
        delta, spare = space.delta, space.spare
        multiply(g, layer.weight, out=delta)
        # 4. down the hidden layers: delta (B, D) is the derivative towards what layer i hands up
        for i in range(self.layers - 1, -1, -1):
            layer = self._hidden[i]
            upstream = torch.mul(delta, space.masks[i], out=spare) if drop else delta
            branch = activation.backward(upstream, space.pre[i], space.branch)
            multiply(space.branch_transposed, given[i], out=layer.weight_gradient)
            torch.sum(branch, -2, out=layer.bias_gradient)
            if i > 0 and self.residual:
                multiply_add(delta, branch, layer.weight, out=delta)
            elif i > 0:
                multiply(branch, layer.weight, out=delta)
        return values.mean(-1).view(self.members)

    @torch.no_grad()
    def unstack(self) -> list[nn.Module]:
        """Write each member's weights back into the model that it was made of, and return those models."""
        for model, row in zip(self.models, self.flat, strict=True):
            start = 0
            for parameter in model.parameters():
                parameter.copy_(row[start : start + parameter.numel()].view_as(parameter))
                start += parameter.numel()
        return self.models


def _signature(model: nn.Module) -> str:
    sizes = [tuple(value.shape) for value in model.parameters()]
    return f"{type(model).__name__} with {getattr(model, 'config', None)} and weights {sizes}"

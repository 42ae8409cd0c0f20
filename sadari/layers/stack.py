"""Stack: K networks of one architecture trained as one, by an explicit forward and backward on buffers that are kept.

A small network's step of training is overhead, not arithmetic: recording a graph, allocating, walking some hundred Python
frames. Here the weights of all members lie in one flat (K, P) tensor (one optimizer call for all of them), every matrix is a
view into it, every product is batched over K, and all intermediate values live in workspaces made once a batch size.
One network is K = 1, with plain two-dimensional products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.activations import find_activation
from sadari.layers.dense import DenseNetwork

WORKSPACES = 4  # batch sizes whose buffers are kept: training, its odd last batch, evaluation, its odd last block


def stackable(model: nn.Module) -> bool:
    """Whether `Stack` can train this model: a chain of dense layers (shallow, deep, deep-skip)."""
    return isinstance(model, DenseNetwork)


@dataclass
class _Layer:
    """Views of one dense layer: weight (K, out, in) and bias (K, 1, out), and the same of the gradient; K left out if 1."""

    weight: Tensor
    bias: Tensor | None
    weight_gradient: Tensor
    bias_gradient: Tensor | None


class _Workspace:
    """Every intermediate value of one batch size; shapes (K, B, .), K left out if 1."""

    def __init__(self, like: Tensor, lead: tuple[int, ...], layers: int, width: int, outputs: int, copies: bool) -> None:
        def buffer(size: int) -> Tensor:
            return like.new_empty(*lead, size)

        self.pre = [buffer(width) for _ in range(layers)]
        self.post = [buffer(width) for _ in range(layers)]
        self.mask = [buffer(width) for _ in range(layers)]
        self.stream = [buffer(width) for _ in range(layers)]
        self.delta, self.spare, self.branch = buffer(width), buffer(width), buffer(width)
        self.output, self.output_delta = buffer(outputs), buffer(outputs)


class Stack(nn.Module):
    """K networks of one architecture in one flat parameter (K, P); made by `Stack.of`, undone by `unstack`."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        first = models[0]
        self.models = list(models)  # a list, so that their parameters are not registered here a second time
        self.members = len(models)
        self.residual = first.residual
        self.activation = find_activation(first.config.activation)
        self.dropout = first.config.dropout
        self.generator: torch.Generator | None = None
        self.shapes = {name: value.shape for name, value in first.named_parameters()}
        self.layers = len(first.hidden)
        self.width, self.outputs = first.config.width, first.output.out_features
        rows = [nn.utils.parameters_to_vector(model.parameters()).detach() for model in models]
        self.flat = nn.Parameter(torch.stack(rows))  # (K, P)
        self._bind()

    @classmethod
    def of(cls, models: Sequence[nn.Module]) -> Stack:
        """Stack networks of one class, one config and one shape; SadariError when they differ or cannot be stacked."""
        if not models:
            raise SadariError("no models to stack; give at least one")
        first = models[0]
        for model in models:
            if not stackable(model):
                raise SadariError(f"cannot stack {type(model).__name__}; stack shallow, deep or deep-skip networks")
            shapes = [value.shape for value in model.parameters()]
            if type(model) is not type(first) or model.config != first.config or shapes != [v.shape for v in first.parameters()]:
                raise SadariError(f"cannot stack {model.config} on {first.config}: members share class, config and sizes")
        return cls(models)

    def split(self, flat: Float[Tensor, "K P"]) -> dict[str, Tensor]:
        """Views of a (K, P) tensor (`flat`, its gradient) by parameter name: "hidden.0.weight" -> (K, D, C), ..."""
        parts = flat.split([shape.numel() for shape in self.shapes.values()], dim=1)
        return {name: part.unflatten(1, shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def _bind(self) -> None:
        """Cut `flat` and its gradient into the views that the products read and write."""
        if self.flat.grad is None:
            with torch.inference_mode(False):
                self.flat.grad = torch.zeros_like(self.flat)
        self._pointer, self._gradient = self.flat.data_ptr(), self.flat.grad
        weights, gradients = self.split(self.flat.detach()), self.split(self.flat.grad)
        one = self.members == 1

        def layer(name: str) -> _Layer:
            w, g = weights[f"{name}.weight"], gradients[f"{name}.weight"]
            b, d = weights.get(f"{name}.bias"), gradients.get(f"{name}.bias")
            if one:
                return _Layer(w[0], None if b is None else b[0], g[0], None if d is None else d[0])
            return _Layer(w, None if b is None else b.unsqueeze(1), g, d)

        self._hidden = [layer(f"hidden.{i}") for i in range(self.layers)]
        self._output = layer("output")
        self._direct = layer("direct") if "direct.weight" in self.shapes else None
        self._multiply, self._multiply_add = (torch.mm, torch.addmm) if one else (torch.bmm, torch.baddbmm)
        self._workspaces: dict[int, _Workspace] = {}

    def _workspace(self, rows: int) -> _Workspace:
        # a moved, copied or cast stack has new storage, and zero_grad may have dropped the gradient
        if self.flat.data_ptr() != self._pointer or self.flat.grad is not self._gradient:
            self._bind()
        if rows not in self._workspaces:
            if len(self._workspaces) == WORKSPACES:
                del self._workspaces[next(iter(self._workspaces))]
            lead = (rows,) if self.members == 1 else (self.members, rows)
            with torch.inference_mode(False):  # made once, used in and out of inference mode
                space = _Workspace(self.flat.detach(), lead, self.layers, self.width, self.outputs, self.dropout > 0)
            self._workspaces[rows] = space
        return self._workspaces[rows]

    def _batched(self, features: Tensor) -> Tensor:
        """(K, B, C) or (B, C) shared by all -> (B, C) for one member, (K, B, C) for several."""
        if self.members == 1:
            return features[0] if features.ndim == 3 else features
        return features if features.ndim == 3 else features.expand(self.members, *features.shape)

    def _run(self, x: Tensor, space: _Workspace, drop: bool) -> Tensor:
        """Forward; leaves in the workspace what the backward reads, and the answer in its `output`."""
        h, activation = x, self.activation
        for i, layer in enumerate(self._hidden):
            pre = space.pre[i]
            self._multiply_add(layer.bias, h, layer.weight.mT, out=pre)
            post = activation.forward(pre, pre if activation.keeps == "y" else space.post[i])
            if drop:
                mask = space.mask[i].bernoulli_(1 - self.dropout, generator=self.generator).mul_(1 / (1 - self.dropout))
                post = torch.mul(post, mask, out=space.stream[i])
            h = torch.add(h, post, out=space.stream[i]) if self.residual and i > 0 else post
        self._multiply_add(self._output.bias, h, self._output.weight.mT, out=space.output)
        if self._direct is not None:
            space.output += self._multiply(x, self._direct.weight.mT)
        return h

    def forward(self, features: Float[Tensor, "*K B C"]) -> Float[Tensor, "K B O"]:
        """The members' answers; dropout only while training. No graph is recorded: use `gradients` to train."""
        x = self._batched(features)
        space = self._workspace(x.shape[-2])
        with torch.no_grad():
            self._run(x, space, self.training and self.dropout > 0)
        return space.output.clone().view(self.members, x.shape[-2], self.outputs)

    @torch.no_grad()
    def gradients(self, features: Float[Tensor, "*K B C"], targets: Tensor, loss) -> Float[Tensor, "K"]:
        """Mean loss of each member over its rows; `flat.grad` is overwritten with the derivative of each member's own mean.

        features (K, B, C), targets (K, B), `loss` of sadari.losses (called, and its `gradient`).
        """
        x = self._batched(features)
        y = targets[0] if self.members == 1 and targets.ndim == 2 else targets
        rows = x.shape[-2]
        space, activation = self._workspace(rows), self.activation
        drop = self.training and self.dropout > 0
        h = self._run(x, space, drop)
        if targets.ndim == 1 and self.members > 1:
            y = targets.expand(self.members, rows)
        values = loss(space.output, y).mean(-1)
        g = torch.mul(loss.gradient(space.output, y), 1 / rows, out=space.output_delta)  # (B, O)

        self._accumulate(self._output, g, h)
        if self._direct is not None:
            self._multiply(g.mT, x, out=self._direct.weight_gradient)
        delta, spare = space.delta, space.spare
        self._multiply(g, self._output.weight, out=delta)
        for i in reversed(range(self.layers)):
            upstream = torch.mul(delta, space.mask[i], out=space.branch) if drop else delta
            branch = activation.backward(upstream, space.pre[i], space.branch)
            below = x if i == 0 else self._below(space, i, drop)
            self._accumulate(self._hidden[i], branch, below)
            if i > 0 and self.residual:
                self._multiply_add(delta, branch, self._hidden[i].weight, out=delta)
            elif i > 0:
                self._multiply(branch, self._hidden[i].weight, out=spare)
                delta, spare = spare, delta
        return values.view(self.members)

    def _below(self, space: _Workspace, i: int, drop: bool) -> Tensor:
        """What layer i was given: the stream, or the activation itself where nothing was added to it or dropped from it."""
        if drop or (self.residual and i > 1):
            return space.stream[i - 1]
        return space.pre[i - 1] if self.activation.keeps == "y" else space.post[i - 1]

    def _accumulate(self, layer: _Layer, delta: Tensor, below: Tensor) -> None:
        self._multiply(delta.mT, below, out=layer.weight_gradient)
        torch.sum(delta, dim=-2, out=layer.bias_gradient)

    @torch.no_grad()
    def unstack(self) -> list[nn.Module]:
        """Write each member's weights back into the model it was made of, and return those models."""
        for model, row in zip(self.models, self.flat, strict=True):
            nn.utils.vector_to_parameters(row.clone(), model.parameters())
        return self.models

"""The straight pieces of a relu network along a line: every bend is solved for, none is searched for.

Along x = start + t * direction each unit of the first layer is a line in t, which bends where it crosses
zero. Between two neighbouring bends the layer hands up lines again, so the next layer's bends are zeros of
lines too, piece by piece. (Montufar et al. 2014, 1402.1869; Serra et al. 2018, 1711.02114, for the bounds.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from sadari.errors import SadariError
from sadari.layers.activations import SLOPE

# what the function does to a line below zero: its slope is multiplied by this
BELOW = {"relu": 0.0, "leaky-relu": SLOPE, "linear": 1.0}
SAME = 1e-9  # relative to the steepest piece: slopes closer than this are one slope, computed in float64


@dataclass(frozen=True)
class Pieces:
    """A network of O outputs along a line: M straight pieces between M - 1 breaks, for all t."""

    breaks: np.ndarray
    """Where the output bends, ascending, (M - 1,)."""
    slope: np.ndarray
    """Of each piece, (M, O)."""
    intercept: np.ndarray
    """Output = intercept + slope * t, (M, O)."""
    patterns: int
    """Pieces between which any unit switches on or off, also those switches that leave the output straight.
    """

    @property
    def count(self) -> int:
        return len(self.slope)

    def __call__(self, t: np.ndarray) -> np.ndarray:
        """The output (N, O) at t (N,)."""
        piece = np.searchsorted(self.breaks, t)
        return self.intercept[piece] + self.slope[piece] * np.asarray(t)[:, None]


def pieces_along(model: Any, start: np.ndarray, direction: np.ndarray) -> Pieces:
    """All pieces of a chain of dense layers along start + t * direction, both (C,), t over all reals.

    Raises SadariError when the activation is curved, since a curve has no pieces to count.
    """
    name = model.config.activation
    if name not in BELOW:
        raise SadariError(
            f"regions counts straight pieces, and {name} has none; fit with --activation relu or leaky-relu"
        )
    start, direction = np.asarray(start, np.float64), np.asarray(direction, np.float64)
    edges = np.array([])  # (M - 1,) breaks so far
    slope, base = direction[None], start[None]  # (M, C): what the next layer is given, as lines in t
    for i, layer in enumerate(model.hidden):
        weight, bias = _numbers(layer)
        z_slope, z_base = slope @ weight.T, base @ weight.T + bias  # (M, D)
        new = _crossings(z_slope, z_base, edges)
        merged = np.union1d(edges, new)
        parent = np.searchsorted(edges, _inside(merged))  # which old piece each new one lies in, (M',)
        z_slope, z_base, slope, base = z_slope[parent], z_base[parent], slope[parent], base[parent]
        above = z_base + z_slope * _inside(merged)[:, None] > 0
        factor = np.where(above, 1.0, BELOW[name])
        bent_slope, bent_base = factor * z_slope, factor * z_base
        carried = model.residual and i > 0
        slope, base = (slope + bent_slope, base + bent_base) if carried else (bent_slope, bent_base)
        edges = merged
    weight, bias = _numbers(model.output)
    out_slope, out_base = slope @ weight.T, base @ weight.T + bias  # (M, O)
    if model.direct is not None:
        direct = model.direct.weight.detach().double().numpy()
        out_slope, out_base = out_slope + direct @ direction, out_base + direct @ start
    turns = np.abs(np.diff(out_slope, axis=0)).max(1) > SAME * np.abs(out_slope).max()
    first = np.concatenate([[True], turns])
    return Pieces(edges[turns], out_slope[first], out_base[first], len(out_slope))


def _numbers(layer: nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    return layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()


def _crossings(slope: np.ndarray, base: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Zeros of the lines base + slope * t (M, D) that lie inside their own piece, sorted."""
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = -base / slope  # (M, D); infinite or NaN for a level line
    low = np.concatenate([[-np.inf], edges])[:, None]
    high = np.concatenate([edges, [np.inf]])[:, None]
    return np.unique(zero[(zero > low) & (zero < high) & np.isfinite(zero)])


def _inside(edges: np.ndarray) -> np.ndarray:
    """A point inside each of the pieces between `edges`, the two open ends included, (M,)."""
    if not len(edges):
        return np.zeros(1)
    return np.concatenate([[edges[0] - 1], (edges[:-1] + edges[1:]) / 2, [edges[-1] + 1]])

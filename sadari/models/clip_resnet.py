"""CLIP's ResNet for pictures (Radford et al. 2021, 2103.00020, section 2.4): its last maps read by attention.

What differs from `resnet`: three 3 x 3 convolutions begin, not one of 7 x 7 and a maximum; where a block
halves the picture it averages 2 x 2 pixels before a convolution of stride 1, on the branch and on the
shortcut, so that no pixel is skipped (Zhang 2019, 1904.11486); and the last maps are not averaged: their
average is a query, which looks at all of them.

    picture -- conv1 2 3 -- avgpool -- layer1 2 3 4 --+-- all places, mean -- keys, values --+
    (B, C, H, W)                       (B, E, h, w)   +-- mean ------------------ query -- attend -- c_proj
                                                                                                     (B, D)

Names of weights are OpenAI's. Alphabet: E = 32 W channels at the end (W the first stage's), N = h w places.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers.attention import attend, merge_heads, split_heads
from sadari.layers.convolution import Dense, Norm, Shape, Window
from sadari.layers.dense import Recorder, unrecorded
from sadari.models.vit import resize_positions

HALVINGS = 5  # of each side: once by conv1, once by the pooling behind, thrice by stages


class Bottleneck(nn.Module):
    """relu(branch(x) + shortcut(x)): 1 x 1, 3 x 3, 1 x 1 to four times the channels, halved by an average."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        one, two, three, *shortcut = _windows(inputs, channels, stride)
        self.conv1, self.bn1 = one.layer(), Norm(one.outputs)
        self.conv2, self.bn2 = two.layer(), Norm(two.outputs)
        self.conv3, self.bn3 = three.layer(), Norm(three.outputs)
        self.stride = stride
        self.downsample = None
        if shortcut:
            self.downsample = nn.Sequential(shortcut[0].layer(), Norm(shortcut[0].outputs))

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B c j k"]:
        """1. convolve, halving before the last  2. halve what came in  3. add  4. bend."""
        h = F.relu(self.bn1(self.conv1(x)))
        h = self._halved(F.relu(self.bn2(self.conv2(h))))
        h = self.bn3(self.conv3(h))
        return F.relu(h + (x if self.downsample is None else self.downsample(self._halved(x))))

    def _halved(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C j k"]:
        return x if self.stride == 1 else F.avg_pool2d(x, self.stride)


class AttentionPool(nn.Module):
    """The average of all places looks at them and at itself; what it takes is the picture's vector."""

    def __init__(self, places: int, width: int, heads: int, outputs: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.empty(places + 1, width))
        self.k_proj, self.q_proj, self.v_proj = (Dense(width, width) for _ in range(3))
        self.c_proj = Dense(width, outputs)

    def forward(
        self, x: Float[Tensor, "B E h w"], positions: Float[Tensor, "T E"], rec: Recorder | None
    ) -> Float[Tensor, "B D"]:
        x = x.flatten(2).transpose(1, 2)  # (B, N, E)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + positions  # (B, 1 + N, E)
        q, k, v = (
            split_heads(part, self.heads) for part in (self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x))
        )
        out, weights = attend(q, k, v, plain=rec is not None)
        if rec is not None and weights is not None:
            rec("pooling.attention", weights)  # (B, H, 1, 1 + N)
        return self.c_proj(merge_heads(out)).squeeze(1)


class ModifiedResNet(nn.Module):
    """Pictures (B, C, H, W) to vectors (B, D), of any size whose maps are not empty."""

    def __init__(self, inputs: Shape, depths: tuple[int, ...], width: int, heads: int, outputs: int) -> None:
        super().__init__()
        self.grid = resnet_grid(inputs[1:])
        first, second, third = _stem(inputs[0], width)
        self.conv1, self.bn1 = first.layer(), Norm(first.outputs)
        self.conv2, self.bn2 = second.layer(), Norm(second.outputs)
        self.conv3, self.bn3 = third.layer(), Norm(third.outputs)
        for stage, blocks in enumerate(_blocks(depths, width), 1):
            self.add_module(f"layer{stage}", nn.Sequential(*(Bottleneck(*block) for block in blocks)))
        self.stages = len(depths)
        self.attnpool = AttentionPool(self.grid[0] * self.grid[1], 32 * width, heads, outputs)

    def forward(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B D"]:
        """With a recorder, the maps of `stem`, of `layer1.0` and so on, and the pooling's weights."""
        x, note = pictures, rec or unrecorded
        for i in (1, 2, 3):
            x = F.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        x = note("stem", F.avg_pool2d(x, 2))
        for stage in range(1, self.stages + 1):
            for i, block in enumerate(getattr(self, f"layer{stage}")):
                x = note(f"layer{stage}.{i}", block(x))
        positions: Tensor = self.attnpool.positional_embedding
        if (grid := (x.shape[2], x.shape[3])) != self.grid:
            positions = resize_positions(positions.unsqueeze(0), self.grid, grid).squeeze(0)
        return self.attnpool(x, positions, rec)


def resnet_grid(size: tuple[int, int]) -> tuple[int, int]:
    """Places of the last maps, by rows and columns, for pictures (H, W). SadariError where none is left."""
    high, wide = ((side + 1) // 2 // 2 ** (HALVINGS - 1) for side in size)
    if min(high, wide) < 1:
        raise SadariError(
            f"pictures of {size[1]} x {size[0]} pixels are too small for CLIP's ResNet, which halves a side "
            f"five times; use --size 32 or more, or variant=clip-64"
        )
    return high, wide


def resnet_costs(inputs: Shape, depths: tuple[int, ...], width: int, outputs: int) -> tuple[int, int]:
    """Parameters: k^2 C + 2 a filter, (1 + N) E positions, 3 E (E + 1) + D (E + 1) for the pooling.

    Multiply-adds a picture: one a weight of a filter and place; (2 (1 + N) + 1) E^2 + 2 (1 + N) E + E D.
    """
    (high, wide), (rows, columns) = resnet_grid(inputs[1:]), (inputs[1], inputs[2])
    parameters = macs = 0
    for window in _stem(inputs[0], width):
        rows, columns = window.size(rows), window.size(columns)
        parameters += window.parameters
        macs += window.macs(rows, columns)
    rows, columns = rows // 2, columns // 2
    for blocks in _blocks(depths, width):
        for come, channels, stride in blocks:
            windows = _windows(come, channels, stride)
            parameters += sum(window.parameters for window in windows)
            before = sum(window.macs(rows, columns) for window in windows[:2])
            rows, columns = rows // stride, columns // stride
            macs += before + sum(window.macs(rows, columns) for window in windows[2:])
    E, T = 32 * width, 1 + high * wide
    parameters += T * E + 3 * E * (E + 1) + outputs * (E + 1)
    macs += (2 * T + 1) * E * E + 2 * T * E + E * outputs
    return parameters, macs


def _stem(channels: int, width: int) -> tuple[Window, Window, Window]:
    """The three convolutions that begin."""
    half = width // 2
    sizes = ((channels, half, 2), (half, half, 1), (half, width, 1))
    first, second, third = (
        Window(3, stride, 1, come, go, bias=False, norm=True) for come, go, stride in sizes
    )
    return first, second, third


def _blocks(depths: tuple[int, ...], width: int) -> list[list[tuple[int, int, int]]]:
    """Each stage's blocks: channels that come in, channels of the 3 x 3, stride."""
    stages, come = [], width
    for stage, depth in enumerate(depths):
        blocks = []
        for i in range(depth):
            blocks.append((come, width << stage, 2 if stage and not i else 1))
            come = 4 * (width << stage)
        stages.append(blocks)
    return stages


def _windows(inputs: int, channels: int, stride: int) -> list[Window]:
    """The branch's three convolutions, and the shortcut's where sizes change; all of stride 1."""
    shapes = [(1, inputs, channels), (3, channels, channels), (1, channels, 4 * channels)]
    if stride > 1 or inputs != 4 * channels:
        shapes.append((1, inputs, 4 * channels))
    return [Window(k, 1, k // 2, come, go, bias=False, norm=True) for k, come, go in shapes]

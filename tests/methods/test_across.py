"""Contrasts across two processes (gloo, on this machine alone): equal to one process, gradients included."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers import contrast
from sadari.methods import across

B, D = 23, 6
CASES = {  # name: loss, scale, which share the first process has, groups, side of a tile, what is frozen
    "softmax even": ("softmax", 10.0, 12, 0, 0, ()),
    "softmax uneven": ("softmax", 10.0, 4, 0, 3, ()),
    "softmax steep": ("softmax", 200.0, 15, 0, 4, ()),
    "softmax groups": ("softmax", 10.0, 9, 7, 5, ()),
    "softmax steep groups": ("softmax", 200.0, 9, 7, 5, ()),
    "softmax nothing": ("softmax", 10.0, 0, 0, 5, ()),
    "softmax nothing steep": ("softmax", 200.0, 23, 0, 5, ()),
    "softmax locked": ("softmax", 10.0, 10, 0, 5, (0,)),
    "softmax locked text": ("softmax", 10.0, 10, 0, 5, (1,)),
    "sigmoid even": ("sigmoid", 10.0, 12, 0, 0, ()),
    "sigmoid uneven": ("sigmoid", 10.0, 4, 0, 3, ()),
    "sigmoid steep": ("sigmoid", 200.0, 15, 0, 4, ()),
    "sigmoid groups": ("sigmoid", 10.0, 9, 7, 5, ()),
    "sigmoid nothing": ("sigmoid", 10.0, 0, 0, 5, ()),
    "sigmoid locked": ("sigmoid", 10.0, 10, 0, 5, (0,)),
    "sigmoid locked text": ("sigmoid", 10.0, 10, 0, 5, (1,)),
}
NAMES = ("image", "text", "scale", "bias")


def case(name: str) -> tuple[list[Any], Tensor | None]:
    """Leaves image, text, scale and bias of the whole batch in float64, and ids."""
    _, scale, _, groups, _, frozen = CASES[name]
    random = torch.Generator().manual_seed(0)
    sides = [torch.randn(B, D, generator=random, dtype=torch.float64) for _ in range(2)]
    numbers = [torch.tensor(value, dtype=torch.float64) for value in (scale, -0.5 * scale)]
    leaves = [*(F.normalize(side, dim=-1) for side in sides), *numbers]
    leaves = [leaf.requires_grad_(which not in frozen) for which, leaf in enumerate(leaves)]
    return leaves, torch.randint(groups, (B,), generator=random) if groups else None


def graded(loss: Tensor, leaves: list[Any]) -> dict[str, Tensor]:
    loss.backward()
    found = {name: leaf.grad for name, leaf in zip(NAMES, leaves, strict=True) if leaf.grad is not None}
    return {"loss": loss.detach().clone(), **found}


def process(rank: int, folder: Path) -> None:
    """What each of the two processes does: every case, with its own part of the pairs."""
    dist.init_process_group(
        "gloo", f"file://{folder}/meeting", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=120)
    )
    group = dist.new_group([0, 1])
    for k, (name, (kind, _, share, _, chunk, _)) in enumerate(CASES.items()):
        leaves, ids = case(name)
        own = slice(0, share) if rank == 0 else slice(share, B)
        part = [
            leaf.detach()[own].clone().requires_grad_(leaf.requires_grad) if leaf.ndim else leaf
            for leaf in leaves
        ]
        own_ids, asked = None if ids is None else ids[own], group if k % 2 else None
        if kind == "softmax":
            loss = across.softmax_loss(part[0], part[1], part[2], own_ids, chunk, asked)
        else:
            loss = across.sigmoid_loss(part[0], part[1], part[2], part[3], own_ids, chunk, asked)
        save_file(graded(loss, part), folder / f"{name} {rank}.safetensors")
    none = torch.zeros(0, D)
    try:
        across.softmax_loss(none, none, torch.ones(()))
    except SadariError as error:
        (folder / f"refused {rank}").write_text(str(error))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which both processes have written what they found."""
    folder = tmp_path_factory.mktemp("across")
    env = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(folder)], env=env, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    said = [each.communicate(timeout=240)[1] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_what_one_gives(name: str, done: Path) -> None:
    leaves, ids = case(name)
    image, text, scale, bias = leaves
    if CASES[name][0] == "softmax":
        truth = graded(contrast.softmax_loss(image, text, scale, ids), leaves)
    else:
        truth = graded(contrast.sigmoid_loss(image, text, scale, bias, ids), leaves)
    first, second = (load_file(done / f"{name} {rank}.safetensors") for rank in range(2))
    assert first.keys() == second.keys() == truth.keys()
    for part in (first, second):
        torch.testing.assert_close(part["loss"], truth["loss"])  # each says the loss of the whole
    for side in ("image", "text"):
        if side in truth:  # gradients of both losses' sum: twice that of the whole, until a mean is taken
            torch.testing.assert_close(torch.cat([first[side], second[side]]) / 2, truth[side])
    for number in ("scale", "bias"):
        if number in truth:
            torch.testing.assert_close((first[number] + second[number]) / 2, truth[number])


def test_no_pair_anywhere_is_refused_by_both(done: Path) -> None:
    for rank in range(2):
        assert (done / f"refused {rank}").read_text() == (
            "no pair in any of 2 processes: a contrast needs one; leave an empty batch out"
        )


def test_one_process_alone_is_the_plain_loss() -> None:
    (image, text, scale, bias), ids = case("softmax groups")
    mine, plain = (each.softmax_loss(image, text, scale, ids) for each in (across, contrast))
    assert torch.equal(mine, plain)
    mine, plain = (each.sigmoid_loss(image, text, scale, bias, ids) for each in (across, contrast))
    assert torch.equal(mine, plain)


if __name__ == "__main__":
    process(int(sys.argv[1]), Path(sys.argv[2]))

"""Augment: what each random change of training pictures makes of six pictures of the data.

Every change is drawn anew until it shows, so that a flip is seen flipped; in training half of them are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from sadari.augment import OPERATIONS, Mixed, Operation, cutmix, mixup
from sadari.data.prepare import Prepared
from sadari.errors import SadariError
from sadari.inspection.thumbnails import thumbnails
from sadari.inspection.view import View, say

if TYPE_CHECKING:
    from sadari.runs import Run

SHOWN = 6
TRIES = 40  # draws of a change until every picture shows it
SHOWS = 0.08  # share of a picture's pixels that are others then
BLENDS = 300  # of a blend until it is one of even shares, no picture with itself
EVEN = (0.35, 0.65)
ALPHA = 1.0  # of the blends that are shown: any share is as likely
ORIGINAL = "original"

TEXTS = {
    "title": (
        "{name}: what {count} random changes make of {shown} training pictures",
        "{name}: 무작위 변환 {count}가지가 훈련 그림 {shown}장을 바꾸는 모습",
    ),
    "caption": (
        "Above each column the picture's class. crop moves it by up to an eighth of a side and mirrors "
        "what is missing at the rim; colour changes brightness, contrast and saturation; randaugment draws "
        "two of fourteen changes; erase puts noise into a rectangle. mixup and cutmix take two pictures, "
        "and the loss counts both classes in their shares. {used}",
        "열 위는 그림의 클래스. crop은 변의 8분의 1까지 옮기고 빈 가장자리는 거울처럼 채우며, colour는 "
        "밝기·대비·채도를 바꾸고, randaugment는 변환 14가지 가운데 둘을 뽑고, erase는 네모를 잡음으로 "
        "채운다. mixup과 cutmix는 그림 두 장을 섞고, 손실도 두 클래스를 그 비율로 센다. {used}",
    ),
    "see": (
        "A change is of use if you would still give the picture the same class; go along each row and ask. A "
        "mirrored cat is a cat, a mirrored 2 is none, and colour may be all that tells a ripe fruit. Choose "
        "with --augment crop,flip in `sadari fit`; auto is crop alone.",
        "변환을 거친 그림에도 같은 이름을 붙이겠는지 줄마다 살펴봅니다. 뒤집힌 고양이는 고양이지만 뒤집힌 "
        "2는 2가 아니며, 익은 과일은 색으로만 가려지기도 합니다. `sadari fit`에 --augment crop,flip처럼 주어 "
        "고릅니다. auto는 crop 하나입니다.",
    ),
    "used": ("This run was trained with: {names}.", "이 실행은 이것으로 훈련했다: {names}."),
    "plain": ("This run was trained without any.", "이 실행은 변환 없이 훈련했다."),
    "fresh": ("", ""),
    "original": ("original", "원본"),
    "pictures": ("pictures, a row a change", "그림, 줄마다 변환 하나"),
}


def augment(run: Run | Prepared) -> View:
    """Six training pictures of as many classes as there are, and each of them after every change.

    `run` may be prepared data too: nothing of the network is asked. pictures (A, n, h, w, C) uint8, A = 8:
    the originals, crop, flip, colour, randaugment, erase, mixup and cutmix; labels (n,). facts["changes"]:
    the A names; facts["shares"]: of the picture itself in mixup and cutmix; facts["partners"]: the numbers
    of the pictures that were blended in; facts["used"]: the changes that the run was trained with.
    Raises SadariError when the data holds no pictures.
    """
    prepared = run if isinstance(run, Prepared) else run.data()
    if prepared.kind != "images":
        raise SadariError(f"{prepared.table.name} is read as {prepared.kind}, and augment changes pictures")
    spec: Any = prepared.spec
    chosen = _varied(prepared.train.targets)
    labels = [spec.classes[k] for k in prepared.train.targets[chosen]]
    pictures = torch.from_numpy(np.ascontiguousarray(prepared.train.features[chosen]))
    shares: dict[str, float] = {}
    partners: dict[str, list[int]] = {}
    rows = {ORIGINAL: pictures}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, change in OPERATIONS.items():
            rows[name] = changed(change, pictures)
        for name, blend in (("mixup", mixup), ("cutmix", cutmix)):
            mixed, rows[name] = _blended(blend, pictures)
            shares[name], partners[name] = mixed.share, mixed.others.tolist()
    used = None if isinstance(run, Prepared) else _used(run)
    values = {"name": prepared.table.name, "count": len(rows) - 1, "shown": len(chosen)}
    key = "fresh" if used is None else "used" if used else "plain"
    return View(
        "augment",
        say(TEXTS, "title", **values),
        say(TEXTS, "caption", used=say(TEXTS, key, names=", ".join(used or ()))),
        TEXTS["see"],
        {
            "pictures": np.stack([thumbnails(row.numpy()) for row in rows.values()]),
            "labels": np.array(labels, str),
        },
        {"changes": list(rows), "shares": shares, "partners": partners, "used": used},
        {"pictures": TEXTS["pictures"], "original": TEXTS["original"]},
    )


def changed(change: Operation, pictures: UInt8[Tensor, "B H W C"]) -> UInt8[Tensor, "B H W C"]:
    """Each picture after a change, drawn until it shows, or is the most that was seen of it."""
    found, most = pictures, torch.zeros(len(pictures))
    for _ in range(TRIES):
        drawn = change(pictures)
        differs = (drawn != pictures).any(3).float().mean((1, 2))  # share of its pixels, (B,)
        better = (most < SHOWS) & (differs > most)
        found = torch.where(better.view(-1, 1, 1, 1), drawn, found)
        most = torch.where(better, differs, most)
        if (most >= SHOWS).all():
            break
    return found


def _blended(blend: Any, pictures: UInt8[Tensor, "B H W C"]) -> tuple[Mixed, UInt8[Tensor, "B H W C"]]:
    """Each picture blended with another one; targets are the pictures' numbers."""
    numbers = torch.arange(len(pictures))
    for _ in range(BLENDS):
        found, mixed = blend(pictures, numbers, ALPHA)
        if EVEN[0] <= mixed.share <= EVEN[1] and (mixed.others != numbers).all():
            break
    return mixed, found.round().to(torch.uint8)


def _varied(targets: np.ndarray) -> np.ndarray:
    """SHOWN rows of as many classes as there are, always the same ones, class by class."""
    draw = np.random.default_rng(0)
    classes = np.unique(targets)
    if len(classes) > SHOWN:
        classes = np.sort(draw.choice(classes, SHOWN, replace=False))
    piles = [draw.permutation(np.flatnonzero(targets == k)) for k in classes]
    turns = [pile[turn] for turn in range(SHOWN) for pile in piles if turn < len(pile)]
    return np.array(sorted(turns[:SHOWN], key=lambda row: (targets[row], row)))


def _used(run: Run) -> list[str]:
    """The changes of the run's training, by their names."""
    training = run.config["train"]
    names = {"none": "", "auto": "crop"}.get(training["augment"], training["augment"])
    blends = [name for name in ("mixup", "cutmix") if training.get(name)]
    return [name.strip() for name in names.split(",") if name.strip()] + blends

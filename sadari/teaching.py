"""From a run to a teacher: opened, checked against the data, put round the task of the rung it teaches.

Pictures without labels teach too: the teacher's own answer is their label, in whatever share labels have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from sadari.data.image_files import survey, walk
from sadari.data.prepare import Prepared
from sadari.data.spec_images import ImageSpec
from sadari.errors import SadariError
from sadari.lang import Note
from sadari.methods.distill import Distill, DistillConfig, check_teacher, last_layer
from sadari.runs import Run

TEXTS = {
    "other split": (
        "the teacher was fitted on another split of these rows and has seen some that are scored here, so "
        "the scores flatter; give a teacher fitted with the same --seed",
        "교사는 같은 데이터를 다르게 나누어 배웠으므로 여기서 채점하는 행의 일부를 이미 보았고, 점수가 "
        "실제보다 좋게 나옵니다. 같은 --seed로 훈련한 교사를 쓰십시오",
    ),
    "unlabelled": (
        "the teacher also teaches {count:,} pictures without labels; {known:,} were left out that are among "
        "the labelled ones, {broken:,} that cannot be read",
        "교사는 라벨 없는 그림 {count:,}장으로도 가르칩니다. 라벨 있는 그림과 같은 {known:,}장과 읽을 수 "
        "없는 {broken:,}장은 뺐습니다",
    ),
}
RUN, UNLABELLED = "run", "unlabelled"
MOST = 2 << 30  # bytes of pictures without labels, which lie in memory


class Taught(NamedTuple):
    """What a teacher makes of a plan."""

    task: Distill
    prepared: Prepared
    """With the pictures without labels among those to train on, if there are some."""
    about: dict[str, Any]
    """What the run's config says of it, the checksum of the teacher's weights included."""
    notes: tuple[Note, ...]


def taught(task: Any, teacher: str | Path | Mapping[str, Any], prepared: Prepared) -> Taught:
    """A task taught by a run: its folder, or {"run": folder}, with fields of `DistillConfig` and, of
    pictures, "unlabelled": a folder of more of them.

    SadariError where it is no run, a setting is none, or it cannot teach these data.
    """
    settings: dict[str, Any] = dict(teacher) if isinstance(teacher, Mapping) else {RUN: teacher}
    path, more = settings.pop(RUN, None), settings.pop(UNLABELLED, None)
    known = list(DistillConfig.__dataclass_fields__)
    if path is None or (odd := [name for name in settings if name not in known]):
        what = "names no run" if path is None else f"has no setting {odd[0]!r}"
        raise SadariError(f"--teacher {what}; give a run, and with it any of: {', '.join(known)}")
    config, run = DistillConfig(**settings), Run.load(path)
    check_teacher(prepared.task, prepared.kind, prepared.spec, run.config, run.spec, path)
    if config.match:
        last_layer(run.model)  # one without features must not wait for the first step
    made = Distill(task, run.model, run.spec, config)
    about = {RUN: str(path), "rung": run.rung, "weights": run.result["weights"], **asdict(config)}
    notes = []
    theirs = run.config["data"]
    split = theirs.get("split", {}).get("fingerprint")
    if theirs["fingerprint"] == prepared.table.fingerprint and split != prepared.split.fingerprint:
        notes.append(Note.of(TEXTS, "other split", "warning"))
    if more is not None:
        prepared, about[UNLABELLED], note = _with_unlabelled(made, prepared, Path(more))
        notes.append(note)
    return Taught(made, prepared, about, tuple(notes))


def _with_unlabelled(
    task: Distill, prepared: Prepared, folder: Path
) -> tuple[Prepared, dict[str, Any], Note]:
    """The data with a folder's pictures behind those to train on, what they are, and what is said of them.

    Whatever has the pixels of a labelled picture is left out: it may be one that is scored.
    """
    spec: Any = prepared.spec
    if not isinstance(spec, ImageSpec):
        raise SadariError(
            f"--unlabelled {folder} is for pictures, and this data is {prepared.kind}; leave it out"
        )
    if not folder.is_dir():
        raise SadariError(f"--unlabelled {folder} is no folder; give one of pictures")
    files = [str(path) for path in walk(folder).files]
    table: Any = prepared.table
    seen = survey(files, files, cache=table.cache)
    labelled = {row.tobytes() for row in table.looks["pixels"]}
    readable = [row for row in range(len(files)) if row not in seen.failures]
    rows = [row for row in readable if seen.looks["pixels"][row].tobytes() not in labelled]
    if not rows:
        raise SadariError(
            f"--unlabelled {folder} holds no readable picture that is not labelled already; give others"
        )
    size = len(rows) * spec.size**2 * spec.channels
    if size > MOST:
        raise SadariError(
            f"--unlabelled {folder}: {len(rows):,} pictures take {size / 1e9:.1f} GB, and {MOST / 1e9:.1f} "
            f"GB are the most; give fewer, or a smaller --size"
        )
    features = spec.encode(pl.DataFrame({spec.image: [files[row] for row in rows]}), name=str(folder))
    targets = _answers(task, features)
    train: Any = prepared.train
    joined = replace(
        train,
        features=np.concatenate([train.features, features]),
        targets=np.concatenate([train.targets, targets]),
    )
    about = {
        "folder": str(folder),
        "pictures": len(rows),
        "fingerprint": hashlib.sha256(features.tobytes()).hexdigest(),
    }
    known, broken = len(readable) - len(rows), len(seen.failures)
    note = Note.of(TEXTS, UNLABELLED, count=len(rows), known=known, broken=broken)
    return replace(prepared, train=joined), about, note


@torch.inference_mode()
def _answers(task: Distill, features: np.ndarray) -> np.ndarray:
    """The class that the teacher finds the likeliest, of each picture."""
    found = []
    for _, block in task.task.blocks(torch.from_numpy(features)):
        output = task.teacher(task.seen(block))
        found.append((output[:, 0] > 0).long() if output.shape[1] == 1 else output.argmax(1))
    return torch.cat(found).numpy()

"""Fit one rung: data in, run folder out. The climb does this for a whole ladder.

1. prepare the data  2. open the run's folder  3. solve, or train in the one loop  4. write the run
"""

from __future__ import annotations

import importlib
import math
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from sadari import files
from sadari.batches_captions import caption_tensors
from sadari.budget import Budget
from sadari.data.caption_arrays import CaptionArrays
from sadari.data.prepare import Prepared, in_own_units, prepare
from sadari.data.spec_images import ImageSpec
from sadari.data.spec_text import padded
from sadari.data.tokenizers import Tokenizer, train_tokenizer
from sadari.errors import SadariError
from sadari.ladder import Rung, find_rung
from sadari.lang import Note
from sadari.layers.stack import Stack, stackable
from sadari.losses import Loss
from sadari.runs import CHECKPOINT, CONFIG, FORMAT, RESULT, WEIGHTS, Run, save_result, save_spec, save_weights
from sadari.tasks import Penalised, Task, build, loss_for, make_task
from sadari.tasks_images import Pictures
from sadari.teaching import taught
from sadari.train import TrainConfig, Trained, Watcher, train
from sadari.vectors import WordVectors

TEXTS = {
    "bf16": (
        "trained with bf16 products, {gain:.1f} times as fast here; --precision fp32 keeps every digit",
        "곱셈을 bf16으로 하여 훈련했습니다. 이 기계에서 {gain:.1f}배 빠릅니다. 모든 자릿수를 지키려면 "
        "--precision fp32",
    ),
    "compiled": (
        "trained with compiled steps, {gain:.2f} times as fast here; --compile off goes without",
        "단계를 컴파일하여 훈련했습니다. 이 기계에서 {gain:.2f}배 빠릅니다. 하지 않으려면 --compile off",
    ),
    "missing": (
        "rung {rung} is left out: {reason}",
        "{rung} 단은 건너뜁니다: {reason}",
    ),
    "unfinished": (
        "its error on validation rows still fell by {share:.0%} in the last quarter of {steps:,} steps; a "
        "longer --budget may take it further",
        "훈련 {steps:,}걸음의 마지막 4분의 1에서도 검증 오차가 {share:.0%} 줄었습니다. --budget을 늘리면 더 "
        "나아질 수 있습니다",
    ),
}
FALL = 0.03  # share of a validation score, lost in the last quarter of a budget, from which this is said
READ = ("text", "pairs", "images", "captions")  # kinds of data that are read in more than one way
SAMPLE = 200  # texts that are looked at to tell whether a pretrained encoder knows their language
VERSIONS = ("sadari", "torch", "numpy", "polars")


@dataclass(frozen=True)
class Plan:
    """Everything that decides a fit, known before anything is written."""

    config: dict[str, Any]
    prepared: Prepared
    task: Task
    training: TrainConfig
    starts: int
    notes: tuple[Note, ...] = ()
    """What was found while planning."""

    @property
    def loss(self) -> Loss:
        return self.task.loss

    def networks(self) -> list[nn.Module]:
        """One fresh model a start, seeded one after another."""
        config, inputs = self.config, self.prepared.spec.width
        seeds = range(config["seed"], config["seed"] + self.starts)
        kind = self.prepared.kind
        return [
            build(config["rung"], config["task"], config["model"], inputs, self.loss, seed, kind)
            for seed in seeds
        ]


def fit(
    rung: str,
    data: Any,
    *,
    target: str | None = None,
    task: str | None = None,
    out: str | Path | None = None,
    budget: Budget | str | None = None,
    seed: int = 0,
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    loss: str | Mapping[str, Any] | None = None,
    drop: Sequence[str] = (),
    log_target: bool = False,
    kind: str | None = None,
    reading: Mapping[str, Any] | None = None,
    starts: int = 1,
    teacher: str | Path | Mapping[str, Any] | None = None,
    prepared: Prepared | None = None,
    watchers: Sequence[Watcher] = (),
) -> Run:
    """Fit one rung and return its run.

    data      a file (.csv .tsv .parquet .jsonl .txt), a folder of texts or of pictures, a built-in's name,
              or a frame
    out       the run's folder; when it holds the same fit, that one goes on, or is opened when finished
    budget    what training may spend (`"90s"`, `"2000steps"`); rungs with a direct solution ignore it
    model     settings of the rung, by the field names of its config;  train: those of `TrainConfig`
    loss      a loss by name, or {"name": ..., "smoothing": ..., "delta": ...}
    kind      table, series, text, pairs or images; else what the data holds
    reading   how texts are read: text (their column), tokenizer, vocabulary, length; how pictures are: image
              (their column), size, fit, channels
    starts    networks trained together from that many seeds; the best on validation is kept
    teacher   a run of the same task and classes that teaches this one, or {"run": ..., "temperature": ...,
              "soft": ..., "match": ...}, the fields of `DistillConfig`, and "unlabelled": a folder of more
    prepared  data already prepared, so that a climb prepares once

    Raises SadariError for anything that the user can mend.
    """
    plan = plan_fit(
        rung,
        data,
        target=target,
        task=task,
        budget=budget,
        seed=seed,
        model=model,
        train=train,
        loss=loss,
        drop=drop,
        log_target=log_target,
        kind=kind,
        reading=reading,
        starts=starts,
        teacher=teacher,
        prepared=prepared,
    )
    return run_fit(plan, out, watchers)


def plan_fit(
    rung: str,
    data: Any,
    *,
    target: str | None = None,
    task: str | None = None,
    budget: Budget | str | None = None,
    seed: int = 0,
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    loss: str | Mapping[str, Any] | None = None,
    drop: Sequence[str] = (),
    log_target: bool = False,
    kind: str | None = None,
    reading: Mapping[str, Any] | None = None,
    starts: int = 1,
    teacher: str | Path | Mapping[str, Any] | None = None,
    prepared: Prepared | None = None,
) -> Plan:
    """Check every setting and prepare the data; write nothing. Arguments as for `fit`."""
    find_rung(rung, task, kind)  # a misspelt rung must not wait for the data to be read
    if starts < 1:
        raise SadariError(f"--starts {starts} is below 1; one network needs one start")
    if not 0 <= seed < 2**32:
        raise SadariError(f"--seed {seed} is no seed; give a whole number from 0 up to 4,294,967,295")
    if prepared is None:
        prepared = prepare(
            data,
            target=target,
            task=task,
            seed=seed,
            drop=drop,
            log_target=log_target,
            kind=kind,
            reading=reading,
        )
    model_class = find_rung(rung, prepared.task, prepared.kind).load()
    if prepared.kind == "pairs" and "share" in model_class.Config.__dataclass_fields__:
        model = {"share": _shared(prepared, model), **(model or {})}
    if prepared.kind == "captions":
        model = {**_of_captions(model_class.Config, prepared.spec), **(model or {})}
    model_config = _configure(model_class.Config, model, f"rung {rung!r}")
    if hasattr(model_class, "named"):  # what tells classes apart by their names
        model_config = model_class.named(model_config, prepared.spec.classes)
    if hasattr(model_class, "tokenizer_json"):  # what was trained elsewhere reads in its own way
        tokenizer = Tokenizer.from_json(model_class.tokenizer_json(model_config))
        prepared = prepared.recoded(tokenizer)
        spec: Any = prepared.spec
        if spec.length > model_class.most(model_config):
            prepared = prepared.recoded(tokenizer, model_class.most(model_config))
    if hasattr(model_class, "pictures"):  # learnt on pictures of a size and range of its own
        from sadari.data import prepare_captions, prepare_images

        own: Any = prepared.spec
        of_pictures = prepare_captions if prepared.kind == "captions" else prepare_images
        prepared = of_pictures.resized(prepared, **model_class.pictures(model_config, own.size))
    if hasattr(model_class, "tokenizer_kind"):  # what reads texts in a way of its own
        prepared = _recut(prepared, model_class.tokenizer_kind)
    usual = dict(getattr(model_class, "TRAINING", {}))
    if issubclass(model_class, Penalised):
        usual["weight_decay"] = 0.0  # it has a penalty of its own
    training: TrainConfig = _configure(
        TrainConfig, {**usual, **(train or {}), "seed": seed}, "the training loop"
    )
    _check_changes(training, prepared)
    if isinstance(budget, str):
        budget = Budget.parse(budget)
    if budget is not None:
        training = replace(training, budget_seconds=budget.seconds or 0.0, budget_steps=budget.steps or 0)
    loss_settings = {"name": loss} if isinstance(loss, str) else dict(loss or {})
    loss_settings = {**getattr(model_class, "LOSS", {}), **loss_settings}
    objective = _objective(prepared, loss_settings)
    if objective.name == "poisson":
        prepared = in_own_units(prepared)
    if prepared.task not in ("language", "translate", "match"):
        objective.check(torch.from_numpy(prepared.train.targets))
        objective.check(torch.from_numpy(prepared.validation.targets))
    table = prepared.table
    config = {
        "format": FORMAT,
        "rung": rung,
        "task": prepared.task,
        "kind": prepared.kind,
        "model": asdict(model_config),
        "train": asdict(training),
        "loss": {**loss_settings, "name": objective.name},
        "starts": starts,
        "seed": seed,
        "data": {
            "source": table.source,
            "name": table.name,
            "fingerprint": table.fingerprint,
            "rows": table.rows,
            "target": prepared.spec.target,
            "drop": list(drop),
            "log_target": log_target,
            **({"reading": _reading(prepared, reading)} if prepared.kind in READ else {}),
            "split": {
                "train": len(prepared.split.train),
                "validation": len(prepared.split.validation),
                "test": len(prepared.split.test),
                "fingerprint": prepared.split.fingerprint,
            },
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
    }
    rows = len(prepared.split.train)
    asked: Any = make_task(prepared.kind, prepared.task, objective, prepared.spec, training.monitor, rows)
    if hasattr(asked, "configure"):
        asked.configure(training)  # a setting that there is not must not wait for the run's folder
    kind, width = prepared.kind, prepared.spec.width
    if kind in ("images", "captions"):  # a picture too small for the network is said before a folder is made
        with torch.device("meta"):
            network: Any = build(rung, prepared.task, asdict(model_config), width, objective, seed, kind)
        if kind == "captions":  # likewise a tokenizer that does not fit
            network.check_tokens(torch.from_numpy(prepared.train.targets))
    if teacher is None:
        return Plan(config, prepared, asked, training, starts)
    asked, prepared, config["teacher"], notes = taught(asked, teacher, prepared)
    plan = Plan(config, prepared, asked, training, starts, notes)
    with torch.device("meta"):
        student = plan.networks()[0]
    if can_solve(student, objective) or not any(p.requires_grad for p in student.parameters()):
        raise SadariError(
            f"--teacher: rung {rung!r} is solved from the labels themselves, so a teacher has nothing to "
            f"teach; give a rung that trains, or leave it out"
        )
    return plan


def run_fit(plan: Plan, out: str | Path | None = None, watchers: Sequence[Watcher] = ()) -> Run:
    """Carry a plan out in its folder; go on where an interrupted fit of the same plan stopped."""
    check_taught(plan)
    folder = open_folder(plan.config, out)
    if (folder / RESULT).is_file():
        return Run.load(folder)
    save_spec(folder, plan.prepared.spec)
    files.write_json(folder / CONFIG, plan.config)
    began = time.perf_counter()
    network, facts, notes = _learn(plan, folder, watchers)
    facts["seconds"] = time.perf_counter() - began
    scores = plan.task.score(network, tensors(plan.prepared.validation))
    told = [name for name in ("loss", "error", "recall") if name in scores]
    facts |= {f"validation_{name}": scores[name].item() for name in told}
    checksum = save_weights(network, folder / WEIGHTS)
    result = save_result(folder, checksum, [*plan.prepared.notes, *plan.notes, *notes], **facts)
    shutil.rmtree(
        folder / CHECKPOINT, ignore_errors=True
    )  # only now: a crash before leaves a state to go on from
    asked = getattr(plan.task, "task", plan.task)  # a teacher is not needed any more
    return Run(folder, plan.config, result, plan.prepared.spec, network.eval(), asked)


def check_taught(plan: Plan) -> None:
    """Raise SadariError where a rung that only learns from a teacher has none."""
    rung = plan.config["rung"]
    model_class = find_rung(rung, plan.config["task"], plan.config["kind"]).load()
    if getattr(model_class, "taught", False) and "teacher" not in plan.config:
        raise SadariError(
            f"rung {rung!r} learns from another run; give one with --teacher RUN (a climb takes its best)"
        )


def _learn(
    plan: Plan, folder: Path, watchers: Sequence[Watcher]
) -> tuple[nn.Module, dict[str, Any], list[Note]]:
    """The weights: solved directly where the rung can, else trained. Returns model, facts and notes."""
    networks = plan.networks()
    first = networks[0]
    arrays = tensors(plan.prepared.train)
    teaching = getattr(plan.task, "teaching", None)
    if can_solve(first, plan.loss):
        facts = solve(first, arrays, plan.loss, plan.prepared.spec)
        notes = facts.pop("notes", [])
        return networks[0], {"solved": True, **facts}, notes
    trainee: nn.Module = Stack.of(networks) if stackable(first) and teaching is None else first
    begun: list[Note] = []
    learnt: Any = first
    if hasattr(learnt, "start_from") and learnt.config.vectors:
        _start_from_vectors(learnt, plan.prepared.spec)
    began = time.perf_counter()
    if hasattr(learnt, "begin") and not (folder / CHECKPOINT).is_dir():  # a network that has learnt elsewhere
        shown = seen(arrays, plan.prepared.spec)
        targets = shown["tokens" if plan.prepared.kind == "captions" else "targets"]
        begun = learnt.begin(shown["features"], targets, plan.loss).get("notes", [])
    checks = tensors(plan.prepared.validation)
    stream = getattr(arrays, "stream", None)
    if stream is not None:
        stream.forget()
    if hasattr(learnt, "kept") and stream is None and not getattr(plan.task, "changes", ()):
        trainee, arrays, checks = _kept(learnt, arrays, checks, plan.prepared.spec)
    with teaching(trainee) if teaching is not None else nullcontext():
        trained = train(
            trainee,
            plan.task,
            arrays,
            checks,
            plan.training,
            folder=folder,
            watchers=watchers,
            spent=time.perf_counter() - began,
        )
    best = int(trained.best_score.argmin())
    network = trainee.unstack()[best] if isinstance(trainee, Stack) else first
    if hasattr(plan.task, "notes"):
        begun += plan.task.notes(trainee, checks)
    if stream is not None:
        begun += stream.notes()
    begun += [Note.of(TEXTS, name, gain=gain) for name, gain in trained.settled.get("gains", {}).items()]
    if trained.stopped == "budget" and (share := _fall(trained)) >= FALL:
        begun.append(Note.of(TEXTS, "unfinished", share=share, steps=trained.steps))
    facts = {
        "solved": False,
        "steps": trained.steps,
        "best_step": trained.best_step,
        "stopped": trained.stopped,
        "start_scores": [score if math.isfinite(score) else None for score in trained.best_score.tolist()],
    }
    return network, facts, begun


def _kept(
    locked: Any, arrays: Mapping[str, Tensor], checks: Mapping[str, Tensor], spec: Any
) -> tuple[nn.Module, dict[str, Tensor], dict[str, Tensor]]:
    """What is trained of a model whose towers are locked, and what these have made of both parts."""
    parts = [dict(arrays), dict(checks)]
    pictures = [Pictures(part["features"], spec.pictures) for part in parts]
    found = locked.kept(pictures, [part["tokens"] for part in parts])
    if found is None:
        return locked, *parts
    lines, features, rows = found
    for part, seen, said in zip(parts, features, rows, strict=True):
        part |= {"features": seen, "tokens": said}
    return lines, *parts


def _fall(trained: Trained) -> float:
    """Share of the best validation score that the last quarter of a training took off."""
    looks = [record for record in trained.history if "best_score" in record]
    before = [record for record in looks if record["step"] <= 0.75 * trained.steps]
    if not before:
        return 0.0
    earlier, last = (np.min(records[-1]["best_score"]) for records in (before, looks))
    return float(1 - last / earlier) if earlier > 0 and math.isfinite(earlier) else 0.0


def _start_from_vectors(network: Any, spec: Any) -> None:
    """Begin with the word vectors of a file where the tokenizer's words have one.

    Raises SadariError when the file is none, is not as wide as the embedding, or knows none of the words.
    """
    vectors = WordVectors.load(network.config.vectors)
    words = [spec.tokenizer.token(number).strip("▁ ") for number in range(spec.width)]
    matrix, found = vectors.matrix_for(words, network.config.width)
    if not found.any():
        raise SadariError(
            f"{network.config.vectors} has a vector for none of the {spec.width:,} tokens; cut texts into "
            f"words with --tokenizer words"
        )
    network.start_from(torch.from_numpy(matrix), torch.from_numpy(found))


@runtime_checkable
class Solvable(Protocol):
    """A rung with a direct solution, such as the line's for squares."""

    def can_solve(self, loss: Loss) -> bool: ...


def can_solve(network: nn.Module, loss: Loss) -> TypeGuard[Solvable]:
    """Whether a rung has a direct solution for this loss."""
    return isinstance(network, Solvable) and network.can_solve(loss)


def solve(network: Any, arrays: Mapping[str, Tensor], loss: Loss, spec: Any = None) -> dict[str, Any]:
    """Fill the weights of a rung that `can_solve` from all rows, or from a stream; facts of how it went.

    Of pictures, `spec` says how their pixels are scaled.
    """
    if "targets" not in arrays:
        return network.solve_stream(arrays["features"])
    shown = seen(arrays, spec)
    return network.solve(shown["features"], shown["targets"], loss)


def seen(arrays: Mapping[str, Tensor], spec: Any) -> Mapping[str, Any]:
    """All rows as a network takes them that reads them outside the loop: pixels scaled as they are read."""
    if not isinstance(spec, ImageSpec):
        return arrays
    return {**arrays, "features": Pictures(arrays["features"], spec)}


def tensors(arrays: Any) -> dict[str, Tensor]:
    """A part of prepared data as tensors that share its memory, mapped files included.

    A stream is its own target, a token later.
    """
    if isinstance(arrays, CaptionArrays):
        return caption_tensors(arrays)
    features = {"features": torch.from_numpy(arrays.features)}
    return (
        features if hasattr(arrays, "starts") else {**features, "targets": torch.from_numpy(arrays.targets)}
    )


def open_folder(config: Mapping[str, Any], out: str | Path | None) -> Path:
    """The folder for a fit: `out`, or the first free or equal one under runs/.

    Raises SadariError when `out` holds another run, is a file, or is some other folder with files in it.
    """
    if out is not None:
        folder = Path(out)
        if not _free(folder) and not _same(folder, config):
            raise SadariError(
                f"{folder} already holds something else; give another folder with --out, or remove it first"
            )
        return folder
    stem = Path("runs") / f"{config['data']['name']}-{config['rung']}"
    number = 1
    while True:
        folder = stem if number == 1 else stem.with_name(f"{stem.name}-{number}")
        if _free(folder) or _same(folder, config):
            return folder
        number += 1


def _free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _same(folder: Path, config: Mapping[str, Any]) -> bool:
    return (folder / CONFIG).is_file() and files.read_json(folder / CONFIG, "a run") == config


def suits(rung: Rung, prepared: Prepared, settings: Mapping[str, Any] | None = None) -> bool:
    """Whether a rung on weights from elsewhere has them here, and they know the words of the texts."""
    model_class = rung.load()
    if hasattr(model_class, "pictures"):
        return missing(rung, settings) is None
    if not hasattr(model_class, "tokenizer_json"):
        return True
    try:
        config = model_class.Config()
        tokenizer = Tokenizer.from_json(model_class.tokenizer_json(config))
    except SadariError:  # not fetched
        return False
    spec: Any = prepared.spec
    texts = prepared.table.frame.collect()[prepared.split.train[:SAMPLE]][spec.text].to_list()
    tokens = torch.from_numpy(padded(tokenizer.encode(texts)))
    return not importlib.import_module(rung.module).foreign_notes(tokens, config.weights)


def missing(rung: Rung, settings: Mapping[str, Any] | None = None) -> Note | None:
    """What is said of a rung whose usual weights from elsewhere are not here; None where they are."""
    try:
        rung.load().Config(**(settings or {}))
    except SadariError as error:
        return Note.of(TEXTS, "missing", rung=rung.name, reason=str(error))
    return None


def _objective(prepared: Prepared, settings: Mapping[str, Any]) -> Loss:
    """The loss. Raises SadariError for another than the usual one where tokens are foretold."""
    asked = settings.get("name", "cross-entropy")
    if prepared.task in ("language", "translate") and asked != "cross-entropy":
        raise SadariError(
            f"--loss {asked} does not go with task {prepared.task}, whose loss is cross-entropy; leave it out"
        )
    return loss_for(prepared.spec, **settings)


def _check_changes(training: TrainConfig, prepared: Prepared) -> None:
    """Raise SadariError where pictures are to be changed, and there are none."""
    asked = {
        "augment": training.augment != "auto",
        "mixup": training.mixup > 0,
        "cutmix": training.cutmix > 0,
    }
    for name in asked:
        if asked[name] and prepared.kind not in ("images", "captions"):
            raise SadariError(
                f"--{name} {getattr(training, name)} changes pictures, and this data is {prepared.kind}; "
                f"leave it out"
            )


def _shared(prepared: Prepared, model: Mapping[str, Any] | None) -> bool:
    """Whether both sides have one vocabulary. Raises SadariError where one table is asked to serve two."""
    spec: Any = prepared.spec
    if (model or {}).get("share") and not spec.shared:
        raise SadariError(
            "--share needs one vocabulary for both sides; leave it out, or leave out --separate"
        )
    return spec.shared


def _of_captions(config: type[Any], spec: Any) -> dict[str, Any]:
    """What a reader of captions takes from them: the positions that it needs, and what fills them up."""
    known = {"context": spec.length, "pad": spec.end}
    return {name: value for name, value in known.items() if name in config.__dataclass_fields__}


def _recut(prepared: Prepared, kind: Any) -> Prepared:
    """The same pairs in tokens of another kind, learnt from the training part."""
    from sadari.data.prepare_pairs import recoded

    frame = prepared.table.frame.collect()[prepared.split.train]
    spec: Any = prepared.spec
    texts = [text for name in (spec.source, spec.target) for text in frame[name].to_list()]
    return recoded(prepared, train_tokenizer(texts, kind))


def _reading(prepared: Prepared, reading: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is kept of how data was read, the columns of captions that were asked for by --target included."""
    named = list(getattr(prepared.table, "named", ()))
    return {**plain_reading(reading), **({"caption": named} if named else {})}


def plain_reading(reading: Mapping[str, Any] | None) -> dict[str, Any]:
    """How texts were asked to be read, as JSON knows it; a tokenizer that was at hand is in the run."""
    told = {name: value for name, value in (reading or {}).items() if value}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in told.items()
        if isinstance(value, str | int | Path)
    }


def _configure(config_class: Any, settings: Mapping[str, Any] | None, owner: str) -> Any:
    """A config from settings by name. Raises SadariError that lists the names there are."""
    try:
        return config_class(**(settings or {}))
    except TypeError as error:
        known = list(config_class.__dataclass_fields__)
        unknown = [name for name in settings or {} if name not in known]
        if not unknown:
            raise SadariError(f"{owner}: {error}") from error
        raise SadariError(
            f"{owner} has no setting {unknown[0]!r}; its settings are: {', '.join(known)}"
        ) from error

"""The run: a folder that explains itself, and all that is needed to use a trained model on raw input again.

config.json          rung, settings, seed, versions, where the data came from
spec.json            how raw rows become numbers, learnt on the training split only
tokenizer.json       likewise for texts: how they become tokens, in the format that other programs read;
                     of pairs, tokenizer-source.json where sources have their own
weights.safetensors  the weights under the model's own names
result.json          written last: the checksum of the weights, what the fit took, its notes
log.jsonl            a line a step interval
checkpoint/          while training only
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sadari import files
from sadari.bleu import statistics
from sadari.data.prepare import Prepared, in_own_units, prepare
from sadari.data.spec import TableSpec
from sadari.data.spec_captions import CaptionSpec
from sadari.data.spec_images import ImageSpec
from sadari.data.spec_pairs import PairSpec
from sadari.data.spec_text import LanguageSpec, TextSpec
from sadari.data.tokenizers import Tokenizer
from sadari.errors import SadariError
from sadari.ladder import find_rung
from sadari.lang import Note
from sadari.losses import Loss
from sadari.scoring import document_scores, found_ranks
from sadari.tasks import LanguageTask, Spec, build, loss_for, make_task

FORMAT = 1
CONFIG, SPEC, TOKENIZER, SOURCE_TOKENIZER, WEIGHTS, RESULT, LOG, CHECKPOINT = (
    "config.json",
    "spec.json",
    "tokenizer.json",
    "tokenizer-source.json",
    "weights.safetensors",
    "result.json",
    "log.jsonl",
    "checkpoint",
)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch normalisation: not learnt


@dataclass
class Run:
    """A trained model with everything round it. Made by `sadari.fit`, opened by `sadari.load`."""

    path: Path
    config: dict[str, Any]
    result: dict[str, Any]
    spec: Any
    """A `TableSpec`, `TextSpec`, `LanguageSpec`, `PairSpec`, `ImageSpec` or `CaptionSpec`."""
    model: nn.Module
    task: Any
    """A `TableTask`, `TextTask`, `LanguageTask`, `TranslateTask`, `ImageTask` or `MatchTask`, likewise."""

    @property
    def rung(self) -> str:
        return self.config["rung"]

    @property
    def kind(self) -> str:
        """Kind of data: table, series, text, pairs, images or captions."""
        return self.config.get("kind", "table")

    @property
    def loss(self) -> Loss:
        return self.task.loss

    @property
    def notes(self) -> list[Note]:
        """What was said about the data and the fit."""
        return [Note.from_json(note) for note in self.result["notes"]]

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Open a finished run.

        Raises SadariError when `path` is no run, comes from a newer Sadari, is unfinished, or if its weights
        are not the ones that it was saved with.
        """
        path = Path(path)
        if not path.is_dir():
            raise SadariError(f"no run at {path}; give the folder whose path `sadari fit` printed")
        config = files.read_json(path / CONFIG, "a run")
        check_format(config, path)
        if not (path / RESULT).is_file():
            raise SadariError(f"run {path} is unfinished; give its `sadari fit` command again and it goes on")
        result = files.read_json(path / RESULT, "a run")
        spec = load_spec(path)
        try:
            kind = config.get("kind", "table")
            task = make_task(kind, config["task"], loss_for(spec, **config["loss"]), spec)
            model_class = find_rung(config["rung"], config["task"], kind).load()
            settings = model_class.Config(**config["model"])
            expected = model_class.parameter_count(settings, spec.width, task.loss.outputs)
            check_weights(path / WEIGHTS, result["weights"], expected)
            model = build(
                config["rung"], config["task"], config["model"], spec.width, task.loss, config["seed"], kind
            )
            for note in result["notes"]:
                Note.from_json(note)
            str(config["data"]["source"] + config["data"]["target"] + config["data"]["fingerprint"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SadariError(f"{path / CONFIG} does not describe a run ({error}); fit it again") from error
        load_weights(model, path / WEIGHTS)
        return cls(path, config, result, spec, model.eval(), task)

    @torch.inference_mode()
    def outputs(self, features: np.ndarray) -> Tensor:
        """The model's raw outputs (N, O) for encoded rows (N, C), or pixels (N, H, W, C), in blocks."""
        return self.task.outputs(self.model, torch.from_numpy(features))

    def predictions(self, features: np.ndarray) -> np.ndarray:
        """For encoded rows (N, C): numbers in the target's units (N,), or probabilities (N, classes)."""
        predicted = self.loss.predict(self.outputs(features)).numpy()
        return predicted if self.spec.classes else self.spec.decode_target(predicted)

    def answers(self, part: Any) -> np.ndarray:
        """`predictions` for a part of prepared data; of a corpus, nats and tokens of each document (D, 2); of
        pairs, what each translation has in common with its reference (N, K); of captions, ranks (N, 1+M)."""
        if isinstance(self.spec, CaptionSpec):
            return found_ranks(*self.vectors(part), part)
        if isinstance(self.task, LanguageTask):
            nats = self.task.nats(self.model, torch.from_numpy(part.features))
            return document_scores(nats.numpy(), part.starts)
        if isinstance(self.spec, PairSpec):
            return statistics(self.translate(part.sources), part.references)
        return self.predictions(part.features)

    def vectors(self, part: Any) -> tuple[np.ndarray, np.ndarray]:
        """Of length 1, of a part's pictures (N, D) and of all their captions (K, D), in one space."""
        image = self.task.images(self.model, torch.from_numpy(part.features))
        text = self.task.captions(self.model, torch.from_numpy(part.tokens))
        return image.numpy(), text.numpy()

    def predict(
        self,
        rows: Any,
        probabilities: bool = False,
        *,
        engine: Literal["sadari", "openvino"] = "sadari",
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> pl.DataFrame:
        """Predict raw rows: a frame with `prediction`, and `probability of CLASS` columns when asked for.

        Of pictures, `rows` may also be a folder, a path, bytes, a PIL image, an array of pixels, or several
        of these (see `sadari.predict.predict_pictures`), and `engine` and `precision` say whose products
        answer, and in what numbers (`sadari.engines_pictures`).
        Raises SadariError that names every column which is missing or of the wrong type.
        """
        from sadari.engines_pictures import answering, check_engine  # stands above runs

        check_engine(self, engine, precision)
        if isinstance(self.spec, ImageSpec) and not isinstance(rows, pl.DataFrame):
            from sadari.predict import predict_pictures

            return predict_pictures(self, rows, probabilities, engine=engine, precision=precision)
        if isinstance(self.spec, PairSpec):
            if probabilities:
                raise SadariError("--probabilities needs classes, but this run predicts text; leave it out")
            return pl.DataFrame({"prediction": self.translate(self.spec.sources(rows))})
        if isinstance(self.spec, CaptionSpec):
            raise SadariError(
                "this run places pictures and captions in one space and predicts nothing by itself; search "
                "with it: sadari index, sadari search"
            )
        if isinstance(self.spec, LanguageSpec):
            raise SadariError(
                "this run continues texts; call run.write(prompts) instead of run.predict(rows)"
            )
        features = self.spec.encode(rows)
        predicted = answering(self, engine, precision, len(features))(features)
        if not self.spec.classes:
            if probabilities:
                raise SadariError(
                    "--probabilities needs classes, but this run predicts a number; leave it out"
                )
            return pl.DataFrame({"prediction": predicted})
        labels = pl.Series("prediction", self.spec.classes, dtype=pl.String).gather(predicted.argmax(-1))
        columns = {f"probability of {c}": predicted[:, k] for k, c in enumerate(self.spec.classes)}
        return pl.DataFrame({"prediction": labels, **(columns if probabilities else {})})

    def write(self, prompts: Sequence[str], **sampling: Any) -> list[str]:
        """What each prompt is continued with; `sampling` are the fields of `sadari.decode.Sampling`.

        Raises SadariError when the run is not of a language, or for a setting out of range.
        """
        from sadari.decode import Sampling, generate  # decode stands beside runs

        self.check_writes()
        return generate(self.model, self.spec.tokenizer, list(prompts), Sampling(**sampling))  # type: ignore[arg-type]

    def translate(
        self,
        texts: Sequence[str],
        *,
        precision: Literal["fp32", "bf16", "int8"] = "fp32",
        engine: Literal["sadari", "ctranslate2"] = "sadari",
        **searching: Any,
    ) -> list[str]:
        """The target of each source; `searching` are the fields of `sadari.search.Searching`.

        `precision` and `engine` are as in `sadari.translate.translate_lines`.

        Raises SadariError when the run is not one of pairs, or for a setting out of range.
        """
        from sadari.search import Searching
        from sadari.translate import translate_lines  # stands above runs

        how = Searching(**searching)
        return [line.text for line in translate_lines(self, texts, how, precision=precision, engine=engine)]

    def check_writes(self) -> None:
        """Raise SadariError when the run is not one that continues texts."""
        if not isinstance(self.spec, LanguageSpec):
            raise SadariError(
                f"this run predicts {self.spec.target} and continues no text; fit one with --task language"
            )

    def data(self) -> Prepared:
        """The data of the run with its split, opened again.

        Raises SadariError when the file is gone or no longer holds what the run was fitted on.
        """
        about = self.config["data"]
        prepared = prepare(
            about["source"],
            target=None if self.kind == "captions" else about["target"] or None,
            task=self.config["task"],
            seed=self.config["seed"],
            drop=tuple(about["drop"]),
            log_target=about["log_target"],
            kind=self.kind,
            reading=self._reading(),
        )
        if prepared.table.fingerprint != about["fingerprint"]:
            raise SadariError(
                f"{about['source']} has changed since this run was fitted; fit again to look at new data"
            )
        return in_own_units(prepared) if self.loss.name == "poisson" else prepared

    def _reading(self) -> dict[str, Any]:
        """How texts were read, with the tokenizer that is there already, or pictures."""
        if isinstance(self.spec, TableSpec):
            return {}
        if isinstance(self.spec, ImageSpec):
            return {**self._pictures(self.spec), "image": self.spec.image}
        if isinstance(self.spec, CaptionSpec):
            own = {"tokenizer": self.spec.tokenizer, "length": self.spec.length}
            captions = self.config["data"].get("reading", {})
            return {**captions, **self._pictures(self.spec.pictures), **own}
        found: dict[str, Any] = {**self.config["data"].get("reading", {}), "tokenizer": self.spec.tokenizer}
        if isinstance(self.spec, PairSpec):
            found["source_tokenizer"] = None if self.spec.shared else self.spec.source_tokenizer
        found.pop("vocabulary", None)
        if isinstance(self.spec, TextSpec | PairSpec):
            found["length"] = self.spec.length
        return found

    def _pictures(self, spec: ImageSpec) -> dict[str, Any]:
        held = self.config["data"].get("reading", {}).get("hold_out", "")
        return {"size": spec.size, "fit": spec.fit, "channels": spec.channels, "hold_out": held}

    def look(self, view: str, **options: Any) -> Any:
        """Open the model up: a `View` of arrays and facts. `sadari look RUN` lists the views that fit."""
        from sadari.inspection import look  # inspection stands above runs

        return look(self, view, **options)

    def export(self, to: str = "onnx", path: str | Path | None = None) -> Path:
        """Write the run in a format that needs nothing of ours: raw columns in, predictions out."""
        from sadari.export import export  # export stands above runs

        return export(self, to, path)


def check_format(config: dict[str, Any], path: Path) -> None:
    """Raise SadariError when `config` was written by a newer format than this code reads, or by none."""
    version = config.get("format")
    if type(version) is not int or version < 1:  # True is an int to Python
        raise SadariError(f"{path / CONFIG} has no format number, so {path} is not a run; fit it again")
    if version > FORMAT:
        raise SadariError(
            f"run {path} has format {version}, this Sadari reads up to {FORMAT}; upgrade sadari"
        )


def save_spec(folder: Path, spec: Spec) -> None:
    """Write spec.json, and tokenizer.json where texts are read."""
    if not isinstance(spec, TableSpec | ImageSpec):
        files.write_atomic(folder / TOKENIZER, spec.tokenizer.to_json())
    if isinstance(spec, PairSpec) and not spec.shared:
        files.write_atomic(folder / SOURCE_TOKENIZER, spec.source_tokenizer.to_json())
    files.write_json(folder / SPEC, spec.to_json())


def load_spec(folder: Path) -> Spec:
    """The spec that `save_spec` wrote. Raises SadariError when it, or its tokenizer, is missing or broken."""
    content: Mapping[str, Any] = files.read_json(folder / SPEC, "a run")
    if content.get("kind") == "pairs":
        shared, tokenizer = content.get("shared") is not False, _tokenizer(folder / TOKENIZER)
        return PairSpec.from_json(
            content, tokenizer, tokenizer if shared else _tokenizer(folder / SOURCE_TOKENIZER)
        )
    if content.get("kind") == "images":
        return ImageSpec.from_json(content)
    if content.get("kind") == "captions":
        return CaptionSpec.from_json(content, _tokenizer(folder / TOKENIZER))
    if content.get("kind") != "text":
        return TableSpec.from_json(content)
    tokenizer = _tokenizer(folder / TOKENIZER)
    made = LanguageSpec if content.get("task") == "language" else TextSpec
    return made.from_json(content, tokenizer)


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SadariError(f"{path} cannot be read ({error}); fit the run again") from error


def check_weights(path: Path, checksum: str, parameters: int | None) -> None:
    """Look at a weights file before a model is made for it.

    Raises SadariError when it is missing, when its SHA-256 is not `checksum`, or when it does not hold as
    many numbers as the rung has `parameters` (None: that depends on the data), the running statistics of
    batch normalisation aside: a config that asks for a giant must not be obeyed.
    """
    if not path.is_file():
        raise SadariError(f"{path} is missing; fit the run again")
    if files.sha256(path) != checksum:
        raise SadariError(
            f"{path} is not the file this run was saved with (truncated or swapped); fit the run again"
        )
    try:
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if not name.endswith(STATISTICS)]  # noqa: SIM118
            held = sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    except SafetensorError as error:
        raise SadariError(
            f"{path} does not fit the rung in {CONFIG}, it is no safetensors file ({error}); fit it again"
        ) from error
    if parameters is not None and held != parameters:
        raise SadariError(
            f"{path} does not fit the rung in {CONFIG} ({held:,} numbers for {parameters:,} parameters); fit "
            f"the run again"
        )


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill `model` from a safetensors file. Raises SadariError when names, shapes or values do not fit."""
    try:
        weights = safetensors.torch.load_file(path)
        model.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise SadariError(
            f"{path} does not fit the rung in {CONFIG} ({reason}); fit the run again"
        ) from error
    broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if broken:
        raise SadariError(f"{path} holds values that are not finite in {broken[0]}; fit the run again")


def save_weights(model: nn.Module, path: Path) -> str:
    """Write the weights in one step and return the SHA-256 of the file."""
    weights = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    files.write_atomic(path, safetensors.torch.save(weights))
    return files.sha256(path)


def save_result(folder: Path, checksum: str, notes: Sequence[Note], **facts: Any) -> dict[str, Any]:
    """Write result.json, which makes the run a finished one; a fact that is not finite is written as null."""
    unknown = [name for name, fact in facts.items() if isinstance(fact, float) and not math.isfinite(fact)]
    facts |= dict.fromkeys(unknown)  # the condition of a singular table is infinite, and JSON has no infinity
    result = {"weights": checksum, **facts, "notes": [note.to_json() for note in notes]}
    files.write_json(folder / RESULT, result)
    return result

"""How a raw table becomes numbers: learnt on training rows, kept as JSON, applied to any rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from sadari.data import readings
from sadari.data.columns import ColumnSpec, as_number, as_text, readable
from sadari.errors import SadariError
from sadari.lang import Note

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64, Shaped

_BLOCK = 1 << 16  # rows encoded at once: 20 columns of them stay in the cache


@dataclass(frozen=True)
class TableSpec:
    """The way from raw rows to features and from the target to model space, and back."""

    task: str
    """regress or classify."""
    target: str
    """The target's column."""
    classes: tuple[str, ...] | None
    """Class labels in sorted order, numbers by value; None for regress."""
    target_center: float
    """Regress: model space is (y - center) / scale, with log1p(y) for y if `log_target`."""
    target_scale: float
    log_target: bool
    columns: tuple[ColumnSpec, ...]
    """The columns that are used, in file order."""
    notes: tuple[Note, ...] = ()
    """What was found in the training rows, and what was left out."""

    @property
    def width(self) -> int:
        """C, the number of features."""
        return len(self.feature_names)

    @cached_property
    def feature_names(self) -> list[str]:
        """C names such as `age`, `sex=F`, `city=(rare)`, `age is missing`, `day: week sin`."""
        return [name for column in self.columns for name in column.features]

    @property
    def types(self) -> dict[str, pl.DataType]:
        """For `open_table`: the columns that a file must keep as they are written, `007` for instance."""
        return {column.name: pl.String() for column in self.columns if column.kind in ("category", "boolean")}

    @classmethod
    def learn(
        cls,
        frame: pl.DataFrame | pl.LazyFrame,
        target: str,
        task: str,
        *,
        drop: Sequence[str] = (),
        log_target: bool = False,
    ) -> TableSpec:
        """Learn from training rows only. Rows without a target are passed over.

        Raises SadariError when the target cannot be learnt: constant, infinite, of one class, or without
        features.
        """
        from sadari.data.learn import Learner

        frame = frame.lazy() if isinstance(frame, pl.DataFrame) else frame
        learner = Learner(dict(frame.collect_schema()), target, task, drop=drop, log_target=log_target)
        for batch in frame.collect_batches(chunk_size=_BLOCK, maintain_order=True):
            learner.update(batch)
        return learner.finish()

    def check(self, schema: Mapping[str, pl.DataType], name: str = "the rows") -> None:
        """Raise SadariError naming each column that is absent, or that can never hold what was trained on."""
        wanted = [column.name for column in self.columns]
        if absent := [column for column in wanted if column not in schema]:
            raise SadariError(
                f"{name} lacks column{'s' * (len(absent) > 1)}: {', '.join(absent)}; the run was trained "
                f"with "
                f"{', '.join(wanted)}"
            )
        wrong = [
            f"{column.name} ({schema[column.name]}, trained on {column.kind})"
            for column in self.columns
            if not readable(column.kind, schema[column.name])
        ]
        if wrong:
            raise SadariError(
                f"{name} has columns of another type: {', '.join(wrong)}; give them as in training"
            )

    def encode(
        self, frame: pl.DataFrame, *, first_row: int = 1, name: str = "the rows"
    ) -> Float32[np.ndarray, "N C"]:
        """Features (N, C), C-contiguous. `first_row` and `name` say in an error where the rows come from.

        Raises SadariError naming every column that is missing or of the wrong type, or the first cell that
        cannot be read as what it was in training.
        """
        schema = frame.schema
        self.check(schema, name)
        self._refuse_unread(frame, schema, first_row, name)
        expressions: list[pl.Expr] = []
        dense: list[int] = []  # places of the features that are numbers
        places: list[int] = []  # places where the one-hot features of a column begin
        first = 0
        for column in self.columns:
            found = column.encode(schema[column.name])
            expressions += [expression.alias(str(first + offset)) for offset, expression in enumerate(found)]
            (places if column.kind == "category" else dense).extend(range(first, first + len(found)))
            first += len(column.features)
        out = np.zeros((frame.height, first), np.float32)  # (N, C)
        for start in range(0, frame.height, _BLOCK):
            values = frame.slice(start, _BLOCK).select(expressions)
            block = out[start : start + _BLOCK]
            if dense:
                block[:, dense] = values.select(map(str, dense)).to_numpy()
            for place in places:
                category = values[str(place)]
                block[np.flatnonzero(category.is_not_null()), place + category.drop_nulls().to_numpy()] = 1.0
        return out

    def encode_target(
        self, frame: pl.DataFrame, *, first_row: int = 1, name: str = "the rows"
    ) -> Shaped[np.ndarray, " N"]:
        """Float32 in model space, or int64 class numbers (N,).

        Raises SadariError for a target that is missing, no number, infinite, or a class unknown to training.
        """
        if self.classes is not None:
            return class_codes(frame, self.target, self.classes, first_row, name)
        values = _given_target(frame, self.target, self.task, first_row, name)
        numbers = values.to_numpy().astype(np.float64)
        if self.log_target:
            if (numbers <= -1).any():
                raise SadariError(
                    f"{name}: {self.target} goes down to {numbers.min():g}, and log1p needs more than "
                    f"-1; leave --log-target out"
                )
            numbers = np.log1p(numbers)
        return ((numbers - self.target_center) / self.target_scale).astype(np.float32)

    def _refuse_unread(
        self, frame: pl.DataFrame, schema: Mapping[str, pl.DataType], first_row: int, name: str
    ) -> None:
        """Raise SadariError for the first text in a column of numbers, booleans or dates that is none."""
        texts = [
            column
            for column in self.columns
            if column.kind != "category" and schema[column.name] == pl.String
        ]
        odd = frame.select(column.unread().arg_max().alias(column.name) for column in texts if frame.height)
        for column, row in zip(texts, odd.row(0) if texts and frame.height else (), strict=False):
            if frame.slice(row, 1).select(column.unread()).item():
                raise SadariError(
                    f"{name}: column {column.name} is {frame[column.name][row]!r} in row "
                    f"{first_row + row:,}, and the run was "
                    f"trained on a {column.kind} there; mend that cell, or leave it empty"
                )

    def decode_target(self, values: np.ndarray) -> np.ndarray:
        """Model space to the target's own units, in float64; any shape."""
        own = np.asarray(values, np.float64) * self.target_scale + self.target_center
        return np.expm1(own) if self.log_target else own

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "target": self.target,
            "classes": None if self.classes is None else list(self.classes),
            "target_center": self.target_center,
            "target_scale": self.target_scale,
            "log_target": self.log_target,
            "columns": [column.to_json() for column in self.columns],
            "notes": [note.to_json() for note in self.notes],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TableSpec:
        """The spec that `to_json` wrote. Raises SadariError when the content is none."""
        try:
            return cls(
                task=str(content["task"]),
                target=str(content["target"]),
                classes=None if content["classes"] is None else tuple(map(str, content["classes"])),
                target_center=float(content["target_center"]),
                target_scale=float(content["target_scale"]),
                log_target=bool(content["log_target"]),
                columns=tuple(ColumnSpec.from_json(column) for column in content["columns"]),
                notes=tuple(Note.from_json(note) for note in content["notes"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SadariError(
                f"spec.json is no spec of a table ({type(error).__name__}: {error}); fit the run again"
            ) from error


def class_codes(
    frame: pl.DataFrame, target: str, classes: Sequence[str], first_row: int = 1, name: str = "the rows"
) -> Int64[np.ndarray, " N"]:
    """Class numbers (N,) of a column of labels.

    Raises SadariError when there is no such column, for a label that is missing, or one unknown to training.
    """
    values = _given_target(frame, target, "classify", first_row, name)
    codes = values.cast(pl.Enum(list(classes)), strict=False)
    if codes.null_count():
        odd = values.filter(codes.is_null())[0]
        raise SadariError(
            f"{name}: {target} has the class {odd!r}, which is in no training row; classes there: "
            f"{', '.join(classes[:10])}"
        )
    return codes.to_physical().to_numpy().astype(np.int64)


def _given_target(frame: pl.DataFrame, target: str, task: str, first_row: int, name: str) -> pl.Series:
    if target not in frame.columns:
        raise SadariError(f"{name} lacks the target column {target}; add it, or predict instead of scoring")
    values = target_values(frame, target, task, first_row, name)
    if values.null_count():
        row = first_row + int(values.is_null().to_numpy().argmax())
        raise SadariError(f"{name} row {row:,} has no {target}; leave out the rows without a target")
    return values


def target_values(
    frame: pl.DataFrame, target: str, task: str, first_row: int = 1, name: str = "the rows"
) -> pl.Series:
    """The target as float64 (regress) or as text (classify), null where it is missing.

    Raises SadariError for a type that cannot be a target, and for the row where text or infinity stands for
    a number.
    """
    column, dtype = pl.col(target), frame.schema[target]
    values = as_number(column, dtype) if task == "regress" else as_text(column, dtype)
    if values is None or dtype in (pl.Duration, pl.Time):
        raise SadariError(
            f"{name}: the target {target} is {dtype}, which cannot be predicted by {task}; choose another "
            f"--target"
        )
    read = frame.select(values.alias(target))[target]
    if task == "regress":
        given = frame[target] if dtype != pl.String else frame.select(readings.trimmed(column))[target]
        lost = given.is_not_null() & read.is_null()
        if dtype.is_float():
            lost &= given.is_not_nan()
        if lost.any():
            row = int(lost.to_numpy().argmax())
            kind = "is infinite" if dtype != pl.String else "is no number"
            raise SadariError(
                f"{name}: the target {target} {kind} in row {first_row + row:,} ({given[row]!r}); mend the "
                f"value, or choose another --target"
            )
    return read

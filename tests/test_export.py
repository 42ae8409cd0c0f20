"""Exports: another engine gives the same predictions from the same raw rows, and the file explains itself."""

from __future__ import annotations

import datetime
import json
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
import torch
from safetensors import safe_open
from torch import nn

import sadari
from sadari.data import fetch
from sadari.data.builtin import BUILTIN, open_builtin
from sadari.data.prepare import Prepared, prepare
from sadari.errors import SadariError
from sadari.export import export, onnx_model
from sadari.export.preprocess import NO_DATE
from sadari.layers.activations import ACTIVATIONS
from sadari.losses import NUMBERS
from sadari.runs import Run

RUNGS = {
    "regress": ("mean", "line", "shallow", "deep", "deep-skip"),
    "classify": ("prior", "logistic", "shallow", "deep", "deep-skip"),
}


def mixed_rows(rows: int = 600) -> pl.DataFrame:
    """A table with all that a spec can hold: gaps, booleans of both kinds, categories, dates, moments."""
    draw = np.random.default_rng(5)
    start = datetime.datetime(2019, 1, 1, 8, 30)
    minutes = [start + datetime.timedelta(minutes=int(m)) for m in draw.integers(0, 2_000_000, rows)]
    gap = pl.Series(draw.random(rows) < 0.1)
    towns = ["서울", "서울", "Busan, south", "Daegu", *(f"village {k}" for k in range(9))]
    town = [
        f"hamlet {k}" if k < 20 else towns[place]
        for k, place in enumerate(draw.integers(0, len(towns), rows))
    ]
    return pl.DataFrame(
        {
            "size": draw.lognormal(3, 2, rows),
            "whole": draw.integers(-9, 9, rows),
            "member": np.where(draw.random(rows) < 0.4, "yes", "no"),
            "flag": draw.random(rows) < 0.5,
            "town": town,
            "grade": draw.choice(["A", "B", "C"], rows),
            "day": [moment.date() for moment in minutes],
            "moment": minutes,
            "spent": draw.lognormal(2, 1, rows),
            "kind": draw.choice(["x", "y", "z"], rows),
        }
    ).with_columns(pl.when(~gap).then(pl.col("size", "member", "town", "day")).name.keep())


@lru_cache
def table(name: str, task: str, log_target: bool = False) -> tuple[pl.DataFrame, Prepared]:
    """Raw rows and the same rows prepared, once for all rungs."""
    if name != "mixed":
        return open_builtin(name)[0], prepare(name)
    target, other = ("spent", "kind") if task == "regress" else ("kind", "spent")
    frame = mixed_rows()
    return frame, prepare(frame, target=target, task=task, drop=[other], log_target=log_target)


def disturbed(frame: pl.DataFrame, prepared: Prepared, rows: int = 1000) -> pl.DataFrame:
    """Rows drawn with replacement; of all cells, a twentieth is emptied and one never seen in training."""
    draw = np.random.default_rng(11)
    frame = frame[draw.integers(0, frame.height, rows)]
    changed = []
    for column in prepared.spec.columns:
        lot, values = pl.Series(draw.random(rows)), frame[column.name]
        strange = {"category": "처음 보는 값", "date": datetime.date(1887, 3, 1)}
        unseen: object = strange.get(column.kind)
        if column.kind == "number":
            values = values.cast(pl.Float64)
            unseen = 5 * (values.max() or 1.0)  # type: ignore[operator]
        far = (
            pl.when(lot < 0.05)
            .then(None)
            .when(lot > 0.95)
            .then(pl.lit(unseen).cast(values.dtype))
            .otherwise(values)
        )
        if column.kind == "number":
            far = pl.when(lot.is_between(0.05, 0.06)).then(float("inf")).otherwise(far)
        changed.append(far.alias(column.name))
    return frame.with_columns(changed)


def inputs(frame: pl.DataFrame, prepared: Prepared) -> dict[str, np.ndarray]:
    """Raw columns as the doc string of an exported file asks for them, each (N, 1)."""
    feed = {}
    for column in prepared.spec.columns:
        values = frame[column.name]
        if column.kind == "number":
            array = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        elif column.kind == "date":
            array = values.cast(pl.Datetime("us")).cast(pl.Int64).fill_null(NO_DATE).to_numpy()
        else:
            array = np.array(values.cast(pl.String).fill_null("").to_list(), dtype=object)
        feed[column.name] = array.reshape(-1, 1)
    return feed


def assert_exchanged(run: Run, frame: pl.DataFrame, prepared: Prepared, path: Path) -> None:
    """onnxruntime gives on raw rows what the run gives, to 1e-5 of the spread, or as a probability."""
    session = onnxruntime.InferenceSession(run.export("onnx", path))
    rows = disturbed(frame, prepared)
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, inputs(rows, prepared)), strict=True))
    spec = run.spec
    ours = run.predict(rows, probabilities=spec.classes is not None)
    if spec.classes is None:
        expected = ours["prediction"].to_numpy()
        bound = 1e-5 * np.maximum(spec.target_scale, np.abs(expected))
        assert found["prediction"].shape == (1000, 1) and found["prediction"].dtype == np.float64
        assert (np.abs(found["prediction"][:, 0] - expected) <= bound).all()
        return
    expected = ours.drop("prediction").to_numpy()
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    first, second = np.sort(expected, axis=1)[:, -1], np.sort(expected, axis=1)[:, -2]
    clear = first - second > 2e-5  # where two classes tie, either label is right
    assert (found["label"][clear] == ours["prediction"].to_numpy()[clear]).all()


def test_the_mixed_table_has_everything_that_a_spec_can_hold() -> None:
    columns = {column.name: column for column in table("mixed", "regress")[1].spec.columns}
    assert (
        columns["town"].rare
        and columns["town"].missing
        and not (columns["grade"].rare or columns["grade"].missing)
    )
    assert columns["moment"].clock and not columns["day"].clock and columns["day"].missing
    assert columns["member"].kind == columns["flag"].kind == "boolean" and columns["member"].missing
    assert columns["size"].missing and not columns["whole"].missing


def cases() -> list:
    here = [entry for entry in BUILTIN.values() if entry.kind == "table" and entry.read and not entry.fetched]
    names = {entry.name: entry.task for entry in here}
    tables = [*names.items(), ("mixed", "regress"), ("mixed", "classify")]
    return [
        pytest.param(rung, name, task, marks=pytest.mark.proof(rung, "exchanged"), id=f"{name}-{task}-{rung}")
        for name, task in tables
        for rung in RUNGS[task]
    ]


@pytest.mark.parametrize(("rung", "name", "task"), cases())
def test_onnxruntime_agrees_on_every_table_and_rung(rung: str, name: str, task: str, tmp_path: Path) -> None:
    frame, prepared = table(name, task)
    run = sadari.fit(rung, name, prepared=prepared, out=tmp_path / "run", budget="10steps", model=small(rung))
    assert_exchanged(run, frame, prepared, tmp_path / "model.onnx")


def small(rung: str) -> dict[str, int]:
    return {"width": 12} if rung in ("shallow", "deep", "deep-skip") else {}


def test_onnxruntime_agrees_on_diamonds(tmp_path: Path) -> None:
    try:
        fetch.cached("diamonds")
    except SadariError as error:
        pytest.skip(str(error))  # test_builtin.py fetches it where CI is set
    frame, prepared = table("diamonds", "regress")
    for rung in ("line", "deep-skip"):
        run = sadari.fit(rung, "diamonds", prepared=prepared, out=tmp_path / rung, budget="10steps")
        assert_exchanged(run, frame, prepared, tmp_path / "model.onnx")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_translated(activation: str, tmp_path: Path) -> None:
    frame, prepared = table("mixed", "classify")
    settings = {"width": 12, "activation": activation, "dropout": 0.3}
    run = sadari.fit(
        "deep-skip", "mixed", prepared=prepared, out=tmp_path / "run", budget="10steps", model=settings
    )
    assert_exchanged(run, frame, prepared, tmp_path / "model.onnx")


@pytest.mark.parametrize("loss", NUMBERS)
@pytest.mark.parametrize("log_target", [False, True])
def test_every_loss_predicts_the_same(loss: str, log_target: bool, tmp_path: Path) -> None:
    frame, prepared = table("mixed", "regress", log_target)
    if loss == "poisson":  # its targets are counts, and the model space of this table is not
        run = sadari.fit("shallow", "mixed", prepared=prepared, out=tmp_path / "run", budget="10steps")
        run.task.loss = sadari.losses.make_loss("poisson")
    else:
        run = sadari.fit(
            "shallow", "mixed", prepared=prepared, out=tmp_path / "run", budget="10steps", loss=loss
        )
    assert_exchanged(run, frame, prepared, tmp_path / "model.onnx")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    _, prepared = table("mixed", "classify")
    return sadari.fit("shallow", "mixed", prepared=prepared, out=tmp_path / "run", budget="5steps")


def test_the_file_explains_itself(run: Run) -> None:
    model = onnx.load(run.export())
    for words in (
        "Predicts kind with a Sadari run: rung shallow, task classify",
        "- size: double",
        '- town: string without space around it; "" where it is missing',
        '- member: string, "yes" or "no"',
        f"- day: int64, microseconds since 1970-01-01 00:00 UTC; {NO_DATE} where it is missing",
        "- label: string [N], the most probable kind",
        "Classes, in the order of the probabilities: x, y, z",
    ):
        assert words in model.doc_string
    facts = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(facts["classes"]) == ["x", "y", "z"] and facts["rung"] == "shallow"
    assert set(json.loads(facts["versions"])) >= {"sadari", "torch"}
    assert [column.name for column in model.graph.input] == [column.name for column in run.spec.columns]


def test_a_column_called_as_an_output_keeps_its_name(tmp_path: Path) -> None:
    frame = mixed_rows().select("kind", pl.col("size").alias("label"), pl.col("town").alias("probabilities"))
    prepared = prepare(frame, target="kind", task="classify")
    run = sadari.fit("logistic", "odd", prepared=prepared, out=tmp_path / "run")
    names = [output.name for output in onnx_model(run).graph.output]
    assert names == ["label_", "probabilities_"]
    onnxruntime.InferenceSession(run.export("onnx", tmp_path)).run(None, inputs(frame.head(5), prepared))


def test_safetensors_carries_weights_and_what_they_mean(run: Run, tmp_path: Path) -> None:
    path = export(run, "safetensors", tmp_path / "weights")
    assert path == tmp_path / "weights" / "model.safetensors"
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = file.metadata()
    assert weights.keys() == run.model.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in run.model.state_dict().items())
    assert json.loads(about["config"])["rung"] == "shallow" and json.loads(about["spec"])["target"] == "kind"


def test_a_file_or_a_folder_may_be_named(run: Run, tmp_path: Path) -> None:
    assert run.export() == run.path / "model.onnx"
    assert run.export("onnx", tmp_path / "mine.onnx") == tmp_path / "mine.onnx"
    assert run.export("onnx", tmp_path) == tmp_path / "model.onnx"


def test_an_unknown_format_is_refused(run: Run) -> None:
    with pytest.raises(SadariError, match="--to 'pickle' is no format; choose one of: onnx, safetensors"):
        export(run, "pickle")


def test_a_missing_package_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        SadariError, match=r"needs the package onnx; install it with: pip install 'sadari\[onnx\]'"
    ):
        export(run)


def test_a_file_that_cannot_be_written_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SadariError, match=r"cannot write .*model.onnx"):
        export(run, "onnx", tmp_path / "file" / "model.onnx")


class _Odd(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.odd, self.gelu = how, nn.Softplus(), nn.GELU("tanh")

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        ways = {
            "module": self.odd,
            "function": torch.cumsum,
            "index": lambda x: x[0],
            "gelu": self.gelu,
        }
        return ways[self.how](features, 1) if self.how == "function" else ways[self.how](features)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("module", "its model uses softplus, which has no translation yet"),
        ("function", "its model uses cumsum, which has no translation yet"),
        ("index", r"\[0\] has no translation yet"),
        ("gelu", "gelu in its tanh form has no translation to ONNX yet"),
    ],
)
def test_what_has_no_translation_is_never_guessed(how: str, message: str, run: Run) -> None:
    run.model = _Odd(how)
    with pytest.raises(SadariError, match=message):
        onnx_model(run)

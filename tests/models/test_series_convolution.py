"""Convolution over a series: the authors' network for mnist1d, filters that look everywhere, counts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import polars.testing
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from sadari.climbing import climb
from sadari.data.prepare import prepare
from sadari.errors import SadariError
from sadari.fitting import fit, tensors
from sadari.inspection import look, views_for
from sadari.losses import make_loss
from sadari.metrics import METRICS
from sadari.models.deep import Deep
from sadari.models.series_convolution import SeriesConvolution, SeriesConvolutionConfig
from sadari.runs import Run
from sadari.tasks import TableTask
from sadari.train import TrainConfig, train

STEPS = 400  # of the claim


class Authors(nn.Module):
    """The convolutional network of greydanus/mnist1d, as its paper describes it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(1, 25, 5, stride=2, padding=1)
        self.conv2 = nn.Conv1d(25, 25, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(25, 25, 3, stride=2, padding=1)
        self.linear = nn.Linear(125, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(x.view(-1, 1, x.shape[-1])).relu()
        h = self.conv3(self.conv2(h).relu()).relu()
        return self.linear(h.view(h.shape[0], -1))


@pytest.mark.proof("convolution", "parity")
def test_is_the_authors_network() -> None:
    """Answers and gradients of both with the same weights."""
    ours, theirs = SeriesConvolution(SeriesConvolutionConfig(), 40, 10).eval(), Authors()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    x = torch.randn(6, 40)
    torch.testing.assert_close(ours(x), theirs(x))
    for model in (ours, theirs):
        F.cross_entropy(model(x), torch.arange(6)).backward()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    assert ours.parameter_count(ours.config, 40, 10) == sum(p.numel() for p in theirs.parameters()) == 5210


@given(
    inputs=st.integers(1, 60),
    outputs=st.integers(1, 4),
    layers=st.integers(1, 4),
    kernel=st.integers(1, 7),
    then=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
)
def test_counts_are_those_of_its_tensors_and_its_products(
    inputs: int, outputs: int, layers: int, kernel: int, then: int, stride: int, padding: int
) -> None:
    config = SeriesConvolutionConfig(3, layers, kernel, then, stride, padding)
    try:
        config.lengths(inputs)
    except SadariError as error:
        assert f"a series of {inputs} places is too short" in str(error)
        return
    model = SeriesConvolution(config, inputs, outputs)
    assert sum(p.numel() for p in model.parameters()) == model.parameter_count(config, inputs, outputs)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert model(torch.randn(1, inputs)).shape == (1, outputs)
    assert counter.get_total_flops() == 2 * model.macs(config, inputs, outputs)


@pytest.mark.proof("convolution", "inside")
def test_a_shape_is_found_wherever_it_stands() -> None:
    """Moved by one stride of all layers, a shape amid zeros moves what the last layer finds by one place."""
    config = SeriesConvolutionConfig(channels=4, layers=2, padding=1)
    model = SeriesConvolution(config, 60, 1).eval()
    x = torch.zeros(1, 60)
    x[0, 20:28] = torch.randn(8)
    seen: list[Tensor] = []
    for series in (x, x.roll(4, 1)):
        model(series, rec=lambda name, value: (name == "hidden1" and seen.append(value)) or value)
    before, after = seen
    torch.testing.assert_close(after[..., 2:-2], before.roll(1, -1)[..., 2:-2])


@pytest.mark.proof("convolution", "inside")
def test_every_place_counts_and_names_are_given() -> None:
    torch.manual_seed(0)
    model = SeriesConvolution(SeriesConvolutionConfig(), 40, 10).eval()
    x, seen = torch.randn(3, 40, requires_grad=True), {}
    output = model(x, rec=lambda name, value: seen.setdefault(name, value))
    output.square().sum().backward()
    assert x.grad is not None and (x.grad[:, :39] != 0).all()  # the stride leaves the last place out
    assert list(seen) == [
        *("pre0", "hidden0", "pre1", "hidden1", "pre2", "hidden2"),
        *("features", "output"),
    ]
    torch.testing.assert_close(model.output(seen["features"]), output)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_settings_that_no_network_can_have_are_refused() -> None:
    with pytest.raises(SadariError, match="channels 0: at least 1 is needed; use channels=25"):
        SeriesConvolutionConfig(channels=0)
    with pytest.raises(SadariError, match="padding -1: zeros are added, never taken; use padding=1"):
        SeriesConvolutionConfig(padding=-1)
    with pytest.raises(SadariError, match=r"dropout 1.0: the share dropped lies in \[0, 1\)"):
        SeriesConvolutionConfig(dropout=1.0)
    with pytest.raises(
        SadariError, match="2 places is too short: layer 1 of 3 has 2 left and sees 5 at once"
    ):
        SeriesConvolution(SeriesConvolutionConfig(), 2, 1)


# On data.


def waves(rows: int = 240, seed: int = 0) -> pl.DataFrame:
    """A bump or a dip somewhere in noise: what it is tells the class, where it stands does not."""
    draw = np.random.default_rng(seed)
    places, kinds = draw.integers(4, 20, rows), draw.integers(0, 2, rows)
    away = np.arange(24) - places[:, None]
    series = draw.normal(0, 0.2, (rows, 24)) + np.where(kinds, 1, -1)[:, None] * np.exp(-(away**2) / 2)
    frame = pl.DataFrame(series, schema=[f"t{t:02}" for t in range(24)])
    return frame.with_columns(pl.Series("kind", np.where(kinds, "bump", "dip")))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("series")
    waves().write_csv(folder / "waves.csv")
    return fit("convolution", folder / "waves.csv", kind="series", budget="150steps", out=folder / "run")


@pytest.mark.proof("convolution", "trains")
def test_fits_a_series_and_answers_raw_rows_from_its_folder_alone(fitted: Run, tmp_path: Path) -> None:
    """Train, save, open elsewhere: the same answers bit for bit, and far better than the ground."""
    again = Run.load(shutil.copytree(fitted.path, tmp_path / "옮긴 곳"))
    assert (again.rung, again.kind) == ("convolution", "series")
    rows = waves(seed=1)
    told = again.predict(rows, probabilities=True)
    pl.testing.assert_frame_equal(told, fitted.predict(rows, probabilities=True))
    assert (told["prediction"] == rows["kind"]).mean() > 0.9
    count = SeriesConvolution.parameter_count(again.model.config, 24, 1)  # type: ignore[arg-type]
    assert sum(p.numel() for p in again.model.parameters()) == count


@pytest.mark.proof("convolution", "trains")
def test_numbers_are_foretold_too(tmp_path: Path) -> None:
    """The place of a bump, which a filter finds and the last line reads off."""
    draw = np.random.default_rng(0)
    places = draw.uniform(4, 20, 400)
    series = np.exp(-((np.arange(24) - places[:, None]) ** 2) / 2)
    frame = pl.DataFrame(series, schema=[f"t{t:02}" for t in range(24)])
    frame = frame.with_columns(pl.Series("place", places))
    run = fit("convolution", frame, target="place", kind="series", budget="200steps", out=tmp_path / "run")
    error = run.predict(frame)["prediction"].to_numpy() - places
    assert np.sqrt(np.square(error).mean()) < 0.2 * places.std()


@pytest.mark.proof("convolution", "inside")
@pytest.mark.parametrize("view", ["confusion", "calibration"])
def test_its_answers_can_be_looked_into(fitted: Run, view: str) -> None:
    assert view in views_for("classify", "convolution", "series")
    seen = look(fitted, view)
    assert seen.name == view and seen.arrays and "convolution" in seen.title[0]


@pytest.mark.proof("convolution", "climbed")
def test_is_climbed_beside_the_rung_below_with_score_interval_price_and_verdict(tmp_path: Path) -> None:
    waves().write_csv(tmp_path / "waves.csv")
    made = climb(
        tmp_path / "waves.csv", kind="series", rungs=["deep", "convolution"], budget="40steps", starts=1,
        lang="ko", out=tmp_path / "climb",
    )  # fmt: skip
    entry = next(entry for entry in made.rungs if entry["name"] == "convolution")
    assert entry["low"] <= entry["score"] <= entry["high"] and entry["low"] < entry["high"]
    run = Run.load(made.path / entry["run"])
    test = run.data().test
    right = float((run.answers(test).argmax(1) == test.targets).mean())
    assert METRICS[made.content["metric"]["name"]].score(run.answers(test), test.targets) == pytest.approx(
        entry["score"]
    )
    assert made.content["metric"]["name"] != "accuracy" or right == pytest.approx(entry["score"])
    assert entry["parameters"] == sum(p.numel() for p in run.model.parameters()) and entry["macs"] > 0
    assert entry["bytes"] > 1000 and entry["train_seconds"] > 0 and entry["microseconds_per_example"] > 0
    assert made.verdict["reason"] and "convolution" in made.report.read_text(encoding="utf-8")


@pytest.mark.proof("convolution", "exchanged")
def test_a_file_of_its_own_answers_raw_columns(fitted: Run, tmp_path: Path) -> None:
    engine = onnxruntime.InferenceSession(fitted.export("onnx", tmp_path / "model.onnx"))
    frame = waves(seed=2)
    feed = {name: frame[name].to_numpy().reshape(-1, 1) for name in frame.columns[:-1]}
    found = engine.run(["probabilities"], feed)[0]
    expected = fitted.predict(frame, probabilities=True).drop("prediction").to_numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_reads_mnist1d_as_well_as_its_authors_report() -> None:
    """94 % in the paper (figure 4), with 4,000 training rows; here with 3,200, and early stopping on 800."""
    prepared = prepare("mnist1d", kind="series")
    torch.manual_seed(0)
    model = SeriesConvolution(SeriesConvolutionConfig(), 40, 10)
    task = TableTask("classify", make_loss("cross-entropy", classes=10))
    config = TrainConfig(**SeriesConvolution.TRAINING, epochs=60, threads=1)
    train(model, task, tensors(prepared.train), tensors(prepared.validation), config)
    test = tensors(prepared.test)
    model.eval()
    with torch.no_grad():
        right = model(test["features"]).argmax(1) == test["targets"]
    assert right.double().mean() > 0.94


@pytest.mark.proof("convolution", "claim")
def test_filters_need_places_in_their_order_and_a_dense_network_does_not() -> None:
    """The shuffle of Greydanus' section on spatial priors: that neighbours belong together is what a filter
    knows beforehand. In order it is far ahead of the dense rung below, out of order no more so.
    """
    prepared = prepare("mnist1d", kind="series")
    parts = [tensors(part) for part in (prepared.train, prepared.validation, prepared.test)]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    shuffled = [{**part, "features": part["features"][:, order].contiguous()} for part in parts]

    def right(model_class: Any, arrays: list[dict[str, Tensor]]) -> float:
        torch.manual_seed(0)
        model = model_class(model_class.Config(), 40, 10)
        task = TableTask("classify", make_loss("cross-entropy", classes=10))
        how = {**getattr(model_class, "TRAINING", {}), "budget_steps": STEPS, "evaluate_every": 100}
        train(model, task, arrays[0], arrays[1], TrainConfig(**how, threads=1))
        with torch.no_grad():
            answers = model.eval()(arrays[2]["features"]).argmax(1)
        return (answers == arrays[2]["targets"]).double().mean().item()

    filters, dense = right(SeriesConvolution, parts), right(Deep, parts)
    filters_lost, dense_lost = right(SeriesConvolution, shuffled), right(Deep, shuffled)
    assert filters > dense + 0.2
    assert filters_lost < filters - 0.2 and abs(filters_lost - dense_lost) < 0.1
    assert abs(dense - dense_lost) < 0.06

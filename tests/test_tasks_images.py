"""The task of pictures: scaled by the formula, changed in training alone, the same in blocks and at once."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

import sadari.fitting
import sadari.runs
import sadari.tasks
import sadari.tasks_images
from sadari.data.prepare import Arrays, Prepared
from sadari.data.spec import TableSpec
from sadari.data.spec_images import ImageSpec
from sadari.data.split import Split
from sadari.data.table import Table
from sadari.errors import SadariError
from sadari.losses import make_loss
from sadari.plan import peak_memory
from sadari.price import price
from sadari.runs import Run
from sadari.tasks import make_task
from sadari.tasks_images import ImageTask, Pictures
from sadari.train import SadariInterrupted, TrainConfig, train

SIDE, CLASSES = 12, ("circle", "cross", "stroke")
SPEC = ImageSpec("label", "image", CLASSES, SIDE, "crop", 3, (0.2, 0.5, 0.7), (0.1, 0.25, 0.3))
EVERYTHING: dict[str, Any] = {
    "augment": "crop,flip,colour,randaugment,erase",
    "mixup": 0.3,
    "cutmix": 1.0,
}


@dataclass(frozen=True)
class TinyConfig:
    width: int = 4


class Tiny(nn.Module):
    """A convolution with all that may go wrong in a checkpoint: running statistics, dropout."""

    Config: ClassVar = TinyConfig
    TRAINING: ClassVar = {"learning_rate": 0.02, "batch_size": 16}

    def __init__(self, config: TinyConfig, inputs: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Conv2d(inputs[0], config.width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(config.width)
        self.dropout = nn.Dropout(0.1)
        self.output = nn.Linear(config.width * 9, outputs)

    def forward(self, pictures: Tensor) -> Tensor:
        assert pictures.dtype == torch.float32 and pictures.shape[1:] == (3, SIDE, SIDE)
        assert pictures.is_contiguous(memory_format=torch.channels_last)
        hidden = self.norm(self.first(pictures)).relu()
        hidden = nn.functional.adaptive_avg_pool2d(hidden, 3).flatten(1)
        return self.output(self.dropout(hidden))

    @staticmethod
    def parameter_count(config: TinyConfig, inputs: tuple[int, int, int], outputs: int) -> int:
        return config.width * (9 * inputs[0] + 2) + outputs * (9 * config.width + 1)

    @staticmethod
    def macs(config: TinyConfig, inputs: tuple[int, int, int], outputs: int) -> int:
        channels, height, width = inputs
        return height * width * 9 * channels * config.width + 9 * config.width * outputs


class Kept(Tiny):
    """A rung that is solved: it takes the mean of the pictures it is handed."""

    def can_solve(self, loss: Any) -> bool:
        return True

    def solve(self, pictures: Any, targets: Tensor, loss: Any) -> dict[str, Any]:
        assert pictures.shape == (len(targets), 3, SIDE, SIDE) and len(pictures) == len(targets)
        parts = [pictures[start : start + 7] for start in range(0, len(pictures), 7)]
        assert torch.equal(torch.cat(parts)[[3, 1]], pictures[torch.tensor([3, 1])])
        return {"mean": torch.cat(parts).mean((0, 2, 3)).tolist()}


def tiny() -> Tiny:
    torch.manual_seed(0)
    return Tiny(TinyConfig(), SPEC.width, 3).to(memory_format=torch.channels_last)


def drawings(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Circles, crosses and strokes of any colours at any place: (N, S, S, 3) uint8, (N,)."""
    draw = np.random.default_rng(seed)
    targets = draw.integers(3, size=count)
    y, x = np.mgrid[:SIDE, :SIDE]
    pixels = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for i, target in enumerate(targets):
        row, column = draw.integers(4, SIDE - 4, size=2)
        down, across = np.abs(y - row), np.abs(x - column)
        near = (down <= 3) & (across <= 3)
        round_ = np.abs(np.hypot(down, across) - 3) < 0.8
        shape = (round_, near & ((down == 0) | (across == 0)), near & (down == 0))[target]
        pixels[i] = np.where(shape[..., None], draw.integers(150, 256, 3), draw.integers(0, 80, 3))
    return pixels, targets.astype(np.int64)


def arrays(count: int, seed: int) -> dict[str, Tensor]:
    pixels, targets = drawings(count, seed)
    return {"features": torch.from_numpy(pixels), "targets": torch.from_numpy(targets)}


def task(**settings: Any) -> ImageTask:
    made = make_task("images", "classify", make_loss("cross-entropy", classes=3), SPEC)
    assert isinstance(made, ImageTask)
    if settings:
        made.configure(TrainConfig(**settings))
    return made


# Scaling


@given(
    mean=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    deviation=st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
)
def test_pixels_become_numbers_by_the_formula(mean: list[float], deviation: list[float]) -> None:
    spec = replace(SPEC, mean=tuple(mean), deviation=tuple(deviation))
    pixels = torch.randint(256, (5, SIDE, SIDE, 3), dtype=torch.uint8)
    found = Pictures(pixels, spec)[0:5]
    by_hand = (pixels.double() / 255 - torch.tensor(mean)) / torch.tensor(deviation)
    torch.testing.assert_close(found.double(), by_hand.permute(0, 3, 1, 2), rtol=1e-5, atol=2e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_lie_together_in_memory(channels: int) -> None:
    spec = replace(SPEC, channels=channels, mean=(0.5,) * channels, deviation=(0.2,) * channels)
    made = ImageTask("classify", make_loss("cross-entropy", classes=3), spec)
    found = made.tensors(torch.zeros(2, SIDE, SIDE, channels, dtype=torch.uint8))
    assert made.inputs == found.shape[1:] == (channels, SIDE, SIDE)
    assert found.stride() == (SIDE * SIDE * channels, 1, SIDE * channels, channels)


def test_what_was_scaled_for_an_answer_serves_training_too() -> None:
    spec = replace(SPEC, mean=(0.11, 0.22, 0.33))  # not seen before: what is kept of it is made here
    asked = ImageTask("classify", make_loss("cross-entropy", classes=3), spec)
    batch = arrays(8, 1)
    with torch.inference_mode():
        asked.outputs(tiny().eval(), batch["features"])
    assert asked.backward(tiny().train(), batch)["loss"].isfinite()


# Evaluation


def test_answers_in_blocks_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, asked = tiny().eval(), arrays(101, 1), task()
    whole = asked.outputs(model, data["features"])
    score = asked.score(model, data)
    assert len(list(asked.blocks(data["features"]))) == 1
    monkeypatch.setattr(sadari.tasks_images, "PIXELS", 10 * SIDE**2)
    sizes = [len(block) for _, block in asked.blocks(data["features"])]
    assert sizes == [10] * 10 + [1]
    torch.testing.assert_close(asked.outputs(model, data["features"]), whole)
    for name, value in asked.score(model, data).items():
        torch.testing.assert_close(value, score[name])
    plain = model(asked.tensors(data["features"]))
    loss = nn.functional.cross_entropy(plain, data["targets"])
    assert score["loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    assert score["error"].item() == pytest.approx(float((plain.argmax(1) != data["targets"]).double().mean()))


def test_a_picture_larger_than_a_block_is_answered_alone() -> None:
    large = replace(SPEC, size=512)
    asked = ImageTask("classify", make_loss("cross-entropy", classes=3), large)
    assert asked.together == 1


def test_a_costly_model_is_scored_on_pictures_evenly_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, asked = tiny(), arrays(100, 1), task()
    monkeypatch.setattr(sadari.tasks_images, "SCORED_MACS", 1)
    monkeypatch.setattr(sadari.tasks_images, "SCORED_PICTURES", 25)
    some = {name: value[::4] for name, value in data.items()}
    for name, value in asked.score(model, data).items():
        torch.testing.assert_close(value, asked.score(model, some)[name])
    assert not torch.equal(asked.score(model, data)["loss"], asked.evaluate(model, data))


# Training


def test_pictures_are_changed_in_training_alone() -> None:
    asked, batch = task(**EVERYTHING), arrays(32, 1)
    model = tiny().eval()
    state = torch.get_rng_state()
    losses = [asked(model, batch)["loss"].item() for _ in range(2)]
    assert losses[0] == losses[1] == pytest.approx(asked.evaluate(model, batch).item(), rel=1e-5)
    assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn
    model.train()
    assert asked(model, batch)["loss"].item() != losses[0]


def test_a_task_that_was_told_nothing_changes_nothing() -> None:
    batch = arrays(8, 1)
    drawn, mixed = task().drawn(batch["features"], batch["targets"])
    assert drawn is batch["features"] and mixed.share == 1.0
    usual = task(augment="auto").drawn(batch["features"], batch["targets"])[0]
    assert not torch.equal(usual, drawn)
    assert [change.__name__ for change in task(augment="auto").changes] == ["crop"]


@pytest.mark.parametrize("blend", ["mixup", "cutmix"])
def test_a_blended_loss_is_that_of_both_classes_in_their_shares(blend: str) -> None:
    asked, batch = task(augment="none", **{blend: 1.0}), arrays(24, 3)
    asked.loss.smoothing = 0.1
    model = tiny().train()
    model.dropout.p = 0.0
    state = torch.get_rng_state()
    losses = asked.backward(model, batch)
    torch.set_rng_state(state)
    blended, mixed = asked.drawn(batch["features"], batch["targets"])
    assert 0 < mixed.share < 1
    own, other = (nn.functional.one_hot(classes, 3) for classes in (mixed.targets, mixed.others))
    soft = mixed.share * own + (1 - mixed.share) * other
    torch.testing.assert_close(soft.sum(1), torch.ones(24))  # shares of one example
    logits = model(asked.tensors(blended))
    by_hand = nn.functional.cross_entropy(logits, soft, label_smoothing=0.1)
    assert losses["loss"].item() == pytest.approx(by_hand.item(), rel=1e-5)
    gradient = model.output.weight.grad.clone()
    model.zero_grad()
    by_hand.backward()
    torch.testing.assert_close(gradient, model.output.weight.grad)


def test_of_two_blends_each_comes_about_as_often() -> None:
    asked, batch = task(augment="none", mixup=1.0, cutmix=1.0), arrays(4, 3)
    torch.manual_seed(0)
    kinds = [asked.drawn(batch["features"], batch["targets"])[0].dtype for _ in range(200)]
    assert 70 < kinds.count(torch.uint8) < 130  # mixup's are no whole numbers


def test_memory_is_counted_on_shapes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = []
    real = Tiny.forward
    monkeypatch.setattr(
        Tiny, "forward", lambda self, pictures: devices.append(pictures.device.type) or real(self, pictures)
    )
    config = TrainConfig(batch_size=32, **EVERYTHING)
    counted = peak_memory(tiny(), task(**EVERYTHING), arrays(64, 1), arrays(9, 2), config)
    floats = 32 * SIDE**2 * (3 + 3 * 4) * 4  # a batch, and what its convolution, norm and bend make of it
    assert set(devices) == {"meta"} and floats < counted < 20 * floats


class StopAt:
    """A watcher that presses Ctrl-C at one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, record: dict[str, Any]) -> None:
        if record["step"] == self.step:
            raise KeyboardInterrupt


def log_of(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def test_an_interrupted_training_goes_on_with_the_same_pictures(tmp_path: Path) -> None:
    config = TrainConfig(
        budget_steps=24,
        batch_size=16,
        learning_rate=0.02,
        evaluate_every=4,
        log_every=1,
        threads=1,
        **EVERYTHING,
    )
    learn, check = arrays(90, 1), arrays(30, 2)
    whole = tiny()
    straight = train(whole, task(), learn, check, config, folder=tmp_path / "whole")
    for stops in ([1], [7], [4, 15, 23]):
        folder = tmp_path / str(stops)
        for step in stops:
            with pytest.raises(SadariInterrupted, match=f"stopped at step {step} of 24"):
                train(tiny(), task(), learn, check, config, folder=folder, watchers=[StopAt(step)])
        resumed = tiny()
        trained = train(resumed, task(), learn, check, config, folder=folder)
        for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
            assert torch.equal(one, other), name
        assert torch.equal(trained.best_score, straight.best_score)
        assert log_of(folder) == log_of(tmp_path / "whole")


# End to end


@pytest.fixture
def prepared() -> Prepared:
    """Drawings as a prepared table of PNGs."""
    pixels, targets = drawings(200, 5)
    files = []
    for picture in pixels:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        files.append(file.getvalue())
    frame = pl.DataFrame({"image": files, "label": [CLASSES[k] for k in targets]})
    table = Table("drawings", "", frame.lazy(), dict(frame.schema), 200, "0" * 64, False)
    split = Split(np.arange(120), np.arange(120, 160), np.arange(160, 200))
    parts = [Arrays(pixels[rows], targets[rows]) for rows in (split.train, split.validation, split.test)]
    return Prepared(table, "classify", SPEC, split, *parts, (), "images")  # type: ignore[arg-type]


@pytest.fixture
def stands(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], None]:
    """Puts a network on the ladder in place of what is looked for."""

    def put(network: type) -> None:
        found = SimpleNamespace(load=lambda: network)
        for module in (sadari.fitting, sadari.runs, sadari.tasks):
            monkeypatch.setattr(module, "find_rung", lambda *_: found)

    return put


def test_a_run_of_pictures_from_fit_to_price(prepared: Prepared, stands: Callable[[type], None]) -> None:
    stands(Tiny)
    run = sadari.fitting.fit("tiny", "drawings", prepared=prepared, budget="250steps", out="run")
    again = Run.load("run")
    assert isinstance(again.spec, ImageSpec) and isinstance(again.task, ImageTask)
    answers = again.answers(prepared.test)
    np.testing.assert_array_equal(answers, run.answers(prepared.test))
    assert answers.shape == (40, 3) and (answers.argmax(1) == prepared.test.targets).mean() > 0.7
    frame = prepared.table.frame.collect()[160:]
    named = again.predict(frame, probabilities=True)
    assert named["prediction"].to_list() == [CLASSES[k] for k in answers.argmax(1)]
    np.testing.assert_allclose(named["probability of cross"], answers[:, 1], rtol=1e-6)
    costs = price(again, prepared.validation)
    assert costs.parameters == Tiny.parameter_count(TinyConfig(), SPEC.width, 3)
    assert costs.macs == Tiny.macs(TinyConfig(), SPEC.width, 3)
    assert costs.microseconds_per_example > 0 and costs.microseconds_at_256 > 0


def test_a_solved_rung_reads_scaled_pictures(prepared: Prepared, stands: Callable[[type], None]) -> None:
    stands(Kept)
    run = sadari.fitting.fit("kept", "drawings", prepared=prepared, out="run")
    assert run.result["solved"] and not Path("run", "log.jsonl").exists()
    pixels = prepared.train.features.reshape(-1, 3).mean(0) / 255
    np.testing.assert_allclose(
        run.result["mean"], (pixels - SPEC.mean) / np.array(SPEC.deviation), rtol=1e-4, atol=1e-4
    )


def test_a_change_that_there_is_not_leaves_no_folder(
    prepared: Prepared, stands: Callable[[type], None]
) -> None:
    stands(Tiny)
    with pytest.raises(SadariError, match=r"--augment 'blur': there is no change 'blur'"):
        sadari.fitting.fit("tiny", "drawings", prepared=prepared, out="run", train={"augment": "blur"})
    assert not Path("run").exists()


@pytest.mark.parametrize(("name", "value"), [("augment", "crop"), ("mixup", 0.2), ("cutmix", 1.0)])
def test_only_pictures_are_changed(name: str, value: Any) -> None:
    with pytest.raises(SadariError, match=rf"--{name} {value} changes pictures, and this data is table"):
        sadari.fitting.fit("line", "diabetes", train={name: value})


def test_a_table_has_no_task_of_pictures() -> None:
    spec = TableSpec.__new__(TableSpec)
    assert not isinstance(make_task("table", "classify", make_loss("binary", classes=2), spec), ImageTask)

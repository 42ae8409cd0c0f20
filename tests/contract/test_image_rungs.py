"""What every rung that reads pictures promises: one suite over the ladder's own table."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import polars.testing
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sadari.data.builtin import open_builtin
from sadari.data.prepare import Prepared, prepare
from sadari.data.spec_images import ImageSpec
from sadari.errors import SadariError
from sadari.fitting import fit, seen, solve, tensors
from sadari.ladder import Rung, ladder_for
from sadari.layers.dense import unrecorded
from sadari.losses import make_loss
from sadari.plan import plan
from sadari.runs import Run
from sadari.tasks import build, macs_of, make_task
from sadari.tasks_images import ImageTask, normalised
from sadari.train import SadariInterrupted, TrainConfig, train

LADDER = ladder_for("classify", "images")
RUNGS = list(LADDER.here)
GROUND, STORED = "prior", ("prior", "nearest")  # nothing is learnt; nothing is weighed
SEARCHES = ("nearest", "retrieval")
PRETRAINED = ("zero-shot", "retrieval", "probe", "fine-tune")
TRAINED = [rung for rung in RUNGS if rung.name not in (*STORED, "zero-shot", "retrieval", "probe")]
SIDE, CLASSES = 20, ("a", "b", "c")
EVERY = pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
EVERY_NETWORK = pytest.mark.parametrize(
    "rung", [rung for rung in RUNGS if rung.name not in (*STORED, *SEARCHES)], ids=lambda rung: rung.name
)
EVERY_TRAINED = pytest.mark.parametrize("rung", TRAINED, ids=lambda rung: rung.name)
LOSS = make_loss("cross-entropy", classes=len(CLASSES))
QUICK = TrainConfig(
    budget_steps=6, batch_size=8, learning_rate=0.01, evaluate_every=2, log_every=1, patience=0, threads=1
)


def shape_of(rung: Rung, channels: int = 3, side: int = SIDE) -> tuple[int, int, int]:
    """Of the pictures that a rung is shown: an eye from elsewhere has a size of its own."""
    model_class = rung.load()
    if rung.name not in PRETRAINED:
        return channels, side, side
    own = model_class.pictures(model_class.TINY, side)
    return own["channels"], own["size"], own["size"]


def tiny(rung: Rung, shape: tuple[int, int, int] | None = None, seed: int = 0) -> Any:
    settings = asdict(rung.load().TINY)
    return build(rung.name, "classify", settings, shape or shape_of(rung), LOSS, seed, "images")


def spec_of(shape: tuple[int, int, int]) -> ImageSpec:
    channels, _, side = shape
    return ImageSpec("label", "image", CLASSES, side, "crop", channels, (0.5,) * channels, (0.25,) * channels)


def task_of(shape: tuple[int, int, int]) -> ImageTask:
    asked = make_task("images", "classify", LOSS, spec_of(shape))
    assert isinstance(asked, ImageTask)
    return asked


def pictures(shape: tuple[int, int, int], count: int = 9, seed: int = 1) -> dict[str, Tensor]:
    """Noise under a bar that stands somewhere else for each class."""
    channels, _, side = shape
    draw = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % len(CLASSES)
    pixels = torch.randint(0, 128, (count, side, side, channels), generator=draw)
    wide = side // len(CLASSES)
    for picture, target in zip(pixels, targets.tolist(), strict=True):
        picture[:, target * wide : (target + 1) * wide] += 127
    return {"features": pixels.to(torch.uint8), "targets": targets}


def solved(rung: Rung) -> Any:
    """A tiny model, one that searches with pictures to look in."""
    model, shape = tiny(rung), shape_of(rung)
    if rung.name in SEARCHES:
        solve(model, pictures(shape, 12, seed=5), LOSS, spec_of(shape))
    return model.eval()


@EVERY
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 17), (3, 64, 64)], ids=str)
def test_parameters_and_arithmetic_are_those_that_were_promised(
    rung: Rung, shape: tuple[int, int, int]
) -> None:
    """Torch counts two operations for each multiply-add, one by one as it meets them."""
    shape = shape_of(rung, shape[0], shape[2])
    model_class, model = rung.load(), tiny(rung, shape).eval()
    counted = sum(parameter.numel() for parameter in model.parameters())
    promised = model_class.parameter_count(model_class.TINY, shape, LOSS.outputs)
    assert promised == (None if rung.name in SEARCHES else counted)
    macs = macs_of(model_class, model_class.TINY, shape, LOSS.outputs)
    if rung.name in STORED:
        assert macs == 0
        return
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        asked = model.features if rung.name == "retrieval" else model  # how long it searches, pictures decide
        asked(torch.zeros(1, *shape), rec=unrecorded)  # attention in the open, where each product is seen
    assert counter.get_total_flops() == 2 * macs > 0


@EVERY
def test_defaults_build_from_the_size_alone(rung: Rung) -> None:
    model_class = rung.load()
    config = model_class.TINY if rung.name in PRETRAINED else model_class.Config()  # which want their weights
    assert type(config).__dataclass_params__.frozen
    for field in fields(config):
        assert replace(config, **{field.name: getattr(config, field.name)}) == config
    with torch.device("meta"):
        for side in (28, 96, 224):
            shape = shape_of(rung, side=side)
            made = model_class(config, shape, LOSS.outputs)
            counted = sum(parameter.numel() for parameter in made.parameters())
            promised = model_class.parameter_count(config, shape, LOSS.outputs)
            assert promised == (None if rung.name in SEARCHES else counted)


@EVERY
def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator_alone(rung: Rung) -> None:
    before = torch.random.get_rng_state()
    first, second = tiny(rung).state_dict(), tiny(rung).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(before, torch.random.get_rng_state())
    other = tiny(rung, seed=1).state_dict()
    same = all(torch.equal(first[name], other[name]) for name in first)
    assert same == (rung.name in STORED)


@EVERY
def test_a_picture_is_answered_the_same_whatever_stands_beside_it(rung: Rung) -> None:
    model, shape = solved(rung), shape_of(rung)
    shown = normalised(pictures(shape)["features"], spec_of(shape))
    with torch.inference_mode():
        together = model(shown)
        alone = torch.cat([model(picture.unsqueeze(0)) for picture in shown])
    assert together.shape == (9, LOSS.outputs)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@EVERY
def test_recording_changes_nothing_and_names_features_and_output(rung: Rung) -> None:
    model, shape, named = solved(rung), shape_of(rung), dict[str, Tensor]()

    def record(name: str, value: Tensor) -> Tensor:
        named[name] = value
        return value

    shown = normalised(pictures(shape)["features"], spec_of(shape))
    with torch.inference_mode():
        output = model(shown, rec=record)
        torch.testing.assert_close(output, model(shown), rtol=1e-5, atol=1e-5)
        assert torch.equal(named["output"], output)
        if rung.name != GROUND:
            features = model.features(shown)
            assert features.ndim == 2 and len(features) == 9
            torch.testing.assert_close(named["features"], features, rtol=1e-5, atol=1e-5)


@EVERY_NETWORK
def test_every_parameter_that_learns_gets_a_gradient(rung: Rung) -> None:
    shape = shape_of(rung)
    model = tiny(rung).train()
    task_of(shape).backward(model, pictures(shape))
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert learning
    for name, parameter in learning.items():
        assert parameter.grad is not None and bool((parameter.grad != 0).any()), name


@EVERY_TRAINED
def test_learns_some_pictures_by_heart(rung: Rung) -> None:
    shape = shape_of(rung)
    model, asked, batch = tiny(rung).train(), task_of(shape), pictures(shape, 12)
    before = asked.backward(model, batch)["loss"].item()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for _ in range(80):
        loss = asked.backward(model, batch)["loss"].item()
        optimizer.step()
    assert loss < 0.35 * before


@EVERY_TRAINED
def test_interrupted_is_uninterrupted(rung: Rung, tmp_path: Path) -> None:
    """Weights, running statistics and the log, with pictures that are changed by chance in between."""
    shape, config = shape_of(rung), replace(QUICK, augment="crop,flip,erase", mixup=0.2)
    learn, check = pictures(shape, 30), pictures(shape, 9, seed=2)

    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 4:
            raise KeyboardInterrupt

    def go(folder: Path, watchers: list[Any]) -> Any:
        model = tiny(rung)
        train(model, task_of(shape), learn, check, config, folder=folder, watchers=watchers)
        return model

    whole = go(tmp_path / "whole", [])
    with pytest.raises(SadariInterrupted, match="stopped at step 4 of 6"):
        go(tmp_path / "again", [stop])
    resumed = go(tmp_path / "again", [])
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "again")]
    one, other = ([{**json.loads(line), "seconds": 0} for line in log] for log in logs)
    assert one == other and one[-1]["step"] == 6


@EVERY_TRAINED
def test_what_training_takes_is_told_before_it(rung: Rung) -> None:
    shape = shape_of(rung)
    model, learn, check = tiny(rung), pictures(shape, 30), pictures(shape, 9, seed=2)
    told = plan(model, task_of(shape), learn, check, QUICK)
    assert told.fits and told.steps == 6 and told.seconds > 0 and told.peak_bytes > 0
    assert told.parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)
    forward = macs_of(type(model), model.config, shape, LOSS.outputs)
    assert told.macs > 2 * forward  # forward and backward, of a batch


# Whole fits.


@pytest.fixture(scope="module")
def digits() -> Prepared:
    return prepare("digits-images")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learnt to see from other pictures: the other half of the digits, turned round."""
    frame, _ = open_builtin("digits-images")
    half = frame.filter(pl.int_range(pl.len()) % 2 == 0)
    model = {"variant": "resnet20", "width": 0.25}
    folder = tmp_path_factory.mktemp("elsewhere") / "run"
    return fit("resnet", half, target="digit", kind="images", out=folder, budget="30steps", model=model).path


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two towers that have learnt elsewhere which words belong to which digit: from the other half, again."""
    frame, _ = open_builtin("digits-images")
    half = frame.filter(pl.int_range(pl.len()) % 2 == 0)
    said = half.select("image", pl.concat_list(pl.col("digit").cast(pl.String)).alias("caption"))
    folder = tmp_path_factory.mktemp("towers") / "run"
    model = {"dimension": 16}
    return fit("bag-of-words", said, kind="captions", out=folder, budget="60steps", model=model).path


def fitted(rung: Rung, digits: Prepared, out: Path, elsewhere: Path, towers: Path) -> Run:
    """A fit of seconds: few steps of a small network, at a rate for few steps."""
    settings: dict[str, Any] = {
        "nearest": {"neighbours": 3},
        "logistic": {},
        "shallow": {"width": 32},
        "alexnet": {"width": 0.5, "dropout": 0.0},
        "vgg": {"width": 0.25, "dropout": 0.0},
        "resnet": {"width": 0.5},
        "vit": {"layers": 2, "width": 32, "heads": 2, "drop_path": 0.0},
        "distilled": {"width": 0.5},
    }.get(rung.name, {})
    more: dict[str, Any] = {}
    if rung.name in PRETRAINED:
        settings = {"weights": str(elsewhere), "side": 8}
    if rung.name == "zero-shot":
        settings = {"towers": str(towers)}
    if rung.name == "distilled":
        more = {"teacher": elsewhere}
    learning = {"learning_rate": 0.003, "augment": "none"}
    return fit(
        rung.name, "digits-images", prepared=digits, out=out, budget="60steps", model=settings,
        train=learning if rung in TRAINED else None, **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    "rung", [pytest.param(rung, marks=pytest.mark.proof(rung.name, "trains"), id=rung.name) for rung in RUNGS]
)
def test_fits_and_answers_from_its_folder_alone(
    rung: Rung, digits: Prepared, tmp_path: Path, elsewhere: Path, towers: Path
) -> None:
    """Train, save, open elsewhere: the same answers bit for bit, from files too; better than the ground."""
    run = fitted(rung, digits, tmp_path / "run", elsewhere, towers)
    names = {path.name for path in run.path.iterdir()}
    assert {"config.json", "spec.json", "weights.safetensors", "result.json"} <= names
    assert "checkpoint" not in names
    config = json.loads((run.path / "config.json").read_text())
    assert (config["rung"], config["task"], config["kind"]) == (rung.name, "classify", "images")
    again = Run.load(run.path.rename(tmp_path / "옮긴 곳"))
    part: Any = again.data().test if rung.name not in PRETRAINED else resized_test(again, digits)
    answers = again.answers(part)
    assert np.array_equal(run.answers(part), answers)
    rows = digits.table.frame.collect()[digits.split.test]
    told = again.predict(rows, probabilities=True)
    pl.testing.assert_frame_equal(told, run.predict(rows, probabilities=True))
    np.testing.assert_allclose(told.drop("prediction").to_numpy(), answers, atol=1e-6)
    if rung.name != GROUND:
        ground = fit(GROUND, "digits-images", prepared=digits, out=tmp_path / "ground")
        losses = [
            one.task.evaluate(one.model, tensors(shown)).item()
            for one, shown in ((ground, digits.test), (again, part))
        ]
        assert losses[1] < 0.9 * losses[0], "it learnt nothing that the ground does not know"


def resized_test(run: Run, digits: Prepared) -> Any:
    """The test pictures as an eye from elsewhere is shown them."""
    from sadari.data.prepare_images import resized

    spec = run.spec
    return resized(digits, size=spec.size, channels=spec.channels, mean=spec.mean, std=spec.deviation).test


@EVERY
def test_fitting_twice_gives_the_same_weights(
    rung: Rung, digits: Prepared, tmp_path: Path, elsewhere: Path, towers: Path
) -> None:
    runs = [fitted(rung, digits, tmp_path / name, elsewhere, towers) for name in ("a", "b")]
    for first, second in zip(*(run.model.state_dict().values() for run in runs), strict=True):
        assert torch.equal(first, second)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "prior": ({"width": 3}, "rung 'prior' has no setting 'width'"),
    "nearest": ({"neighbours": -1}, "neighbours -1: at least 1 picture votes; use neighbours=0"),
    "logistic": ({"penalty": 1.0}, "rung 'logistic' has no setting 'penalty'; its settings are: "),
    "shallow": ({"width": 0}, "width 0"),
    "alexnet": ({"variant": "alexnet", "width": 0.1}, r"too small for alexnet, .* use --size \d+ or more"),
    "vgg": ({"variant": "vgg12"}, "variant 'vgg12' is unknown; use one of: auto, vgg11"),
    "resnet": ({"width": -1.0}, "width -1.0: the share of the channels lies above 0"),
    "vit": ({"width": 30, "heads": 4}, "width 30 is not divisible by 4 heads; use heads="),
    "zero-shot": ({}, "zero-shot needs towers that learnt from captions; give .* with --from"),
    "retrieval": ({"weights": "", "neighbours": -1}, "neighbours -1: at least 1 picture votes"),
    "probe": ({"weights": "nowhere"}, "weights 'nowhere': neither a run, nor"),
    "fine-tune": ({"weights": "nowhere"}, "weights 'nowhere': neither a run, nor"),
    "distilled": ({}, "rung 'distilled' learns from another run; give one with --teacher RUN"),
}


@EVERY
def test_a_mistake_is_said_before_anything_is_written(rung: Rung, digits: Prepared, tmp_path: Path) -> None:
    settings, message = MISTAKES[rung.name]
    with pytest.raises(SadariError, match=message):
        fit(rung.name, "digits-images", prepared=digits, out=tmp_path / "run", model=settings)
    # what only the pictures' size brings to light is said when the network is built for them
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.proof("logistic", "claim")
def test_one_template_a_class_knows_most_of_what_a_search_through_all_pictures_finds(
    digits: Prepared, tmp_path: Path
) -> None:
    """In a hundredth of the numbers: of many pictures it keeps what tells the classes apart."""
    stored, weighed = (
        fit(name, "digits-images", prepared=digits, budget="300steps", out=tmp_path / name)
        for name in ("nearest", "logistic")
    )
    test: Any = digits.test
    right = [float((run.answers(test).argmax(1) == test.targets).mean()) for run in (stored, weighed)]
    assert right[1] > 0.85 and right[0] - right[1] < 0.12  # 0.91 and 0.98 when this was written
    kept = len(digits.train.targets) * digits.train.features[0].size
    assert kept > 100 * sum(p.numel() for p in weighed.model.parameters())


@pytest.mark.proof("shallow", "claim")
def test_hidden_units_hold_several_templates_a_class_where_one_is_none() -> None:
    """Bars, each as often dark on light as light on dark: the mean of a class is plain grey."""
    scores = {}
    for rung in RUNGS:
        if rung.name in ("logistic", "shallow"):
            torch.manual_seed(0)
            model: Any = rung.load()(rung.load().Config(), (1, 9, 9), len(CLASSES))
            task, optimizer = task_of((1, 9, 9)), torch.optim.Adam(model.parameters(), lr=0.005)
            for step in range(300):
                task.backward(model.train(), either(64, seed=step))
                optimizer.step()
            asked = either(300, seed=-1)
            with torch.no_grad():
                said = model.eval()(normalised(asked["features"], spec_of((1, 9, 9)))).argmax(1)
            scores[rung.name] = (said == asked["targets"]).double().mean().item()
    assert scores["logistic"] < 0.5 < 0.95 < scores["shallow"]


def either(count: int, seed: int) -> dict[str, Tensor]:
    """Pictures (N, 9, 9, 1) of a bar in one of three places, lighter or darker than the ground."""
    draw = np.random.default_rng(seed + 1)
    targets, signs = draw.integers(0, 3, count), draw.choice([-1, 1], count)
    pixels = draw.normal(128, 15, (count, 9, 9))
    for picture, target, sign in zip(pixels, targets, signs, strict=True):
        picture[:, 3 * target : 3 * target + 3] += 60 * sign
    shown = torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))[..., None]
    return {"features": shown, "targets": torch.from_numpy(targets)}


def test_pixels_that_are_read_in_parts_are_the_same_pictures(digits: Prepared) -> None:
    """What rungs read outside the loop, a slice or some rows at a time, is what the loop shows them."""
    arrays = tensors(digits.train)
    shown: Any = seen(arrays, digits.spec)["features"]
    whole = normalised(arrays["features"], digits.spec)  # type: ignore[arg-type]
    assert torch.equal(torch.cat([shown[first : first + 100] for first in range(0, len(shown), 100)]), whole)
    assert torch.equal(shown[torch.tensor([5, 1])], whole[[5, 1]])

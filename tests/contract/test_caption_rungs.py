"""What every rung that brings pictures and captions together promises: one suite over the ladder's table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sadari.data.caption_arrays import CaptionArrays
from sadari.data.spec_captions import CaptionSpec
from sadari.data.spec_images import ImageSpec
from sadari.data.tokenizers import train_tokenizer
from sadari.errors import SadariError
from sadari.fitting import fit, tensors
from sadari.ladder import Rung, ladder_for
from sadari.layers.tokens import PAD
from sadari.plan import plan
from sadari.runs import Run
from sadari.tasks import build, loss_for, macs_of, make_task
from sadari.train import SadariInterrupted, TrainConfig, train
from tests.drawings import COLOURS, SHAPES, WORDS, captioned, drawn
from tests.models.test_encoder import plant

LADDER = ladder_for("match", "captions")
RUNGS = list(LADDER.here)
EVERY = pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
SPEC = CaptionSpec(
    ImageSpec("", "image", (), 16, "crop", 3, (0.5,) * 3, (0.25,) * 3),
    ("caption",),
    train_tokenizer([" ".join(WORDS)], "words"),
    6,
)
QUICK = TrainConfig(
    budget_steps=6, batch_size=8, learning_rate=0.01, evaluate_every=2, log_every=1, patience=0, threads=1
)


def settings_of(rung: Rung) -> dict[str, Any]:
    return asdict(rung.load().TINY)


def tiny(rung: Rung, seed: int = 0) -> Any:
    return build(rung.name, "match", settings_of(rung), SPEC.width, loss_for(SPEC), seed, "captions")


def task() -> Any:
    return make_task("captions", "match", loss_for(SPEC), SPEC)


def arrays(count: int = 24, seed: int = 0) -> dict[str, Tensor]:
    """Drawings in turn, each with the words for its colour and shape."""
    draw = np.random.default_rng(seed)
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    chosen = [kinds[n % len(kinds)] for n in range(count)]
    pixels = np.stack([drawn(COLOURS[colour][1], shape, draw) for colour, shape in chosen])
    texts = [f"a {colour} {shape}" for colour, shape in chosen]
    tokens = SPEC.encode_captions(texts, SPEC.length)
    numbers = np.arange(count) % len(kinds)
    import polars as pl

    whole = CaptionArrays(
        pixels, tokens, np.arange(count + 1), np.zeros(count, np.uint8), numbers, numbers, pl.Series(texts)
    )
    return tensors(whole)


@EVERY
def test_parameters_are_those_that_were_promised_and_settings_explain_themselves(rung: Rung) -> None:
    model_class, model = rung.load(), tiny(rung)
    promised = model_class.parameter_count(model_class.TINY, SPEC.width, SPEC.vocabulary)
    assert sum(parameter.numel() for parameter in model.parameters()) == promised
    assert macs_of(model_class, model_class.TINY, SPEC.width, SPEC.vocabulary, 4) > 0
    config = model_class.TINY
    assert type(config).__dataclass_params__.frozen
    for field in fields(config):
        assert replace(config, **{field.name: getattr(config, field.name)}) == config


@EVERY
def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator_alone(rung: Rung) -> None:
    before = torch.random.get_rng_state()
    first, second, other = (tiny(rung, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not all(torch.equal(first[name], other[name]) for name in first)


@EVERY
def test_one_is_answered_the_same_whatever_stands_beside_it(rung: Rung) -> None:
    model, data, asked = tiny(rung).eval(), arrays(9), task()
    with torch.inference_mode():
        image, text = model(asked.tensors(data["features"]), data["tokens"])
        for row in range(9):
            own = data["tokens"][row : row + 1]
            own = F.pad(own[:, : int((own != PAD).sum())], (0, 1), value=PAD)
            x, y = model(asked.tensors(data["features"][row : row + 1]), own)
            torch.testing.assert_close(x[0], image[row], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(y[0], text[row], atol=1e-5, rtol=1e-5)
    for side in (image, text):
        torch.testing.assert_close(side.norm(dim=-1), torch.ones(9))


@EVERY
def test_recording_changes_nothing_and_names_both_sides(rung: Rung) -> None:
    model, data, named = tiny(rung).eval(), arrays(5), dict[str, Tensor]()

    def record(name: str, value: Tensor) -> Tensor:
        named[name] = value
        return value

    shown = task().tensors(data["features"])
    with torch.inference_mode():
        seen, plain = model(shown, data["tokens"], record), model(shown, data["tokens"])
    torch.testing.assert_close(seen, plain, atol=1e-5, rtol=1e-5)
    assert torch.equal(named["image"], seen[0]) and torch.equal(named["text"], seen[1])


@EVERY
def test_every_parameter_that_learns_gets_a_gradient(rung: Rung) -> None:
    model, data = tiny(rung).train(), arrays(18)
    batch = {"features": data["features"], "tokens": data["tokens"], "ids": torch.arange(18)}
    task().backward(model, batch)
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in learning.items():
        assert parameter.grad is not None and bool((parameter.grad != 0).any()), name


@EVERY
def test_interrupted_is_uninterrupted(rung: Rung, tmp_path: Path) -> None:
    learn, check, config = arrays(30), arrays(12, 1), replace(QUICK, augment="crop")

    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 4:
            raise KeyboardInterrupt

    def go(folder: Path, watchers: list[Any]) -> Any:
        model = tiny(rung)
        train(model, task(), learn, check, config, folder=folder, watchers=watchers)
        return model

    whole = go(tmp_path / "whole", [])
    with pytest.raises(SadariInterrupted, match="stopped at step 4 of 6"):
        go(tmp_path / "again", [stop])
    resumed = go(tmp_path / "again", [])
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


@EVERY
def test_what_training_takes_is_told_before_it(rung: Rung) -> None:
    model = tiny(rung)
    told = plan(model, task(), arrays(30), arrays(12, 1), QUICK)
    assert told.fits and told.steps == 6 and told.seconds > 0 and told.peak_bytes > 0
    assert told.parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)


# Whole fits.


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captioned(tmp_path_factory.mktemp("drawings"), 8)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    draw = torch.Generator().manual_seed(0)
    vectors = {word: torch.randn(16, generator=draw) for word in WORDS}
    yield plant(tmp_path_factory.mktemp("hub") / "reader", vectors)


def fitted(rung: Rung, data: Path, reader: Path, out: Path) -> Run:
    model = settings_of(rung)
    if rung.name == "locked":
        model |= {"texts": str(reader), "encoder": ""}
    model.pop("context", None), model.pop("pad", None)  # which the captions say
    return fit(rung.name, data, model=model, budget="60steps", train={"learning_rate": 0.01}, out=out)


@pytest.mark.parametrize(
    "rung", [pytest.param(rung, marks=pytest.mark.proof(rung.name, "trains"), id=rung.name) for rung in RUNGS]
)
def test_fits_and_answers_from_its_folder_alone(rung: Rung, data: Path, reader: Path, tmp_path: Path) -> None:
    run = fitted(rung, data, reader, tmp_path / "run")
    config = json.loads((run.path / "config.json").read_text())
    assert (config["rung"], config["task"], config["kind"]) == (rung.name, "match", "captions")
    assert not (run.path / "checkpoint").exists()
    again = Run.load(run.path.rename(tmp_path / "옮긴 곳"))
    part = again.data().test
    for before, after in zip(run.vectors(part), again.vectors(part), strict=True):
        np.testing.assert_array_equal(before, after)
    fresh = build(rung.name, "match", config["model"], run.spec.width, run.loss, 1, "captions")
    if rung.name == "locked":
        fresh.begin(None, torch.from_numpy(part.tokens))
    learnt, unlearnt = (run.task.score(model, tensors(part)) for model in (run.model, fresh))
    assert learnt["score"] < unlearnt["score"] and learnt["recall"] > unlearnt["recall"]


def test_what_does_not_fit_is_said_before_a_folder_is_made(data: Path, reader: Path, tmp_path: Path) -> None:
    """An end token that the tokenizer never writes; a blend of classes, where there are none."""
    with pytest.raises(SadariError, match="has no token 12, by which its end is known"):
        fit("clip", data, model={"end": 12}, budget="2steps", out=tmp_path / "run")
    with pytest.raises(SadariError, match=r"--mixup 0.2 blends classes, and captions are none; leave it out"):
        fit("clip", data, train={"mixup": 0.2}, budget="2steps", out=tmp_path / "run")
    with pytest.raises(SadariError, match=r"--loss focal does not go with task match.* --contrast"):
        fit("clip", data, loss="focal", budget="2steps", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@EVERY
def test_fitting_twice_gives_the_same_weights(rung: Rung, data: Path, reader: Path, tmp_path: Path) -> None:
    runs = [fitted(rung, data, reader, tmp_path / name) for name in ("a", "b")]
    for first, second in zip(*(run.model.state_dict().values() for run in runs), strict=True):
        assert torch.equal(first, second)


# What each was invented for.


def told_apart(rung: Rung, steps: int) -> float:
    """Recall on unseen pictures of two colours side by side, where only the order of two words differs."""
    names, draw = list(COLOURS)[:3], np.random.default_rng(0)
    kinds = [(a, b) for a in names for b in names if a != b]

    def part(each: int) -> dict[str, Tensor]:
        chosen = kinds * each
        pixels = np.zeros((len(chosen), 16, 16, 3))
        for row, (left, right) in enumerate(chosen):
            pixels[row, :, :8], pixels[row, :, 8:] = COLOURS[left][1], COLOURS[right][1]
        pixels = (pixels + draw.normal(0, 8, pixels.shape)).clip(0, 255).astype(np.uint8)
        texts = [f"{left} {right}" for left, right in chosen]
        numbers = np.arange(len(chosen)) % len(kinds)
        import polars as pl

        tokens = SPEC.encode_captions(texts, SPEC.length)
        starts, languages = np.arange(len(chosen) + 1), np.zeros(len(chosen), np.uint8)
        return tensors(CaptionArrays(pixels, tokens, starts, languages, numbers, numbers, pl.Series(texts)))

    model, check = tiny(rung), part(2)
    config = replace(QUICK, budget_steps=steps, batch_size=12, evaluate_every=50, augment="none")
    train(model, task(), part(20), check, config)
    return task().score(model, check)["recall"].item()


@pytest.mark.proof("bag-of-words", "claim")
@pytest.mark.proof("clip", "claim")
def test_averages_match_topics_only_and_two_encoders_match_meaning() -> None:
    ground, clip = (next(rung for rung in RUNGS if rung.name == name) for name in ("bag-of-words", "clip"))
    assert told_apart(ground, 200) <= 0.6  # of two pictures with the same words, in one order or the other
    assert told_apart(clip, 600) >= 0.9


@pytest.mark.proof("siglip", "claim")
def test_a_sigmoid_judges_each_pair_alone_and_softmax_needs_the_others() -> None:
    """The pull on a pair, before and after a third picture of the batch comes nearer to its caption."""
    draw = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(6, 8, generator=draw), dim=-1) for _ in range(2))
    moved = image.clone()
    moved[2] = F.normalize(image[2] + text[0], dim=-1)
    pulls: dict[str, list[Tensor]] = {"siglip": [], "clip": []}
    for name, found in pulls.items():
        model = tiny(next(rung for rung in RUNGS if rung.name == name))
        for stored in (image, moved):
            x = stored.clone().requires_grad_()
            loss_for(SPEC).pairs(model, x, text).backward()
            assert x.grad is not None
            found.append(x.grad[0])
    torch.testing.assert_close(*pulls["siglip"])
    assert not torch.allclose(*pulls["clip"], atol=1e-4)

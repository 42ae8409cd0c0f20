"""The task of pictures with captions: one loss for both towers, fixed batches to score by, collapse seen."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import sadari.loop
import sadari.probe
import sadari.tasks_match
from sadari.batches_captions import CaptionBatches, caption_tensors
from sadari.data.caption_arrays import CaptionArrays
from sadari.data.spec_captions import CaptionSpec
from sadari.data.spec_images import ImageSpec
from sadari.data.tokenizers import train_tokenizer
from sadari.errors import SadariError
from sadari.metrics import METRICS
from sadari.metrics.match import ranks
from sadari.models.bag_of_words import BagOfWords
from sadari.models.clip import CLIP
from sadari.models.siglip import SigLIP
from sadari.plan import peak_memory
from sadari.tasks_match import Contrast, MatchTask, found_by, health
from sadari.train import SadariInterrupted, TrainConfig, train

SIDE, V, T = 12, 40, 6
SPEC = CaptionSpec(
    ImageSpec("", "image", (), SIDE, "crop", 3, (0.48, 0.5, 0.53), (0.2, 0.25, 0.3)),
    ("caption",),
    train_tokenizer(["red blue green apple dog sea"], "words"),
    T,
)
MODELS = [BagOfWords, CLIP, SigLIP]
EVERYTHING = "crop,flip,colour,randaugment,erase"


def task(monitor: Any = "auto", part: Any = 0, **changes: Any) -> MatchTask:
    made = MatchTask(Contrast(V), SPEC, monitor, part)
    if changes:
        made.configure(TrainConfig(**changes))
    return made


def tiny(model_class: Any = BagOfWords, seed: int = 0, **settings: Any) -> Any:
    torch.manual_seed(seed)
    config = model_class.Config(**{**vars(model_class.TINY), **settings})
    return model_class(config, SPEC.width, V)


def captioned(N: int, seed: int = 0, kinds: int = 24) -> CaptionArrays:
    """Pictures of one colour and noise, with two captions that name it, one short and one long."""
    draw = np.random.default_rng(seed)
    colours = np.random.default_rng(9).integers(40, 216, (kinds, 1, 1, 3))
    shown = draw.permutation(np.arange(N) % kinds)
    noise = draw.normal(0, 12, (N, SIDE, SIDE, 3))
    tokens = np.full((2 * N, T), -1, np.int32)
    tokens[:, 0], tokens[:, 1] = kinds, np.repeat(shown, 2)
    tokens[1::2, 2], tokens[::2, 2] = kinds + 1 + draw.integers(5, size=N), kinds + 6
    tokens[1::2, 3] = kinds + 6
    return CaptionArrays(
        np.clip(colours[shown] + noise, 0, 255).astype(np.uint8),
        tokens,
        np.arange(N + 1) * 2,
        np.zeros(2 * N, np.uint8),
        np.arange(N) + 1000 * seed,
        np.unique(tokens, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64),
        pl.Series([""] * 2 * N),
    )


def arrays(N: int, seed: int = 0) -> dict[str, Tensor]:
    return caption_tensors(captioned(N, seed))


def batch_of(N: int = 10, seed: int = 0) -> dict[str, Tensor]:
    return CaptionBatches(arrays(N, seed), N, seed).first()


# The loss


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
@pytest.mark.parametrize("model_class", MODELS)
def test_the_loss_is_that_of_all_pairs_by_hand(model_class: Any, loss: str) -> None:
    model, batch = tiny(model_class, contrast=loss).eval(), batch_of(10)
    batch["ids"] = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 2, 9])
    losses = task()(model, batch)
    pixels = (batch["features"].double() / 255 - torch.tensor(SPEC.mean)) / torch.tensor(SPEC.deviation)
    image, text = model(pixels.permute(0, 3, 1, 2).float(), batch["tokens"])
    logits = (model.logit_scale.exp() * image @ text.t()).double()
    same = (batch["ids"].unsqueeze(1) == batch["ids"]) & ~torch.eye(10, dtype=torch.bool)
    if loss == "softmax":
        logits = logits.masked_fill(same, -torch.inf)
        own = torch.arange(10)
        by_hand = (F.cross_entropy(logits, own) + F.cross_entropy(logits.t(), own)) / 2
    else:
        signs = 2 * torch.eye(10) - 1
        by_hand = -F.logsigmoid(signs * (logits + model.logit_bias)).masked_fill(same, 0).sum() / 10
    assert losses["loss"].item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert losses["scale"].item() == pytest.approx(model.logit_scale.exp().item())


@pytest.mark.parametrize("model_class", MODELS)
def test_gradients_of_parts_are_those_of_the_whole_batch(model_class: Any) -> None:
    batch, found = batch_of(11), []
    for part in (0, 4, 11, 50):
        model = tiny(model_class, contrast="sigmoid").train()
        torch.manual_seed(1)  # the same changes of pictures
        losses = task(part=part, augment=EVERYTHING).backward(model, batch)
        assert {name: tuple(value.shape) for name, value in losses.items()} == {"loss": (1,), "scale": (1,)}
        found.append((losses["loss"], [parameter.grad for parameter in model.parameters()]))
    for loss, gradients in found[1:]:
        torch.testing.assert_close(loss, found[0][0])
        for one, other in zip(gradients, found[0][1], strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert all(gradient is not None for gradient in found[0][1])


def test_pictures_are_changed_in_training_alone() -> None:
    asked, batch, model = task(augment=EVERYTHING), batch_of(), tiny().eval()
    state = torch.get_rng_state()
    losses = [asked(model, batch)["loss"].item() for _ in range(2)]
    assert losses[0] == losses[1] and torch.equal(torch.get_rng_state(), state)
    model.train()
    assert asked(model, batch)["loss"].item() != losses[0]
    assert task()(model, batch)["loss"].item() == pytest.approx(losses[0]), (
        "nothing was told, nothing changes"
    )
    assert [change.__name__ for change in task(augment="auto").changes] == ["crop"]


@pytest.mark.parametrize(("name", "value"), [("mixup", 0.2), ("cutmix", 1.0)])
def test_blends_of_classes_are_refused(name: str, value: float) -> None:
    with pytest.raises(SadariError, match=rf"--{name} {value:g} blends classes, and captions are none"):
        task(**{name: value})


def test_another_loss_is_refused() -> None:
    assert Contrast.of(SPEC).outputs == SPEC.vocabulary == Contrast.of(SPEC, "contrast").outputs
    with pytest.raises(SadariError, match=r"--loss squared does not go with task match.*softmax or sigmoid"):
        Contrast.of(SPEC, "squared")
    with pytest.raises(SadariError, match=r"--smoothing 0\.1 does not go with task match"):
        Contrast.of(SPEC, smoothing=0.1)


# Scores


def test_a_score_is_the_mean_over_fixed_batches_of_first_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sadari.tasks_match, "TOGETHER", 10)
    data, model, asked = captioned(32), tiny().train(), task(augment=EVERYTHING)
    named = caption_tensors(data)
    state = torch.get_rng_state()
    scores = asked.score(model, named)
    assert torch.equal(torch.get_rng_state(), state) and model.training
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0)).numpy()
    total = 0.0
    for pictures in np.array_split(order, 4):
        firsts = 2 * pictures
        batch = {
            "features": named["features"][pictures],
            "tokens": named["tokens"][firsts],
            "ids": torch.from_numpy(data.known_positives(pictures, firsts)),
        }
        total += len(pictures) * asked(model.eval(), batch)["loss"].item()
    assert scores["loss"].item() == pytest.approx(total / 32, rel=1e-6)
    assert scores["loss"].shape == scores["recall"].shape == scores["score"].shape == (1,)
    torch.testing.assert_close(asked.evaluate(model, named), scores["loss"])
    torch.testing.assert_close(task("loss").score(model, named)["score"], scores["loss"])


def test_monitor_error_minimises_what_is_missed_and_then_the_loss() -> None:
    named, model = arrays(30), tiny()
    scores = task("error").score(model, named)
    missed = 1 - scores["recall"]
    assert missed < scores["score"] < missed + 1 / 60, "the loss weighs less than a single hit"
    model.logit_scale.data += 3  # nothing is nearer than before
    other = task("error").score(model, named)
    assert other["recall"] == scores["recall"]
    assert (other["score"] < scores["score"]) == (other["loss"] < scores["loss"])


def test_a_slow_model_is_scored_on_pictures_evenly_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    data, model, asked = captioned(100), tiny(), task()
    named = caption_tensors(data)
    monkeypatch.setattr(sadari.tasks_match, "SCORED_MACS", 1)
    monkeypatch.setattr(sadari.tasks_match, "SCORED_PAIRS", 25)
    chosen = np.arange(0, 100, 4)
    rows = (2 * chosen[:, None] + [0, 1]).ravel()
    some = CaptionArrays(
        data.features[chosen],
        data.tokens[rows],
        np.arange(26) * 2,
        data.languages[rows],
        data.subjects[chosen],
        data.wordings[rows],
        data.texts[rows],
    )
    for name, value in asked.score(model, named).items():
        torch.testing.assert_close(value, asked.score(model, caption_tensors(some))[name])
    assert not torch.equal(asked.score(model, named)["loss"], asked.evaluate(model, named))


@pytest.mark.parametrize("model_class", MODELS)
def test_embeddings_in_blocks_are_those_at_once(model_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    named, model, asked = arrays(9), tiny(model_class).eval(), task()
    image, text = model(asked.tensors(named["features"]), named["tokens"][::2])
    monkeypatch.setattr(sadari.tasks_match, "PIXELS", 4 * SIDE**2)
    monkeypatch.setattr(sadari.tasks_match, "EVALUATION_TOKENS", 4 * T)
    found = asked.embed(model, named, np.arange(9))
    torch.testing.assert_close(found[0], image)
    torch.testing.assert_close(found[1], text)
    torch.testing.assert_close(asked.captions(model, named["tokens"])[::2], text)


def test_recall_counts_all_that_is_true_and_nothing_else() -> None:
    image = torch.eye(4)
    text = torch.eye(4)[[0, 2, 1, 3]]  # 1 and 2 have each other's
    alone, said = torch.arange(4), torch.arange(4)
    recall, rank = found_by(image, text, alone, said)
    assert recall == 0.5 and rank.item() == pytest.approx(math.log(4) / 2), "two of four behind all others"
    assert found_by(image, text, torch.tensor([0, 1, 1, 3]), said) == (1.0, 0.0)
    assert found_by(image, text, alone, torch.tensor([0, 7, 7, 3])) == (1.0, 0.0)
    same = image[:1].expand(4, 4)
    assert found_by(same, same, alone, said) == (0.0, math.log(4)), "no luck by ties"


@given(seed=st.integers(0, 10**6), N=st.integers(2, 30))
@settings_of(max_examples=25, deadline=None)
def test_what_is_watched_is_what_is_scored(seed: int, N: int) -> None:
    draw = np.random.default_rng(seed)
    image, text = (draw.standard_normal((N, 4)).round().astype(np.float32) for _ in range(2))
    subjects, wordings = draw.integers(0, N, N), np.arange(N)
    theirs = ranks(image, text, np.arange(N), subjects, wordings)
    recall, rank = found_by(*map(torch.from_numpy, (image, text, subjects, wordings)))
    assert recall.item() == pytest.approx(METRICS["recall@1"].score(theirs, theirs))
    assert rank.item() == pytest.approx(np.log(theirs).mean())


# Health


def spread(N: int, D: int, common: float, seed: int = 0) -> Tensor:
    """Directions of which a share is the same in all."""
    draw = torch.Generator().manual_seed(seed)
    own = F.normalize(torch.randn(N, D, generator=draw), dim=-1)
    same = F.normalize(torch.ones(D), dim=0)
    return F.normalize((1 - common) * own + common * same, dim=-1)


def test_health_of_what_is_known() -> None:
    good = torch.eye(6)
    found = health(good, good, torch.tensor(20.0))
    assert found.temperature == pytest.approx(0.05) and found.alignment == 0
    assert found.directions == pytest.approx((6, 6)) and not found.notes()
    assert found.uniformity == pytest.approx((-4, -4)), "all are 2 apart, squared"
    assert health(good, good.roll(1, 0), torch.tensor(1.0)).alignment == pytest.approx(2)
    one = torch.eye(6)[:1].expand(6, 6)
    found = health(one, good, torch.tensor(1.0))
    assert found.directions[0] == pytest.approx(1) and found.uniformity[0] == pytest.approx(0)
    wide = health(spread(5000, 32, 0), spread(5000, 32, 0, 1), torch.tensor(1.0))
    assert wide.directions[0] == pytest.approx(32, rel=0.05) and wide.uniformity[0] < -3.5
    for least in (torch.zeros(6, 6), torch.zeros(6, 6)):
        assert np.isfinite(health(least, good, torch.tensor(1.0)).directions[0])


def test_a_collapsed_side_is_named_with_a_remedy() -> None:
    good, bad = spread(300, 64, 0.3), spread(300, 64, 0.9)
    assert (good @ good.t()).mean() < 0.5 and (bad @ bad.t()).mean() > 0.95
    assert not health(good, good, torch.tensor(1.0)).notes()
    (note,) = health(good, bad, torch.tensor(1.0)).notes()
    assert note.level == "warning" and note.about["kind"] == "captions collapsed"
    assert "300 captions point in only 1." in note.say("en") and "--batch-size" in note.say("en")
    assert "설명 300개" in note.say("ko") and "--learning-rate" in note.say("ko")
    kinds = [note.about["kind"] for note in health(bad, bad, torch.tensor(1.0)).notes()]
    assert kinds == ["pictures collapsed", "captions collapsed"]


def test_health_of_nothing_is_refused() -> None:
    good = torch.eye(4)
    with pytest.raises(SadariError, match="1 pair: health is measured among pairs; give two at least"):
        health(good[:1], good[:1], torch.tensor(1.0))
    with pytest.raises(SadariError, match="embeddings hold NaN or infinity: the model has diverged"):
        health(good, good.log(), torch.tensor(1.0))


def test_a_model_that_says_the_same_of_all_pictures_is_warned_of() -> None:
    named, model, asked = arrays(40), tiny(), task()
    assert not asked.notes(model, named)
    model.picture.weight.data.zero_()
    model.picture.bias.data.fill_(1.0)
    (note,) = asked.notes(model, named)
    assert note.about["kind"] == "pictures collapsed"
    few = {name: value[:3] for name, value in named.items()} | {"starts": named["starts"][:4]}
    assert not asked.notes(model, few), "three pairs say nothing"


# Training


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of captions for the loop, whatever it has for other tasks."""

    def feed(model: nn.Module, task: Any, arrays: Any, config: Any, rows: Any = None) -> CaptionBatches:
        return CaptionBatches(arrays, config.batch_size, config.seed, None if rows is None else rows[0])

    for module in (sadari.loop, sadari.probe, sadari.plan):
        monkeypatch.setattr(module, "make_batches", feed)


def settings(**more: Any) -> TrainConfig:
    usual: dict[str, Any] = {"batch_size": 32, "threads": 1, "precision": "fp32", "learning_rate": 0.01}
    return TrainConfig(**{**usual, **more})


@pytest.mark.usefixtures("fed")
@pytest.mark.parametrize(("model_class", "steps"), [(BagOfWords, 150), (CLIP, 150), (SigLIP, 1000)])
def test_each_model_learns_to_match_what_it_has_not_seen(model_class: Any, steps: int) -> None:
    model, asked = tiny(model_class), task()
    learn, check = arrays(240, 1), arrays(48, 2)
    before = asked.score(model, check)
    trained = train(model, asked, learn, check, settings(budget_steps=steps, evaluate_every=50))
    after = asked.score(model, check)
    assert after["score"].item() == pytest.approx(trained.best_score.item(), rel=1e-4)
    assert after["loss"] < 0.7 * before["loss"] and after["recall"] > before["recall"] + 0.2
    assert not asked.notes(model, check)
    assert trained.history[-1]["scale"] > 0 and "validation_recall" in trained.history[-1]


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


@pytest.mark.usefixtures("fed")
def test_an_interrupted_training_goes_on_with_the_same_pairs(tmp_path: Path) -> None:
    config = settings(budget_steps=14, batch_size=16, evaluate_every=4, log_every=1, augment=EVERYTHING)
    learn, check = arrays(90, 1), arrays(30, 2)
    whole = tiny()
    straight = train(whole, task(), learn, check, config, folder=tmp_path / "whole")
    for stops in ([1], [4, 9, 13]):
        folder = tmp_path / str(stops)
        for step in stops:
            with pytest.raises(SadariInterrupted, match=f"stopped at step {step} of 14"):
                train(tiny(), task(), learn, check, config, folder=folder, watchers=[StopAt(step)])
        resumed = tiny()
        trained = train(resumed, task(), learn, check, config, folder=folder)
        for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
            assert torch.equal(one, other), name
        assert torch.equal(trained.best_score, straight.best_score)
        assert log_of(folder) == log_of(tmp_path / "whole")


@pytest.mark.usefixtures("fed")
@pytest.mark.parametrize("model_class", MODELS)
def test_memory_is_counted_before_a_step_and_less_in_parts(model_class: Any) -> None:
    config, learn, check = settings(batch_size=96), arrays(200, 1), arrays(30, 2)
    whole = peak_memory(tiny(model_class), task(), learn, check, config)
    parts = peak_memory(tiny(model_class), task(part=8), learn, check, config)
    floats = 4 * 96 * 3 * SIDE**2  # the batch as a network takes it
    assert floats < whole and parts < (whole if model_class is BagOfWords else 0.6 * whole)

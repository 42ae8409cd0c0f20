"""Distillation: the loss by hand, who can teach whom, and a training that goes on as if nothing had been."""

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
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from sadari import teaching
from sadari.budget import Budget
from sadari.cli import run as command
from sadari.cli.taught import lessons
from sadari.climbing import ascent, climb
from sadari.climbing.ascent import Order, Stages, carry_out, fit_all
from sadari.data.prepare import Prepared, prepare
from sadari.data.prepare_images import prepare_images
from sadari.data.spec_images import ImageSpec
from sadari.errors import SadariError
from sadari.fitting import fit, plan_fit
from sadari.loop import SadariInterrupted
from sadari.losses import make_loss
from sadari.methods.distill import Distill, DistillConfig, distance, last_layer, softened, translated
from sadari.models.shallow import Shallow, ShallowConfig
from sadari.runs import Run
from sadari.tasks import TableTask
from tests.models.test_backbone import StopAt, drawings

LOSS = make_loss("cross-entropy", classes=3)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawings(tmp_path_factory.mktemp("drawings") / "그림", each=16)


@pytest.fixture(scope="module")
def prepared(shown: Path) -> Prepared:
    return prepare_images(shown)


@pytest.fixture(scope="module")
def teacher(shown: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a dense network that knows the drawings, from pictures of another size and in grey."""
    out = tmp_path_factory.mktemp("teacher") / "run"
    given: dict[str, Any] = {"reading": {"size": 24, "channels": 1}, "train": {"evaluate_every": 20}}
    run = fit("shallow", shown, out=out, budget="60steps", **given)
    assert run.result["validation_error"] == 0
    return out


class Fixed(nn.Module):
    """Answers with the logits that it was made with, through a last layer."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.output = nn.Linear(len(logits), logits.shape[1], bias=False)
        with torch.no_grad():
            self.output.weight.copy_(logits.mT)

    def forward(self, features: Tensor) -> Tensor:
        return self.output(features)


def by_hand(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """T^2 KL(p || q) in double precision, term by term."""
    total = 0.0
    for s, t in zip(student / temperature, teacher / temperature, strict=True):
        p, q = (np.exp(each - each.max()) / np.exp(each - each.max()).sum() for each in (t, s))
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


@given(seed=st.integers(0, 999), temperature=st.floats(0.5, 20.0), rows=st.integers(1, 5))
def test_the_soft_loss_is_the_divergence_by_hand(seed: int, temperature: float, rows: int) -> None:
    draw = np.random.default_rng(seed)
    student, teacher = draw.normal(0, 2, (2, rows, 4))
    found = softened(torch.tensor(student).float(), torch.tensor(teacher).float(), temperature)
    assert found.item() == pytest.approx(by_hand(student, teacher, temperature), rel=1e-3, abs=1e-5)
    assert softened(torch.tensor(student), torch.tensor(student), temperature).item() == pytest.approx(
        0, abs=1e-5
    )


def test_one_logit_is_two_classes() -> None:
    one, two = torch.tensor([[0.7], [-2.0]]), torch.tensor([[0.0, 0.7], [0.0, -2.0]])
    other = torch.tensor([[0.3], [0.1]])
    torch.testing.assert_close(softened(one, other, 3.0), softened(two, other, 3.0))
    torch.testing.assert_close(softened(other, one, 3.0), softened(other, two, 3.0))


def test_the_squared_temperature_keeps_the_gradients_size() -> None:
    """Hinton's equation 4: at high T the gradient is that of half the squared distance of the logits / K."""
    student = torch.tensor([[0.2, -0.5, 0.3]], requires_grad=True)
    teacher = torch.tensor([[-1.0, 0.4, 0.6]])  # both of mean 0
    softened(student, teacher, 1e3).backward()
    torch.testing.assert_close(student.grad, (student - teacher).detach() / 3, rtol=1e-3, atol=1e-4)


def test_the_loss_is_the_parts_in_their_shares() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 3)
    student, batch = Fixed(torch.randn(6, 3)), {"features": torch.eye(6), "targets": torch.arange(6) % 3}
    config = DistillConfig(temperature=2.0, soft=0.7)
    task = Distill(TableTask("classify", LOSS), Fixed(logits), None, config)  # type: ignore[arg-type]
    losses = task.backward(student, batch)
    answered = student(batch["features"])
    hard, soft = LOSS(answered, batch["targets"]).mean(), softened(answered, logits, 2.0)
    torch.testing.assert_close(losses["loss"], (0.3 * hard + 0.7 * soft).detach().reshape(1))
    torch.testing.assert_close(losses["hard"], hard.detach().reshape(1))
    torch.testing.assert_close(losses["soft"], soft.detach().reshape(1))
    gradient = student.output.weight.grad
    student.zero_grad()
    (0.3 * hard + 0.7 * soft).backward()
    torch.testing.assert_close(gradient, student.output.weight.grad)
    assert all(p.grad is None for p in task.teacher.parameters())
    assert (task.name, task.batching) == ("classify", "rows")


def test_features_are_matched_through_a_projection_that_goes_again() -> None:
    torch.manual_seed(0)
    teacher, student = Fixed(torch.randn(5, 3)), Fixed(torch.randn(4, 3))
    batch = {"features": torch.randn(7, 4), "targets": torch.arange(7) % 3}
    task = Distill(TableTask("classify", LOSS), teacher, None, DistillConfig(match=2.0, soft=0.0))  # type: ignore[arg-type]
    teacher.forward = lambda features: teacher.output(F.pad(features, (0, 1)))  # type: ignore[method-assign]
    with task.teaching(student):
        losses = task.backward(student, batch)
        projection: Any = student.projection
        assert projection.shape == (5, 4) and projection.grad.any()
        projected = batch["features"] @ projection.mT
        expected = distance(projected, F.pad(batch["features"], (0, 1)))
        hard = LOSS(student(batch["features"]), batch["targets"]).mean()
        torch.testing.assert_close(losses["loss"], (hard + 2 * expected).detach().reshape(1))
        first = projection.detach().clone()
    assert [name for name, _ in student.named_parameters()] == ["output.weight"]
    with task.teaching(student):
        assert torch.equal(student.projection, first)  # type: ignore[arg-type]
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 9.0]])
    assert distance(a, b).item() == pytest.approx(2) and distance(a, 2 * a).item() == pytest.approx(0)


def spec(**changes: Any) -> ImageSpec:
    usual: dict[str, Any] = {"target": "t", "image": "i", "classes": ("a", "b"), "size": 8}
    return ImageSpec(**{**usual, "mean": (0.1, 0.2, 0.3), "deviation": (0.5, 0.6, 0.7), **changes})


def test_pictures_are_translated_from_one_spec_to_another() -> None:
    pixels = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    own = spec()
    scaled = (pixels - torch.tensor(own.mean).view(3, 1, 1)) / torch.tensor(own.deviation).view(3, 1, 1)
    torch.testing.assert_close(translated(scaled, own, own), scaled)
    plain = spec(mean=(0.0, 0.0, 0.0), deviation=(1.0, 1.0, 1.0))
    torch.testing.assert_close(translated(scaled, own, plain), pixels)
    grey = spec(channels=1, mean=(0.0,), deviation=(1.0,))
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    one = translated(scaled, own, grey)
    torch.testing.assert_close(one, (pixels * weights).sum(1, keepdim=True), rtol=1e-3, atol=1e-3)
    assert torch.equal(translated(one, grey, plain)[:, 0], translated(one, grey, plain)[:, 2])
    larger = translated(scaled, own, spec(size=24, mean=(0.0,) * 3, deviation=(1.0,) * 3))
    assert larger.shape == (2, 3, 24, 24)
    torch.testing.assert_close(larger.mean((2, 3)), pixels.mean((2, 3)), rtol=0.02, atol=0.01)
    smaller = translated(scaled, own, spec(size=4, mean=(0.0,) * 3, deviation=(1.0,) * 3))
    torch.testing.assert_close(smaller.mean((2, 3)), pixels.mean((2, 3)), rtol=0.1, atol=0.05)


# Fits


SMALL: dict[str, Any] = {"model": {"width": 0.25}, "budget": "8steps"}
LOOP: dict[str, Any] = {"train": {"evaluate_every": 4, "log_every": 1, "threads": 1, "batch_size": 12}}


def test_without_a_say_of_the_teachers_it_is_plain_training_bit_for_bit(
    prepared: Prepared, teacher: Path
) -> None:
    plain = fit("resnet", "", prepared=prepared, out="plain", **SMALL, **LOOP)
    told = fit(
        "resnet", "", prepared=prepared, out="told", teacher={"run": teacher, "soft": 0}, **SMALL, **LOOP
    )
    assert plain.result["weights"] == told.result["weights"]
    taught = fit("resnet", "", prepared=prepared, out="taught", teacher=teacher, **SMALL, **LOOP)
    assert plain.result["weights"] != taught.result["weights"]


@pytest.mark.proof("distilled", "trains")
def test_a_student_learns_from_another_network_at_another_size(
    prepared: Prepared, shown: Path, teacher: Path
) -> None:
    """Labels have no say: all that it knows comes from the teacher, which saw grey pictures of 24 pixels."""
    given = {"run": teacher, "soft": 1.0}
    run = fit(
        "distilled",
        shown,
        prepared=prepared,
        budget="120steps",
        out="run",
        teacher=given,
        model={"width": 0.25},
        train={"augment": "none", "evaluate_every": 20},
    )
    told = run.config["teacher"]
    assert (told["rung"], told["soft"], told["temperature"]) == ("shallow", 1.0, 4.0)
    assert told["weights"] == Run.load(teacher).result["weights"]
    again = Run.load(Path("run").rename("옮긴 곳"))
    answers = again.answers(prepared.test).argmax(1)
    assert (answers == prepared.test.targets).mean() > 0.8
    assert again.config["data"]["split"]["test"] == len(answers)
    line = json.loads(Path("옮긴 곳/log.jsonl").read_text().splitlines()[0])
    assert line["soft"] > 0 and line["hard"] > 0


@pytest.mark.parametrize("match", [0.0, 1.0])
def test_an_interrupted_distillation_ends_as_one_that_was_not(
    prepared: Prepared, teacher: Path, match: float
) -> None:
    given: dict[str, Any] = {"prepared": prepared, "teacher": {"run": teacher, "match": match}}
    whole = fit("distilled", "", out="whole", **given, **SMALL, **LOOP)
    with pytest.raises(SadariInterrupted):
        fit("distilled", "", out="cut", watchers=[StopAt(5)], **given, **SMALL, **LOOP)
    again = fit("distilled", "", out="cut", **given, **SMALL, **LOOP)
    assert whole.result["weights"] == again.result["weights"]
    assert not any("projection" in name for name in again.model.state_dict())


def test_rows_of_a_table_are_taught_too(tmp_path: Path) -> None:
    prepared = prepare("wine")
    deep = fit("deep", "wine", prepared=prepared, budget="150steps", out="deep")
    run = fit(
        "shallow", "wine", prepared=prepared, budget="150steps", out="run", teacher={"run": "deep", "soft": 1}
    )
    assert (run.answers(prepared.test).argmax(1) == deep.answers(prepared.test).argmax(1)).mean() > 0.9


def test_the_teacher_is_scored_as_it_answers_by_itself(prepared: Prepared) -> None:
    """The student's pictures have its size here, so that nothing is lost on the way."""
    run = fit("resnet", "", prepared=prepared, out="same", **SMALL, **LOOP)
    plan = plan_fit("distilled", "", prepared=prepared, teacher="same")
    found = lessons(plan.task, run, prepared.validation)
    np.testing.assert_allclose(found, run.answers(prepared.validation), atol=1e-5)


def test_texts_are_taught_too(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    kinds = draw.integers(0, 2, 80)
    texts = [" ".join(draw.choice(["cat", "dog"] if k else ["rain", "sun"], 4)) for k in kinds]
    pl.DataFrame({"text": texts, "kind": [f"k{k}" for k in kinds]}).write_csv(tmp_path / "texts.csv")
    given: dict[str, Any] = {"target": "kind", "kind": "text"}
    prepared = prepare(tmp_path / "texts.csv", **given)
    fit("one-hot", "", prepared=prepared, out="counts")
    taught = {"run": "counts", "soft": 1.0}
    run = fit("embedding", "", prepared=prepared, out="run", teacher=taught, budget="60steps")
    assert (run.answers(prepared.test).argmax(1) == prepared.test.targets).mean() > 0.9
    other = prepare(tmp_path / "texts.csv", **given, reading={"tokenizer": "characters"})
    with pytest.raises(
        SadariError, match=r"--teacher counts reads its rows in another way \(its .* differ\)"
    ):
        plan_fit("embedding", "", prepared=other, teacher="counts")


def test_pictures_without_labels_are_taught_and_none_that_is_scored(
    prepared: Prepared, shown: Path, teacher: Path, tmp_path: Path
) -> None:
    more = drawings(tmp_path / "more", each=3, seed=9)
    for i, path in enumerate(sorted(shown.rglob("*.png"))[:7]):
        (more / f"copy{i}.png").write_bytes(path.read_bytes())
    (more / "broken.png").write_bytes(b"no picture")
    taught = {"run": teacher, "unlabelled": more, "soft": 0.5}
    plan = plan_fit("resnet", "", prepared=prepared, teacher=taught)
    (note,) = plan.notes
    assert "9 pictures without labels; 7 were left out that are among the labelled ones, 1" in note.english
    before = len(prepared.train.targets)
    assert len(plan.prepared.train.features) == len(plan.prepared.train.targets) == before + 9
    np.testing.assert_array_equal(plan.prepared.train.targets[before:], np.repeat([0, 1, 2], 3))
    assert plan.config["teacher"]["unlabelled"]["pictures"] == 9
    run = fit("resnet", "", prepared=prepared, teacher=taught, out="run", **SMALL, **LOOP)
    again = fit("resnet", "", prepared=prepared, teacher=taught, out="again", **SMALL, **LOOP)
    assert run.result["weights"] == again.result["weights"] and note in run.notes


def test_unlabelled_pictures_that_cannot_be_used_are_refused(
    prepared: Prepared, shown: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned(folder: str | Path) -> None:
        plan_fit("resnet", "", prepared=prepared, teacher={"run": teacher, "unlabelled": folder})

    with pytest.raises(SadariError, match="--unlabelled nowhere is no folder; give one of pictures"):
        planned("nowhere")
    with pytest.raises(SadariError, match="holds no readable picture that is not labelled already"):
        planned(shown)
    monkeypatch.setattr(teaching, "MOST", 1000)
    with pytest.raises(SadariError, match=r"4 pictures take 0.0 GB, and 0.0 GB are the most; give fewer"):
        planned(drawings(Path("more"), each=4, seed=9) / "dots")
    fit("logistic", "wine", out="rows")
    with pytest.raises(SadariError, match="--unlabelled x is for pictures, and this data is table; leave it"):
        plan_fit("shallow", "wine", teacher={"run": "rows", "unlabelled": "x"})


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_the_command_line_takes_a_teacher(
    shown: Path, teacher: Path, lang: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"fit distilled {shown} --budget 3steps --width 0.25 --out run --lang {lang} --soft 0.6"
    words += " --temperature 2"
    assert command([*words.split(), "--teacher", str(teacher), "--unlabelled", str(shown.parent)]) == 2
    assert "holds no readable picture that is not labelled already" in capsys.readouterr().err
    assert command([*words.split(), "--teacher", str(teacher)]) == 0
    before, after, ratio = capsys.readouterr().err.splitlines()[-3:]
    names = ("teacher", "student") if lang == "en" else ("교사", "학생")
    assert before.startswith(f"{names[0]}: {Run.load(teacher).rung}") and f"{names[1]}: distilled" in after
    sizes = [sum(value.numel() for value in Run.load(run).model.parameters()) for run in (teacher, "run")]
    assert f" {sizes[0]:,} " in before and f" {sizes[1]:,} " in after
    assert f" {sizes[1] / sizes[0]:.2g} " in ratio
    told = Run.load("run").config["teacher"]
    assert (told["run"], told["soft"], told["temperature"]) == (str(teacher), 0.6, 2.0)
    assert command(words.split()) == 2
    assert (
        "--temperature says how a teacher teaches; give one with --teacher, or leave it out"
        in capsys.readouterr().err
    )


# Climbing


def orders(prepared: Prepared, *rungs: str) -> list[Order]:
    budget = Budget.parse("10steps")
    usual: dict[str, Any] = {
        "seed": 0,
        "starts": 1,
        "trials": 0,
        "drop": (),
        "log_target": False,
        "threads": 1,
    }
    return [Order(rung, prepared, Path("climb"), budget, **usual) for rung in rungs]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_climb_has_its_best_rung_teach(
    prepared: Prepared, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for in any order, alone or side by side; what is finished is taken up again."""

    class Now:
        """joblib's workers, but in this process."""

        def __init__(self, n_jobs: int) -> None:
            pass

        def __call__(self, tasks: Any) -> None:
            for function, values, named in tasks:
                function(*values, **named)

    monkeypatch.setattr("joblib.Parallel", Now)
    monkeypatch.setattr(ascent, "_work", carry_out)
    asked = orders(prepared, "distilled", "prior", "nearest", "shallow")
    stages = Stages(dict.fromkeys(("prior", "nearest", "shallow", "distilled"), 1.0), [])
    *others, last = fit_all(asked, jobs, stages, [])
    assert [each.run.rung for each in others] == ["prior", "nearest", "shallow"]
    results = {each.run.rung: each.run.result for each in others[1:]}
    best = min(
        results, key=lambda name: (results[name]["validation_error"], results[name]["validation_loss"])
    )
    assert last.run.config["teacher"]["rung"] == best
    assert last.run.config["teacher"]["weights"] == results[best]["weights"]
    assert fit_all(asked, 1, stages, [])[-1].run.result == last.run.result


def test_a_climb_without_anybody_to_teach_is_refused(shown: Path) -> None:
    with pytest.raises(
        SadariError, match="'distilled' learns from the best of the others, and only prior is"
    ):
        climb(shown, rungs=["distilled"], budget="3steps", out="climb")


# Faults


def test_a_rung_that_is_taught_needs_a_teacher(prepared: Prepared) -> None:
    with pytest.raises(
        SadariError, match="rung 'distilled' learns from another run; give one with --teacher"
    ):
        fit("distilled", "", prepared=prepared, out="run")
    assert not Path("run").exists()


def test_who_cannot_teach_is_refused(prepared: Prepared, teacher: Path, tmp_path: Path) -> None:
    def planned(rung: str, teacher: Any, prepared: Prepared = prepared, data: Any = "") -> Any:
        return plan_fit(rung, data, prepared=prepared, teacher=teacher)

    wine, iris, diabetes = prepare("wine"), prepare("iris"), prepare("diabetes")
    reseeded = prepare("wine", seed=1)
    fit("logistic", "wine", prepared=wine, out="wine")
    cases: list[tuple[Any, str]] = [
        (lambda: planned("resnet", "nowhere"), "no run at nowhere; give the folder"),
        (
            lambda: planned("resnet", {"soft": 1}),
            r"--teacher names no run; give a run, and with it any of: temp",
        ),
        (
            lambda: planned("resnet", {"run": teacher, "heat": 1}),
            r"--teacher has no setting 'heat'; give a run",
        ),
        (
            lambda: planned("resnet", "wine"),
            "--teacher wine is a run of classify table, the data is classify imag",
        ),
        (
            lambda: planned("shallow", "wine", iris),
            r"--teacher wine knows other classes than these data \(.*\); g",
        ),
        (
            lambda: planned("shallow", "wine", diabetes),
            "--teacher wine: task regress has no classes to be taught",
        ),
        (lambda: planned("logistic", "wine", wine), "rung 'logistic' is solved from the labels themselves"),
        (lambda: planned("nearest", teacher), "rung 'nearest' is solved from the labels themselves"),
        (lambda: planned("shallow", "wine", reseeded), "reads its rows in another way"),
        (
            lambda: planned("resnet", {"run": teacher, "temperature": 0}),
            "--temperature 0: answers are softened by",
        ),
        (
            lambda: planned("resnet", {"run": teacher, "soft": 2}),
            r"--soft 2: a share of the loss lies in \[0, 1\]",
        ),
        (
            lambda: planned("resnet", {"run": teacher, "match": -1}),
            "--match -1: a weight is 0 or more; use 1, or 0",
        ),
    ]
    for case, message in cases:
        with pytest.raises(SadariError, match=message):
            case()
    fit("nearest", "", prepared=prepared, out="near")
    with pytest.raises(SadariError, match="--match: Nearest has no features that could be matched"):
        planned("resnet", {"run": "near", "match": 1})
    other = prepared.train.features[:4]
    for label in ("dots", "other"):
        (tmp_path / "others" / label).mkdir(parents=True)
        for i in range(5):
            pixels = (other[i % 4].astype(int) + i + 7 * (label == "dots")).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "others" / label / f"{i}.png")
    with pytest.raises(SadariError, match=r"knows other classes than these data \(other, rows, stripes\)"):
        planned("resnet", teacher, prepare_images(tmp_path / "others"))


def test_a_teacher_that_has_seen_the_test_is_said(shown: Path, teacher: Path) -> None:
    plan = plan_fit("resnet", "", prepared=prepare_images(shown, seed=1), teacher=teacher, seed=1)
    (note,) = plan.notes
    assert note.level == "warning" and "has seen some that are scored here" in note.english
    run = fit(
        "resnet", "", prepared=prepare_images(shown, seed=1), seed=1, out="run", teacher=teacher, **SMALL
    )
    assert note in run.notes
    assert not plan_fit("resnet", "", prepared=prepare_images(shown), teacher=teacher).notes


def test_the_last_layer_is_the_one_that_answers() -> None:
    net = Shallow(ShallowConfig(width=7), 4, 3)
    assert last_layer(net) is net.output

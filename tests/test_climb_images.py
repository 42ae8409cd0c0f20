"""A whole climb of pictures: every rung scored, priced and judged, and a report that shows what they saw."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sadari import climbing
from sadari.cli import run as command
from sadari.climbing import Climb, choose, climb, default_budget
from sadari.climbing.scores import CLASSES, MISTAKES, _of_each_class
from sadari.data.mapped import map_array
from sadari.data.prepare import prepare
from sadari.fitting import fit
from sadari.ladder import ladder_for
from sadari.metrics import METRICS
from sadari.models import eye
from sadari.pretrained_images import find_eye
from sadari.runs import Run
from sadari.scoring import own_targets
from sadari.tune import PICTURES
from tests.drawings import captioned

LADDER = ladder_for("classify", "images")
RUNGS = [rung.name for rung in LADDER.here]
LABELS = ("빨강 & <b>", "초록", "파랑")
DRAWN = re.compile(r'<img src="data:image/(png|jpeg);base64,([^"]+)"')


def photos(folder: Path, each: int = 50, size: tuple[int, int] = (26, 20)) -> Path:
    """A folder a class: ramps of a colour under much noise, the last of each in the next one's colour."""
    draw = np.random.default_rng(0)
    for kind, label in enumerate(LABELS):
        place = folder / label.replace("/", "_")
        place.mkdir(parents=True)
        for number in range(each):
            pixels = draw.integers(0, 120, (size[1], size[0], 3))
            channel = (kind + (number >= each - 4)) % 3
            pixels[..., channel] += np.linspace(10, 100, size[0]).astype(int)
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"사진 {number}.png")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("photos") / "색")


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Climb:
    """All rungs, few steps each, with networks trained here where the fetched eye and the towers would be."""
    out = tmp_path_factory.mktemp("climbs")
    seen = fit("resnet", folder, out=out / "eye", budget="2steps", model={"width": 0.25}).path
    towers = fit("bag-of-words", captioned(out / "drawings", 2), out=out / "towers", budget="2steps").path
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eye, "find_eye", lambda weights: find_eye(str(seen)))
        return climb(
            folder, rungs=RUNGS, budget="4steps", starts=1, lang="ko", towers=towers, out=out / "climb"
        )


@pytest.mark.parametrize(
    "rung", [pytest.param(rung, marks=pytest.mark.proof(rung, "climbed")) for rung in RUNGS]
)
def test_every_rung_is_climbed_with_score_interval_price_and_verdict(made: Climb, rung: str) -> None:
    entry = next(entry for entry in made.rungs if entry["name"] == rung)
    assert entry["low"] <= entry["score"] <= entry["high"] and entry["low"] < entry["high"]
    run = Run.load(made.path / entry["run"])
    part: Any = run.data().test
    metric = METRICS[made.content["metric"]["name"]]
    if rung not in ("probe", "fine-tune"):  # which are shown the pictures in another size
        assert entry["score"] == pytest.approx(metric.score(run.answers(part), part.targets))
    assert entry["bytes"] > 1000 and entry["train_seconds"] > 0 and entry["microseconds_per_example"] > 0
    assert entry["parameters"] > 0 and (entry["macs"] > 0) == (rung != "prior")
    if rung == "nearest":  # compared with every picture that it keeps
        assert entry["macs"] == len(prepare(made.content["settings"]["source"]).split.train) * 20 * 20 * 3
    assert f"<b>{rung}" in made.report.read_text(encoding="utf-8")


def test_there_is_a_verdict_and_no_judge(made: Climb) -> None:
    assert not LADDER.judge and not any(rung["outside"] for rung in made.rungs)
    assert [rung["name"] for rung in made.rungs] == RUNGS
    assert made.verdict["rung"] in RUNGS and made.verdict["headlines"]["ko"]
    assert made.run().kind == "images"
    page = made.report.read_text(encoding="utf-8")
    assert "안을 들여다보면" in page and "정답, 가장 흔한 혼동은" in page  # what inspection draws
    assert "사다리 밖" not in page and "심판" not in page and "None" not in re.sub(r"<svg.*?</svg>", "", page)


def test_the_curve_of_sizes_is_of_rungs_that_learn_from_these_pictures(made: Climb) -> None:
    """A probe needs hardly any of them, and who is taught by a rung that has seen all learns from all."""
    sizes = made.content["sizes"]
    rows = len(prepare(made.content["settings"]["source"]).split.train)
    for curve in sizes["curves"]:
        assert curve["rung"] not in ("prior", "probe", "fine-tune", "distilled")
        assert curve["rows"][-1] == rows and len(curve["rows"]) == 3  # an eighth of them is too few
    assert "그림이 두 배" in sizes["answer"]["reasons"]["ko"]


def test_mapped_pictures_are_not_copied_to_ask_for_more_of_them(made: Climb, tmp_path: Path) -> None:
    from sadari.climbing.ascent import Fitted
    from sadari.climbing.scores import Scores
    from sadari.fitting import plan_fit

    prepared: Any = prepare(made.content["settings"]["source"])
    path = tmp_path / "pixels"
    path.write_bytes(prepared.train.features.tobytes())
    shape = prepared.train.features.shape
    prepared.train.__dict__["features"] = map_array(path, np.uint8, shape, 1 << 40)
    runs = [made.run(name) for name in ("prior", "logistic", "shallow")]
    fitted = [
        Fitted(one, plan_fit(one.rung, made.content["settings"]["source"], prepared=prepared), None, None)
        for one in runs
    ]
    scores = Scores(prepared, fitted, METRICS["accuracy"], 0)
    assert scores.sizes(scores.decide(None), tmp_path) is None


# What the report shows.


def test_the_report_shows_pictures_of_each_class_as_they_were_read(made: Climb) -> None:
    shown, data = made.content["pictures"]["shown"], made.content["data"]
    assert {one["class"] for one in shown} == set(LABELS) and len(shown) == 15
    assert (data["size"], data["fit"], data["channels"], data["middle"]) == (20, "crop", 3, [26, 20])
    prepared: Any = prepare(data["path"])
    page = made.report.read_text(encoding="utf-8")
    assert "빨강 &amp; &lt;b&gt;" in page and "<b>: " not in page
    assert "20 x 20 픽셀, 컬러, 원래 파일은 보통 26 x 20, 가운데만 잘라 씀" in page
    assert "그림 150장" in page and "행당" not in page and "시험 행" not in page
    pixels = [_decoded(kind, text) for kind, text in DRAWN.findall(page)]
    for one, picture in zip(shown, pixels, strict=False):
        assert np.array_equal(picture, prepared.train.features[one["row"]])
        assert one["name"] == prepared.table.names[prepared.split.train[one["row"]]]
        assert LABELS[prepared.train.targets[one["row"]]] == one["class"]
    assert len(pixels) == len(shown) + len(made.content["pictures"]["mistakes"])


def _decoded(kind: str, text: str) -> np.ndarray:
    assert kind == "png"  # small ones keep every pixel
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_the_surest_mistakes_are_shown_with_who_knew_better(made: Climb) -> None:
    pictures = made.content["pictures"]
    prepared: Any = prepare(made.content["settings"]["source"])
    run = made.run()
    assert run.rung not in ("prior", "probe", "fine-tune"), "chosen for what can be checked here"
    answers = run.answers(prepared.test)
    wrong = np.flatnonzero(answers.argmax(1) != own_targets(prepared, prepared.test))
    assert pictures["wrong"] == len(wrong) > 0
    mistakes = pictures["mistakes"]
    assert len(mistakes) == min(len(wrong), MISTAKES) and {one["row"] for one in mistakes} <= set(wrong)
    shares = [one["share"] for one in mistakes]
    assert shares == sorted(shares, reverse=True)
    assert shares == pytest.approx([answers[one["row"]].max() for one in mistakes])
    for one in mistakes:
        row = one["row"]
        assert one["said"] == LABELS[answers[row].argmax()] != one["class"]
        assert run.rung not in one["right"]
        for name in ("logistic", "vit"):
            said = made.run(name).answers(prepared.test)[row].argmax()
            assert (name in one["right"]) == (said == prepared.test.targets[row])
    page = made.report.read_text(encoding="utf-8")
    assert "가장 확신한 실수" in page and f"{len(wrong)}장을 틀립니다" in page


@pytest.mark.parametrize(("classes", "each", "expected"), [(2, 30, 16), (3, 2, 6), (50, 3, CLASSES)])
def test_samples_are_spread_over_classes_and_over_each(classes: int, each: int, expected: int) -> None:
    targets = np.repeat(np.arange(classes), each)
    found = _of_each_class(targets, classes)
    assert len(found) == len(set(found)) == expected
    assert all(targets[row] == code for code, row in found) and found == sorted(found)


def test_an_english_report_of_many_classes_says_so(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    for label in range(CLASSES + 2):
        place = tmp_path / "many" / f"class {label:02}"
        place.mkdir(parents=True)
        for number in range(5):
            pixels = draw.integers(0, 256, (9, 9), np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
    done = climb(tmp_path / "many", rungs=["prior", "nearest"], lang="en", out=tmp_path / "climb")
    page = done.report.read_text(encoding="utf-8")
    assert f"of {CLASSES} of the {CLASSES + 2} classes, as the rungs see them: 9 x 9 pixels, grey." in page
    assert "tells “label” (classify) · 110 pictures" in page and "as a rule" not in page
    assert "multiply-adds a picture" in page and "rows" not in re.sub(r"<(svg|style).*?</\1>", "", page)


# The command.


def test_a_folder_is_climbed_from_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["climb", str(folder), "--rungs", "nearest,logistic", "--budget", "5steps", "--size", "12"]
    assert command([*words, "--fit", "pad", "--out", str(tmp_path / "climb")]) == 0
    told = capsys.readouterr()
    assert "150 pictures, 12 x 12 in colour; label `label` with 3 classes" in told.err
    assert "µs/picture" in told.out and "on 30 test pictures" in told.out
    content = json.loads((tmp_path / "climb" / "climb.json").read_text())
    assert (content["data"]["size"], content["data"]["fit"]) == (12, "pad")
    assert "--size 12 --fit pad" in content["command"]
    again = shlex.split(content["command"])[1:]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "climb").rglob("weights.safetensors")}
    assert command([*again, "--out", str(tmp_path / "climb"), "--quiet"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in before} and len(before) == 3
    anew = json.loads((tmp_path / "climb" / "climb.json").read_text())  # only times are taken again
    assert [rung["score"] for rung in anew["rungs"]] == [rung["score"] for rung in content["rungs"]]
    assert anew["pictures"] == content["pictures"] and anew["verdict"] == content["verdict"]


def test_rungs_whose_weights_are_not_here_are_left_out_and_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SADARI_CACHE", str(tmp_path / "empty"))
    prepared = prepare(folder)
    assert {"probe", "fine-tune"}.isdisjoint(choose(LADDER, None, prepared))
    assert "distilled" in choose(LADDER, None, prepared)
    few = [rung for rung in LADDER.here if rung.name in ("prior", "nearest", "probe")]
    monkeypatch.setattr(climbing, "ladder_for", lambda *_: replace(LADDER, rungs=tuple(few)))
    done = climb(folder, lang="en", out=tmp_path / "climb")
    assert [rung["name"] for rung in done.rungs] == ["prior", "nearest"]
    page = done.report.read_text(encoding="utf-8")
    assert "rung probe is left out: " in page and "sadari data get efficientnet-lite0" in page


def test_a_rung_is_tuned_on_validation_pictures(folder: Path, tmp_path: Path) -> None:
    done = climb(
        folder, rungs=["logistic", "shallow"], budget="16steps", tune=3, starts=1, out=tmp_path / "climb"
    )
    found = {rung["name"]: rung["tuned"] for rung in done.rungs}
    assert found["prior"] is None and found["logistic"]["model"] == {}
    assert set(found["shallow"]["model"]) == {"width", "activation", "dropout"}
    assert found["shallow"]["train"]["learning_rate"] > 0
    for name, space in PICTURES.items():
        known = {rung.name: rung for rung in LADDER.here}[name].load().Config.__dataclass_fields__
        assert set(space) <= set(known), name
    run = done.run("shallow")
    assert run.config["model"] == {**run.config["model"], **found["shallow"]["model"]}


def test_pictures_get_the_time_that_they_need() -> None:
    """Minutes in all, for eight or so networks."""
    assert default_budget(1_000, "images").seconds == 40
    assert default_budget(100_000, "images").seconds == 40 and default_budget(10**6, "images").seconds == 120

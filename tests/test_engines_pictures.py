"""Pictures answered by OpenVINO: the same answers as ours, from the same files, whoever asks at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import polars.testing
import pytest
import torch
from PIL import Image

from sadari import engines_pictures as module
from sadari.cli import run as command
from sadari.engines_pictures import OpenVINO, answering
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.lang import Note
from sadari.losses import make_loss
from sadari.models.nearest import Nearest
from sadari.models.pixels import PixelLogistic
from sadari.models.prior import Prior, PriorConfig
from sadari.predict import pictures, predict_file, predict_files, predict_pictures
from sadari.runs import Run
from sadari.tasks_images import ImageTask
from tests.test_export_images import NETWORKS, born, of

LABELS = ("blue, dark", "green", "빨강")
needs_it = pytest.mark.skipif(not module.importlib.util.find_spec("openvino"), reason="needs openvino")


def made(name: str, classes: int = 3, channels: int = 3) -> Run:
    """A run, not on disk, of a network each of whose numbers matters to the answer."""
    network, config, side = NETWORKS[name]
    spec = of(classes, side, channels)
    loss = make_loss("binary" if classes == 2 else "cross-entropy", classes=classes)
    model = born(network, config, spec.width, loss.outputs)
    about = {"rung": name, "kind": "images", "task": "classify"}
    return Run(Path(name), about, {}, spec, model, ImageTask("classify", loss, spec))


def photos(run: Run, count: int, seed: int = 0) -> np.ndarray:
    """Each darker than the last."""
    shape = (count, run.spec.size, run.spec.size, run.spec.channels)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return pixels // np.arange(1, count + 1, dtype=np.uint8).reshape(-1, 1, 1, 1)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A real run, on disk."""
    place = tmp_path_factory.mktemp("colours")
    write_album(place / "photos", 60)
    names = sorted(path.name for path in (place / "photos").iterdir())
    frame = pl.DataFrame(
        {
            "image": [(place / "photos" / name).read_bytes() for name in names],
            "colour": [LABELS[int(name[:2]) % 3] for name in names],
        }
    )
    return fit(
        "logistic", frame, kind="images", target="colour", reading={"size": 12}, budget="60steps",
        train={"learning_rate": 0.02}, out=place / "run",
    )  # fmt: skip


def write_album(place: Path, count: int) -> Path:
    place.mkdir(parents=True)
    for number in range(count):
        draw = np.random.default_rng(number)
        pixels = draw.integers(0, 80, (15, 20, 3))
        pixels[..., number % 3] += 100
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number:02}.png")
    return place


# The same answers


@needs_it
@pytest.mark.parametrize(
    ("name", "classes", "channels"),
    [("logistic", 2, 1), ("resnet20", 2, 1), *((name, 4, 3) for name in NETWORKS)],
)
def test_fp32_gives_what_ours_gives(name: str, classes: int, channels: int) -> None:
    """Also where the number of pictures is no multiple of those in a call, or below it."""
    run = made(name, classes, channels)
    pixels = photos(run, 7)
    expected = run.predictions(pixels)
    assert np.ptp(expected, axis=0).max() > 1e-3, "all answers are alike: nothing is tested"
    engine = OpenVINO(run, together=3)
    for count in (7, 6, 3, 1):
        found = engine.answer(pixels[:count])
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected[:count], atol=1e-4)
    outputs = run.outputs(pixels).numpy()
    np.testing.assert_allclose(engine.logits(pixels), outputs, atol=1e-4 * np.abs(outputs).max())


@needs_it
def test_the_ground_rung_is_answered_too() -> None:
    run = made("logistic")
    run.model = Prior(PriorConfig(), run.spec.width, 3).eval()
    run.model.constant.data = torch.tensor([0.2, 0.5, 0.3]).log()
    found = OpenVINO(run, together=2).answer(photos(run, 3))
    np.testing.assert_allclose(found, np.tile([0.2, 0.5, 0.3], (3, 1)), atol=1e-6)


@needs_it
@pytest.mark.parametrize("name", ["alexnet-64", "resnet20", "vit"])
def test_bf16_is_near_and_gives_the_same_classes(name: str) -> None:
    run = made(name)
    pixels = photos(run, 24)
    expected = run.predictions(pixels)
    try:
        found = OpenVINO(run, "bf16", together=24).answer(pixels)
    except SadariError as error:
        pytest.skip(str(error))
    assert 0 < np.abs(found - expected).max() < 0.1
    second, first = np.sort(expected, axis=1)[:, -2:].T
    clear = first - second > 0.1  # those in the balance may go either way
    assert clear.any() and (found.argmax(1) == expected.argmax(1))[clear].all()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


@needs_it
def test_threads_that_ask_at_once_get_their_own_answers() -> None:
    run = made("resnet20")
    engine = OpenVINO(run, together=4, jobs=3)
    blocks = [photos(run, 5, seed) for seed in range(12)]
    expected = [run.predictions(block) for block in blocks]
    with ThreadPoolExecutor(6) as threads:
        for found, right in zip(threads.map(engine.answer, blocks), expected, strict=True):
            np.testing.assert_allclose(found, right, atol=1e-4)


@needs_it
def test_pixels_may_lie_in_memory_as_they_like() -> None:
    run = made("alexnet-64")
    pixels = photos(run, 4)
    turned = np.asfortranarray(pixels)
    read_only = pixels[::-1]
    read_only.flags.writeable = False
    answer = answering(run, "openvino", together=2)
    np.testing.assert_allclose(answer(turned), answer(pixels), atol=1e-6)
    np.testing.assert_allclose(answer(read_only), answer(pixels)[::-1], atol=1e-6)
    assert answer(pixels[:0]).shape == (0, 3)


@needs_it
def test_large_pictures_go_in_smaller_calls() -> None:
    run = made("logistic")
    assert OpenVINO(run, together=64).shape == (64, 9, 9, 3)
    run.spec = of(3, 448, 3)
    run.model = PixelLogistic(PixelLogistic.TINY, run.spec.width, 3).eval()
    assert OpenVINO(run, together=64).shape == (4, 448, 448, 3)


@needs_it
def test_the_engine_is_made_once_and_again_when_weights_change(monkeypatch: pytest.MonkeyPatch) -> None:
    run, count = made("alexnet-64"), 0
    pixels = photos(run, 3)
    real = module._written

    def counting(given: Run) -> bytes:
        nonlocal count
        count += 1
        return real(given)

    monkeypatch.setattr(module, "_written", counting)
    for _ in range(3):
        before = answering(run, "openvino")(pixels)
    assert count == 1
    with torch.no_grad():
        next(run.model.parameters()).mul_(1.5)
    after = answering(run, "openvino")(pixels)
    assert count == 2 and np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, run.predictions(pixels), atol=1e-4)


# Files


@needs_it
@pytest.mark.parametrize("together", [64, 4])
def test_folders_tables_and_single_photos_are_answered(
    colours: Run, tmp_path: Path, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "TOGETHER", together)
    album = write_album(tmp_path / "album", 14)
    (album / "cut.png").write_bytes((album / "00.png").read_bytes()[:200])
    ours = predict_pictures(colours, album, probabilities=True)
    found = predict_pictures(colours, album, probabilities=True, engine="openvino")
    pl.testing.assert_frame_equal(found, ours, abs_tol=1e-4)
    assert found["prediction"].null_count() == 1
    notes: list[Note] = []
    written = predict_files(colours, album, engine="openvino", notes=notes)
    assert pl.read_csv(written)["prediction"].to_list() == ours["prediction"].to_list()
    assert notes[0].english == "1 of 15 pictures cannot be read and have no prediction: cut.png"
    pl.DataFrame({"image": ours["path"]}).write_csv(album / "t.csv")
    table = predict_file(colours, album / "t.csv", engine="openvino")
    assert pl.read_csv(table)["prediction"].to_list() == ours["prediction"].to_list()
    right = ours.filter(pl.col("path") == "03.png").drop("path")
    for given in (album / "03.png", pl.DataFrame({"image": [str(album / "03.png")]})):
        alone = colours.predict(given, probabilities=True, engine="openvino")
        pl.testing.assert_frame_equal(alone, right, abs_tol=1e-4)


@needs_it
def test_the_command_answers_with_it(
    colours: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    album = write_album(tmp_path / "album", 5)
    assert command(["predict", str(colours.path), str(album), "--engine", "openvino"]) == 0
    told = capsys.readouterr()
    assert told.out == f"{album}-predicted.csv\n" and not told.err
    frame = pl.read_csv(f"{album}-predicted.csv")
    assert frame["prediction"].to_list() == [LABELS[number % 3] for number in range(5)]
    assert command(["predict", str(colours.path), str(album / "01.png"), "--engine", "openvino"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("green")


def test_our_own_answers_in_bf16_too(colours: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    album = write_album(tmp_path / "album", 5)
    monkeypatch.setattr(module, "can_round", lambda precision: False)
    with pytest.raises(SadariError, match="--precision bf16: torch has no such products here; leave it out"):
        predict_pictures(colours, album, precision="bf16")
    monkeypatch.undo()
    ours = predict_pictures(colours, album, probabilities=True)
    if module.can_round("bf16"):
        found = predict_pictures(colours, album, probabilities=True, precision="bf16")
        pl.testing.assert_frame_equal(found, ours, abs_tol=0.02)


# What cannot be done


def test_without_the_package_one_line_says_how(
    colours: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    album = write_album(tmp_path / "album", 2)
    before = sorted(os.listdir(tmp_path))
    for missing in ("openvino", "onnx"):
        monkeypatch.setitem(sys.modules, missing, None)
        assert command(["predict", str(colours.path), str(album), "--engine", "openvino"]) == 2
        said = capsys.readouterr().err
        assert (
            "needs the packages openvino and onnx; install them with: pip install 'sadari[openvino]'" in said
        )
        assert said.count("\n") == 1 and sorted(os.listdir(tmp_path)) == before
        monkeypatch.undo()


def test_other_runs_have_no_such_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit("line", "diabetes", out=tmp_path / "line")
    for flag, given in (("--engine", "openvino"), ("--precision", "bf16")):
        assert command(["predict", str(run.path), "diabetes", flag, given]) == 2
        said = capsys.readouterr().err
        assert f"{flag} {given} is for runs of pictures, and this one is of table; leave it out" in said
    with pytest.raises(SadariError, match="--engine openvino is for runs of pictures"):
        predict_file(run, "diabetes", engine="openvino")
    with pytest.raises(SadariError, match="--precision bf16 is for runs of pictures"):
        run.predict(pl.DataFrame(), precision="bf16")


def test_engines_and_precisions_that_there_are_not_are_refused(colours: Run) -> None:
    wrong: Any = "tensorrt"
    with pytest.raises(SadariError, match="--engine tensorrt is not known; use sadari or openvino"):
        predict_pictures(colours, photos(colours, 1), engine=wrong)
    wrong = "int8"
    with pytest.raises(SadariError, match="--precision int8 is not known; use fp32 or bf16"):
        predict_pictures(colours, photos(colours, 1), precision=wrong)


def test_the_nearest_pictures_are_refused(colours: Run) -> None:
    model = object.__new__(Nearest)
    run = Run(colours.path, colours.config | {"rung": "nearest"}, {}, colours.spec, model, colours.task)
    with pytest.raises(SadariError, match="has no double precision, in which nearest compares pictures; use"):
        OpenVINO(run)


@needs_it
def test_what_the_engine_lacks_is_one_line(colours: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        """A processor without such numbers."""

        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

        def read_model(self, model: bytes) -> Any:
            raise RuntimeError("Exception from src/core.cpp:1:\nno such operation\n")

    monkeypatch.setattr(module.package(), "Core", Core)
    with pytest.raises(SadariError, match="--precision bf16: openvino has no such products on this proc"):
        OpenVINO(colours, "bf16")
    with pytest.raises(SadariError, match=r"cannot answer with logistic \(no such operation\); use --engine"):
        OpenVINO(colours)
    monkeypatch.setattr("sadari.export.MOST", 100)
    with pytest.raises(SadariError, match="logistic is too large for --engine openvino"):
        OpenVINO(colours)


@needs_it
def test_nobody_is_told_that_it_is_used(tmp_path: Path) -> None:
    """The package reports each import by the network, and numbers its user in the home folder."""
    pytest.importorskip("openvino_telemetry")
    code = (
        "import sys; from sadari.engines_pictures import package; package().Core(); "
        "sys.exit(any(name.startswith('openvino_telemetry') for name in sys.modules))"
    )
    places = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | places).returncode == 0
    assert not list(tmp_path.iterdir())


@needs_it
@pytest.mark.skipif(sys.platform != "linux", reason="the stack is asked of Linux")
def test_ctrl_c_is_heard_whatever_networks_came_and_went() -> None:
    """Else the process ends in a segmentation fault: their plugin leaves freed memory to hear signals on."""
    run = made("alexnet")
    before = module.signal_stack()
    first, second = OpenVINO(run), OpenVINO(run, together=2)
    for engine in (first, second):
        engine.answer(photos(run, 1))
    now = [module.signal_stack()]
    del first, engine
    now.append(module.signal_stack())
    del second
    now.append(module.signal_stack())
    assert {(each.place, each.size) for each in now} == {(before.place, before.size)}
    heard: list[int] = []
    usual = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert heard == [signal.SIGINT]

"""Runs that were damaged, swapped, faked or never finished: one clear line, exit code 2, nothing written."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from sadari.cli import run
from sadari.fitting import fit

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A line, a network, a classifier and another line, each fitted once."""
    folder = tmp_path_factory.mktemp("runs")
    fit("line", "toy-linear", out=folder / "line")
    fit("shallow", "toy-linear", out=folder / "net", budget="20steps", model={"width": 6})
    fit("logistic", "toy-circle", out=folder / "classes")
    fit("line", "toy-wave", out=folder / "other")
    return folder


@pytest.fixture
def place(runs: Path, tmp_path: Path) -> Path:
    """A folder of the test's own that holds copies of those runs."""
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Runs a command that must fail as the person's own: exit code 2, no output, the error as the last line.

    Before it there may be what was understood of the data, but no second error, and no file may have changed.
    """

    def call(*words: object) -> str:
        before = snapshot(tmp_path)
        capsys.readouterr()
        code = run([str(word) for word in words])
        out, err = capsys.readouterr()
        lines = err.splitlines()
        assert (code, out) == (2, ""), err
        assert lines[-1].startswith("error: ") and sum(line.startswith("error: ") for line in lines) == 1
        assert "Traceback" not in err
        assert snapshot(tmp_path) == before
        return lines[-1]

    yield call


def snapshot(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder."""
    paths = sorted(folder.rglob("*"))
    return {str(path): path.read_bytes() for path in paths if path.is_file()}


def edit(path: Path, **changes: Any) -> None:
    """Change entries of a JSON object; None removes one, and a dict changes entries of an inner object."""
    content = json.loads(path.read_text())
    for name, value in changes.items():
        if value is None:
            del content[name]
        elif isinstance(value, dict) and isinstance(content.get(name), dict):
            content[name] |= value
        else:
            content[name] = value
    path.write_text(json.dumps(content))


def config(**changes: Any) -> Change:
    return lambda folder: edit(folder / "config.json", **changes)


def spec(**changes: Any) -> Change:
    return lambda folder: edit(folder / "spec.json", **changes)


def weights(content: bytes, known: bool) -> Change:
    """Other bytes as weights; `known`: with a checksum that matches, as a forger would make it."""

    def change(folder: Path) -> None:
        (folder / "weights.safetensors").write_bytes(content)
        if known:
            edit(folder / "result.json", weights=hashlib.sha256(content).hexdigest())

    return change


def text(name: str, content: str | bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(
        content.encode() if isinstance(content, str) else content
    )  # type: ignore[func-returns-value]


def removed(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def swapped(folder: Path) -> None:
    shutil.copy(folder.parent / "other" / "weights.safetensors", folder)


def truncated(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:50])


def not_finite(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / "weights.safetensors")
    tensors["hidden.0.bias"][0] = torch.nan
    weights(safetensors.torch.save(tensors), known=True)(folder)


def one_column_less(folder: Path) -> None:
    content = json.loads((folder / "spec.json").read_text())
    content["columns"].pop()
    (folder / "spec.json").write_text(json.dumps(content))


def folder_for_file(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    (folder / "weights.safetensors").mkdir()


PICKLE = pickle.dumps({"weight": [1.0]})  # never loaded by anything here: it must be refused unread
DAMAGE: dict[str, tuple[str, Change, str]] = {
    "truncated weights": ("line", truncated, "not the file this run was saved with"),
    "weights of another run": ("line", swapped, "not the file this run was saved with"),
    "a pickle named weights": ("line", weights(PICKLE, known=False), "not the file this run was saved with"),
    "a pickle with its checksum": (
        "line",
        weights(PICKLE, known=True),
        "does not fit the rung in config.json",
    ),
    "a header longer than the file": (
        "line",
        weights((2**62).to_bytes(8, "little") + b"{}", known=True),
        "does not fit the rung in config.json",
    ),
    "no weights": ("line", removed("weights.safetensors"), "weights.safetensors is missing"),
    "a folder for weights": ("line", folder_for_file, "weights.safetensors is missing"),
    "weights that are not numbers": ("net", not_finite, "not finite in hidden.0.bias"),
    "a config from the future": (
        "line",
        config(format=99),
        "has format 99, this Sadari reads up to 1; upgrade",
    ),
    "a format that is no number": ("line", config(format="1"), "has no format number"),
    "no format": ("line", config(format=None), "has no format number"),
    "half a config": ("line", text("config.json", '{"format": 1, "rung": '), "cannot be read as JSON"),
    "a config that is no text": ("line", text("config.json", b"\xff\xfe\x00"), "cannot be read as JSON"),
    "a config that is a list": ("line", text("config.json", "[]"), "holds list, not an object"),
    "no config": ("line", removed("config.json"), "it has no config.json"),
    "a rung that is none": ("line", config(rung="lime"), "no rung 'lime' for regress; did you mean 'line'?"),
    "a rung of another task": ("line", config(rung="logistic"), "no rung 'logistic' for regress"),
    "a rung to come": ("line", config(rung="alexnet"), "no rung 'alexnet' for regress"),
    "a rung that is a list": ("line", config(rung=["line"]), "does not describe a run"),
    "another rung's name": ("line", config(rung="shallow"), "does not describe a run"),
    "a task that is none": ("line", config(task="sort"), "'sort' is no task for table data"),
    "no loss": ("line", config(loss=None), "does not describe a run ('loss')"),
    "a loss that is none": ("line", config(loss={"name": "cosine"}), "no loss 'cosine'"),
    "a seed that is a word": ("line", config(seed="x"), "does not describe a run"),
    "a setting that is none": ("net", config(model={"depth": 3}), "unexpected keyword argument 'depth'"),
    "a width that is not the weights'": (
        "net",
        config(model={"width": 7}),
        "does not fit the rung in config.json",
    ),
    "a width below one": (
        "net",
        config(model={"width": -1}),
        "width -1: a hidden layer needs at least 1 unit",
    ),
    "a width that is a word": ("net", config(model={"width": "wide"}), "does not describe a run"),
    "settings that are a list": ("net", config(model=[1]), "does not describe a run"),
    "a spec with a column less": ("line", one_column_less, "does not fit the rung in config.json"),
    "a spec that is a list": ("line", text("spec.json", "[]"), "holds list, not an object"),
    "a spec without columns": ("line", spec(columns=None), "is no spec of a table"),
    "a spec whose scale is a word": ("line", spec(target_scale="x"), "is no spec of a table"),
    "a spec with classes for a number": (
        "line",
        spec(classes=["a", "b"]),
        "does not fit a target that is one of 2",
    ),
    "a spec with a class more": (
        "classes",
        spec(classes=["a", "b", "c"]),
        "'binary' has two classes, and the target 3",
    ),
    "a spec without classes": ("classes", spec(classes=[]), "error: "),
    "no result": (
        "line",
        removed("result.json"),
        "is unfinished; give its `sadari fit` command again and it goes on",
    ),
    "an empty result": ("line", text("result.json", "{}"), "does not describe a run ('weights')"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_refused(name: str, place: Path, refused: Callable[..., str]) -> None:
    of, change, message = DAMAGE[name]
    change(place / of)
    assert message in refused("look", place / of)
    assert message in refused("export", place / of, "--to", "safetensors", "--out", place / "made")
    assert message in refused("predict", place / of, "toy-linear", "--out", place / "made.csv")


def test_a_pickle_is_never_opened(
    place: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {place / 'opened'}",)

    weights(pickle.dumps(Trap()), known=True)(place / "line")
    refused("look", place / "line")
    assert not (place / "opened").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("look nowhere", "no run at nowhere; give the folder whose path `sadari fit` printed"),
        ("look line/config.json", "no run at line/config.json"),
        ("look .", ". is not a run: it has no config.json"),
        ("look knot", "no run at knot"),
        ("look line nothing", "no view 'nothing'"),
        ("look line weigths", "did you mean weights?"),
        (
            "look line confusion",
            "view 'confusion' does not fit a line that was fitted to regress; views that do: curve",
        ),
        ("look classes residuals", "view 'residuals' does not fit a logistic"),
        ("look line curve --feature nope", "feature 'nope' is no column that this run uses"),
        ("look line weights --bins 3", "view 'weights' has no option --bins"),
        ("look line weights --top 0", "--top 0"),
        ("look line weights --out line/config.json", "config.json is a file; give a folder"),
        ("predict line toy-wave", "toy-wave lacks columns: x1, x2, x3, x4, x5"),
        ("predict line nowhere.csv", "'nowhere.csv' is neither a file nor built-in data"),
        ("predict line line", "line is a folder; name one file"),
        (
            "predict line toy-linear --out made.xls",
            "--out made.xls: predictions are written as .csv, .tsv or .parquet",
        ),
        (
            "predict line toy-linear --probabilities",
            "--probabilities needs classes, but this run predicts a number",
        ),
        ("predict line toy-linear --keep zz", "--keep: toy-linear has no column 'zz'; near it: x1"),
        ("export line --out line/config.json/x", "cannot write line/config.json/x"),
        ("fit line toy-wave --out line", "line already holds something else; give another folder with --out"),
        ("fit line toy-wave --out line/config.json", "config.json already holds something else"),
        ("climb toy-wave --out line", "line holds something that is no climb"),
        ("climb toy-wave --out line/config.json", "holds a file, not a climb"),
        ("fit line toy-wave --out /proc/nowhere/run", "cannot write /proc/nowhere"),
        (
            "fit shallow toy-wave --budget soon",
            "--budget 'soon' is not a budget; write seconds, minutes or steps",
        ),
        ("climb toy-wave --budget 0s", "--budget '0s' is not a budget"),
        ("fit shallow toy-wave --seed -1", "--seed '-1' is below 0"),
        ("fit shallow toy-wave --starts 0", "--starts 0 is below 1"),
        ("fit shallow toy-wave --width 0", "width 0: a hidden layer needs at least 1 unit"),
        ("fit shallow toy-wave --dropout 2", "dropout 2.0: the share dropped lies in [0, 1)"),
        ("fit shallow toy-wave --activation sine", "no activation 'sine'; choose one of relu"),
        ("fit shallow toy-wave --lr nan", "--learning-rate nan is out of range"),
        ("fit shallow toy-wave --batch-size -1", "--batch-size -1 is out of range"),
        ("fit shallow toy-wave --loss cosine", "no loss 'cosine'; losses for this target: squared"),
        ("fit shallow toy-wave --loss huber --delta -1", "delta -1.0: huber needs a positive distance"),
        (
            "fit shallow toy-circle --loss squared",
            "loss 'squared' does not fit a target that is one of 2 classes",
        ),
        ("fit logistic toy-wave", "no rung 'logistic' for regress; it stands on the ladder 'classify table'"),
        ("fit mean iris", "no rung 'mean' for classify"),
        ("fit line toy-wave --target zz", "toy-wave has no column 'zz'; near it: x, y"),
        ("fit line toy-wave --drop y", "'y' is both the target and in --drop"),
        ("climb toy-wave --rungs lime", "no rung 'lime' for regress; did you mean 'line'?"),
        ("climb toy-wave --rungs ,", "--rungs names no rung"),
        ("climb toy-wave --metric bleu", "--metric 'bleu' does not score regress; choose one of: rmse"),
        ("climb toy-wave --worth -1", "--worth -1.0 is no gain"),
        ("climb toy-wave --jobs 0", "--jobs 0 is below 1"),
        ("climb toy-wave --tune -1", "--tune -1 is below 0"),
        (
            "data get diabetes",
            "diabetes needs no fetching (comes with scikit-learn); try: sadari climb diabetes",
        ),
        ("data get nothing", "'nothing' is nothing that can be fetched"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(
    words: str, message: str, place: Path, refused: Callable[..., str]
) -> None:
    (place / "knot").symlink_to(place / "tie")
    (place / "tie").symlink_to(place / "knot")
    assert message in refused(*words.split())


def test_an_out_that_may_not_be_written(
    place: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shut(*_: object, **__: object) -> None:  # a root that runs the tests may write anywhere
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", shut)
    for words in (
        ["fit", "line", "toy-wave", "--out", "new"],
        ["export", "line"],
        ["predict", "line", "toy-linear"],
    ):
        assert "cannot write" in (said := refused(*words)) and "Permission denied" in said


def test_a_full_disk_says_so_and_leaves_the_old_state(
    place: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "No space left on device" in refused("export", place / "line", "--to", "safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 99}', "has format 99, this Sadari reads up to 1; upgrade sadari"),
        ('{"format": "1"}', "has format 1"),
        ('{"format": 1', "cannot be read as JSON"),
        ("[]", "holds list, not an object"),
        ('{"format": 1, "rungs": [], "verdict": {"rung": "line"}}', "has no run of 'line'"),
    ],
)
def test_a_damaged_climb_is_refused(
    content: str, message: str, place: Path, refused: Callable[..., str]
) -> None:
    (place / "climb.json").write_text(content)
    assert message in refused("look", place)
    assert message in refused("predict", place, "toy-linear")


def test_a_real_process_leaves_with_two_and_one_line(place: Path) -> None:
    truncated(place / "line")
    words = [sys.executable, "-c", "from sadari.cli import main; main()", "look", place / "line"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "fit the run again" in done.stderr

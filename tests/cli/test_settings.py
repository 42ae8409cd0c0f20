"""Options made from configs and views: all of them shown, and all of them arriving."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sadari.cli.known import loop_settings, rungs_here, settings_of
from sadari.cli.look import HELP, view_options
from sadari.cli.options import split_names

QUICK = ["--budget", "20steps", "--starts", "1"]


@pytest.mark.parametrize("name", rungs_here())
def test_a_rungs_help_holds_all_its_settings(name: str, sadari: Callable) -> None:
    code, out, _ = sadari("fit", name, "--help")
    words = " ".join(out.replace("│", " ").split())
    assert code == 0
    for field in (*settings_of(rungs_here()[name]), *loop_settings()):
        assert f"{field.flag} " in words
        assert field.help.split(";")[0][:40] in words
    assert ("The rung" in words) == bool(settings_of(rungs_here()[name]))
    assert "The loop" in words and "--lr" in words


def test_fit_lists_the_rungs_that_are_there(sadari: Callable) -> None:
    _, out, _ = sadari("fit", "--help")
    assert all(f"│ {name} " in out for name in rungs_here())
    assert "pix2pix" not in out


def test_settings_reach_the_run_under_their_own_names(sadari: Callable, tmp_path: Path) -> None:
    words = [
        "--width",
        "7",
        "--activation",
        "tanh",
        "--dropout",
        "0.1",
        "--lr",
        "0.01",
        "--batch-size",
        "1e2",
    ]
    words += ["--optimizer", "sgd", "--log-gradients", "--loss", "huber", "--delta", "2", "--seed", "3"]
    code, _, err = sadari("fit", "shallow", "toy-wave", *QUICK, *words, "--out", tmp_path / "run")
    assert code == 0, err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"] == {"width": 7, "activation": "tanh", "dropout": 0.1}
    wanted = {"learning_rate": 0.01, "batch_size": 100, "optimizer": "sgd", "log_gradients": True, "seed": 3}
    assert wanted.items() <= config["train"].items() and config["train"]["budget_steps"] == 20
    assert config["loss"] == {"name": "huber", "delta": 2.0}


def test_lr_auto_is_learning_rate_zero(sadari: Callable, tmp_path: Path) -> None:
    code, _, err = sadari("fit", "shallow", "toy-wave", *QUICK, "--lr", "auto", "--out", tmp_path / "run")
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["train"]["learning_rate"] == 0


def test_from_says_what_an_eye_begins_from_and_its_help_names_all_places(
    sadari: Callable, tmp_path: Path
) -> None:
    _, out, _ = sadari("fit", "retrieval", "digits-images", "--help")
    words = " ".join(out.replace("│", " ").split())
    assert "--weights --from" in words and "--weights --from" in sadari("fit", "probe", "--help")[1]
    for place in ("efficientnet-lite0", "a run of pictures", "sadari[hub]", "timm:resnet50.a1_in1k"):
        assert place in words
    given = ["--out", tmp_path / "run"]
    code, _, err = sadari("fit", "probe", "digits-images", "--from", tmp_path / "nowhere", *given)
    assert code == 2 and "nowhere': neither a run, nor a folder of the hub" in " ".join(err.split())


def test_every_option_of_every_view_is_explained() -> None:
    options = view_options()
    assert {field.name for field in options} == set(HELP)
    assert "(calibration)." in next(field.help for field in options if field.name == "bins")


def test_names_with_commas_between_and_within() -> None:
    class Word:
        def __init__(self, value: str) -> None:
            self.value = value

    assert split_names(None, [Word('a, b,"c,d"'), Word("e f,")]) == ("a", "b", "c,d", "e f")


def test_names_of_a_view_stand_with_commas_between() -> None:
    """Both ways, and what is no list of names is left alone."""
    from sadari.cli.options import split_names
    from sadari.cli.settings import _converter

    fields = {field.name: field for field in view_options()}
    assert _converter(fields["pairs"]) is split_names and _converter(fields["beside"]) is split_names
    assert _converter(fields["text"]) is None

"""The command line: what it says, where it says it, and how it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from sadari.cli import VERBS, make_app, run
from sadari.cli.known import loop_settings, rungs_here, settings_of
from sadari.cli.look import HELP, view_options
from sadari.cli.options import split_names
from sadari.describe import Field
from sadari.ladder import LADDERS

HEAVY = {"torch", "sklearn", "altair", "optuna", "polars"}
QUICK = ["--budget", "20steps", "--starts", "1"]


@pytest.fixture
def sadari(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command here; returns its exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def shops(tmp_path: Path) -> Path:
    """A table as a stranger has it: Hangul, dates, categories, gaps, and a path with a space."""
    path = tmp_path / "가게 자료" / "매출 기록.csv"
    path.parent.mkdir()
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 7, 18), eager=True)
    frame = pl.DataFrame(
        {
            "날짜": days,
            "지점": [("서울", "부산", None)[day % 3] for day in range(len(days))],
            "기온": [None if day % 17 == 0 else 10.0 + day % 12 for day in range(len(days))],
            "매출": [100.5 + 3 * (day % 12) + (20 if day % 3 == 0 else 0) for day in range(len(days))],
        }
    )
    frame.write_csv(path)
    return path


# ---------------------------------------------------------------------- starting


def test_help_and_rungs_import_nothing_heavy() -> None:
    code = f"""
import sys
from sadari.cli import run
for words in ([], ["--help"], ["--version"], ["rungs"], ["rungs", "shallow"], ["rungs", "--json"],
              ["fit", "--help"], ["fit", "shallow", "--help"], ["climb", "--help"], ["look", "--help"],
              ["fit", "shalow"], ["clim"]):
    run(words)
    print(words, sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    lines = [line for line in said.splitlines() if line.startswith("[")]
    assert len(lines) == 12 and all(line.endswith("] []") for line in lines), said


def test_sadari_alone_shows_three_commands_that_exist(sadari: Callable) -> None:
    code, out, err = sadari()
    assert code == 0 and not err
    commands = [line.split()[:2] for line in out.splitlines() if line.startswith("  sadari")]
    assert len(commands) == 3 and all(verb in VERBS for _, verb in commands)


def test_help_lists_every_verb_and_each_explains_itself(sadari: Callable) -> None:
    _, out, _ = sadari("--help")
    assert all(f"│ {verb} " in out for verb in VERBS)
    for verb in VERBS:
        code, out, err = sadari(verb, "--help")
        assert code == 0 and not err and f"Usage: sadari {verb}" in out


def test_version(sadari: Callable) -> None:
    code, out, _ = sadari("--version")
    assert code == 0 and out.startswith("sadari 0.")


def test_korean_start_by_locale(sadari: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "ko_KR.UTF-8")
    assert "어디까지 올라가야" in sadari()[1]


# ---------------------------------------------------------------------- settings made from the configs


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
    assert "transformer" not in out


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


def test_every_option_of_every_view_is_explained() -> None:
    options = view_options()
    assert {field.name for field in options} == set(HELP)
    assert "(calibration)." in next(field.help for field in options if field.name == "bins")


def test_names_with_commas_between_and_within() -> None:
    class Word:
        def __init__(self, value: str) -> None:
            self.value = value

    assert split_names(None, [Word('a, b,"c,d"'), Word("e f,")]) == ("a", "b", "c,d", "e f")


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("clim diabetes", "sadari has no verb 'clim'; did you mean climb?"),
        ("nothing", "sadari has no verb 'nothing'; see sadari --help"),
        ("fit shalow x.csv", "no rung 'shalow' for table; did you mean 'shallow'?"),
        ("fit x.csv", "the order is: sadari fit RUNG DATA"),
        (
            "fit shallow",
            "sadari fit shallow needs a table, or the name of a bundled one; try: sadari fit shallow",
        ),
        ("climb", "sadari climb needs a table"),
        ("predict run", "sadari predict needs a run and a table of rows"),
        ("look", "sadari look needs a run's folder"),
        ("data get", "sadari data get needs a name"),
        ("fit shallow d --widht 3", "sadari fit shallow has no option --widht; did you mean --width?"),
        (
            "fit line d --width 3",
            "sadari fit line has no setting --width; it belongs to shallow, deep and deep-skip",
        ),
        ("fit line d --width=3", "sadari fit line has no setting --width;"),
        ("climb d --rung line", "sadari climb has no option --rung; did you mean --rungs?"),
        ("climb d e", "sadari climb does not know what to do with 'e'"),
        ("fit shallow d --seed abc", "--seed 'abc' is not a whole number; see sadari fit shallow --help"),
        ("fit shallow d --width 1.5", "--width '1.5' is not a whole number"),
        ("fit shallow d --width inf", "--width 'inf' is not a whole number"),
        ("fit shallow d --dropout half", "--dropout 'half' is not a number"),
        ("fit shallow d --lr fast", "--lr 'fast' is not a number"),
        ("fit shallow d --optimizer adam", "--optimizer 'adam' is none of adamw, sgd; did you mean adamw?"),
        ("climb d --lang fr", "--lang 'fr' is none of en, ko"),
        ("climb d --task sort", "--task 'sort' is none of regress, classify"),
        ("fit shallow d --width", "--width needs a value"),
        ("climb d --quiet=maybe", "--quiet takes no value"),
        ("rungs shalow", "no rung 'shalow'; did you mean shallow?"),
        ("rungs qqq", "no rung 'qqq'; rungs: "),
        ("rungs --picture ladder.gif", "--picture ladder.gif must end in .svg or .png"),
        ("export run --to pickle", "--to 'pickle' is none of onnx, safetensors"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_with_two(
    words: str, message: str, sadari: Callable, tmp_path: Path
) -> None:
    code, out, err = sadari(*words.split())
    assert code == 2 and not out
    assert err.count("\n") == 1 and err.startswith("error: ") and message in err
    assert not list(tmp_path.iterdir())


def test_a_mistake_is_told_in_korean_too(sadari: Callable) -> None:
    assert sadari("rungs", "shalow", "--lang=ko")[2].startswith("오류: ")
    assert sadari("rungs", "shalow", "--lang", "en")[2].startswith("error: ")


def test_an_unexpected_exception_is_one_line_with_a_hint(
    sadari: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(_: object) -> None:
        raise RuntimeError("first\n  second")

    monkeypatch.setattr("sadari.cli.data._list_all", break_down)
    code, _, err = sadari("data")
    assert code == 1
    assert (
        err == "error: RuntimeError: first second -- this is a fault of Sadari; "
        "SADARI_TRACE=1 shows where it happened\n"
    )
    monkeypatch.setenv("SADARI_TRACE", "1")
    with pytest.raises(RuntimeError, match="first"):
        sadari("data")


def test_interruption_leaves_with_130_and_says_how_to_go_on(
    sadari: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt("saved; give the same command again to go on")

    monkeypatch.setattr("sadari.cli.data._list_all", interrupted)
    assert sadari("data") == (130, "", "saved; give the same command again to go on\n")
    monkeypatch.setattr("sadari.cli.data._list_all", lambda _: exec("raise KeyboardInterrupt"))
    assert sadari("data")[2] == "interrupted; nothing was left half-written\n"


@pytest.mark.parametrize("words", [["rungs"], ["--help"], ["rungs", "--json"]])
def test_a_reader_that_goes_away_ends_it_quietly(words: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from sadari.cli import main; main()", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()


def test_no_color_is_respected(sadari: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[1;31m" in sadari("rungs", "shalow")[2]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "31m" not in sadari("rungs", "shalow")[2]


# ---------------------------------------------------------------------- rungs and data


def test_rungs_shows_every_ladder_with_limit_paper_and_state(
    sadari: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    _, out, _ = sadari("rungs")
    lines = iter(out.splitlines())
    for ladder in LADDERS:
        assert next(line for line in lines if line.startswith(ladder.title))
        for rung in ladder.rungs:
            line = next(lines)
            assert line.split()[0] == ("●" if rung.here else "○")
            assert rung.name in line and rung.answers in line and rung.paper in line


def test_rungs_in_korean_and_as_json(sadari: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert LADDERS[0].rungs[1].answers_ko in sadari("rungs", "--lang", "ko")[1]
    ladders = json.loads(sadari("rungs", "--json")[1])
    assert [(entry["task"], entry["kind"]) for entry in ladders] == [(x.task, x.kind) for x in LADDERS]
    shallow = ladders[0]["rungs"][2]
    assert shallow["here"] and [setting["name"] for setting in shallow["settings"]] == [
        "width",
        "activation",
        "dropout",
    ]


def test_one_rung_in_full(sadari: Callable) -> None:
    _, out, _ = sadari("rungs", "shallow")
    assert out.startswith("shallow: regress table, classify table\n")
    assert (
        "exactly one hidden layer" in out and "--width" in out and "try: sadari fit shallow diabetes" in out
    )
    assert "classify images (not there yet)" in out
    assert "try:" not in sadari("rungs", "transformer")[1]


def test_rungs_draws_the_picture(sadari: Callable, tmp_path: Path) -> None:
    code, out, _ = sadari("rungs", "--picture", tmp_path / "ladder.svg", "--lang", "ko")
    assert code == 0 and out.strip() == str(tmp_path / "ladder.svg")
    assert "사다리" in (tmp_path / "ladder.svg").read_text()


def test_data_lists_every_set_with_licence_and_how_to_get_it(
    sadari: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sadari.data.builtin import BUILTIN

    monkeypatch.setenv("COLUMNS", "300")
    lines = sadari("data")[1].splitlines()
    for entry in BUILTIN.values():
        line = next(line for line in lines if line.startswith(f"  {entry.name} "))
        assert entry.licence in line and entry.how in line and entry.summary[0] in line


def test_data_looks_into_a_table(sadari: Callable, shops: Path) -> None:
    code, out, _ = sadari("data", shops, "--rows", "2")
    assert (
        code == 0 and out.startswith(f"{shops.name}: 200 rows, 4 columns")
    ) or "200 rows, 4 columns" in out
    lines = out.splitlines()
    gaps = next(line for line in lines if line.startswith("기온"))
    assert "Float64" in gaps and " 12 " in gaps
    assert lines[-1].split()[:1] == ["2024-01-02"]
    assert "progression (regress)" in sadari("data", "diabetes")[1]


# ---------------------------------------------------------------------- the verbs


def test_fit_says_aloud_what_it_understood_and_prints_the_path_last(sadari: Callable, shops: Path) -> None:
    code, out, err = sadari("fit", "line", shops)
    assert code == 0, err
    assert "200 rows, 3 columns; target `매출` is numeric, so the task is regress (the last column is" in err
    assert out.splitlines() == [out.strip()] and Path(out.strip(), "result.json").is_file()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["toy-circle"], "toy-circle: 600 rows, 2 columns; target `side`, task classify"),
        (["iris", "--target", "species", "--lang", "ko"], "iris: 150행, 4열; 목표 `species`, 과제 classify"),
    ],
)
def test_what_a_bundled_table_is_for_is_said(words: list[str], line: str, sadari: Callable) -> None:
    code, _, err = sadari("fit", "logistic", *words)
    assert code == 0 and line in err.splitlines()


def test_classes_are_counted_aloud(sadari: Callable, shops: Path) -> None:
    err = sadari("fit", "prior", shops, "--target", "지점")[2]
    assert "target `지점` has 2 classes, so the task is classify\n" in err
    assert "warning: 66 of 200 rows have no `지점`" in err


def test_quiet_says_nothing_but_the_path(sadari: Callable) -> None:
    code, out, err = sadari("fit", "line", "toy-linear", "--quiet")
    assert (code, err) == (0, "") and out == "runs/toy-linear-line\n"


def test_plan_writes_nothing(sadari: Callable, tmp_path: Path) -> None:
    code, out, err = sadari("fit", "shallow", "toy-wave", "--plan")
    assert code == 0, err
    assert "301" in out + err and not (tmp_path / "runs").exists()


def test_predict_look_and_export_take_the_run_that_fit_printed(sadari: Callable, shops: Path) -> None:
    run_path = sadari("fit", "line", shops)[1].strip()
    code, out, err = sadari("predict", run_path, shops, "--keep", "날짜, 지점")
    assert code == 0, err
    predicted = pl.read_csv(out.strip())
    assert predicted.columns == ["날짜", "지점", "prediction"] and predicted.height == 200
    code, out, _ = sadari("look", run_path)
    assert code == 0 and "residuals" in out and "confusion" not in out and "`매출`" in out
    code, out, err = sadari(
        "export", run_path, "--to", "safetensors", "--out", shops.parent / "model.safetensors"
    )
    assert code == 0 and Path(out.strip()).is_file(), err


def test_a_view_is_drawn_and_told(sadari: Callable) -> None:
    run_path = sadari("fit", "line", "toy-linear")[1].strip()
    code, out, err = sadari("look", run_path, "weights", "--top", "2")
    assert code == 0, err
    assert Path(out.splitlines()[-1]).read_bytes().startswith(b"\x89PNG")
    assert len(out.splitlines()) >= 3 and "weights.json" in err


# ---------------------------------------------------------------------- the climb


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small climb made by the command line, and what it printed."""
    folder = tmp_path_factory.mktemp("climb") / "wave"
    words = ["climb", "toy-wave", "--rungs", "line,shallow", *QUICK, "--out", str(folder)]
    code = f"import sys; from sadari.cli import run; sys.exit(run({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment())
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "COLUMNS": "80"}


def test_climb_prints_table_verdict_report_and_path(climbed: tuple[Path, str]) -> None:
    folder, out = climbed
    lines = out.splitlines()
    assert lines[-1] == str(folder) and lines[-2] == f"report: {folder / 'report.html'}"
    rows = [line[2:].split("  ")[0] for line in lines[1:5]]
    assert rows == ["mean", "line", "shallow", "gradient boosting"]
    content = json.loads((folder / "climb.json").read_text())
    chosen = content["verdict"]["rung"]
    assert next(line for line in lines if line.startswith("→ ")).split()[1] == chosen
    assert content["verdict"]["headlines"]["en"] in out
    for rung, line in zip(content["rungs"], lines[1:5], strict=True):
        assert f"{rung['parameters']:,}" in line.split()
    assert max(map(len, lines[:5])) <= 80


def test_climb_in_korean_of_what_is_done_already(
    climbed: tuple[Path, str], sadari: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = climbed
    words = ["climb", "toy-wave", "--rungs", "line,shallow", *QUICK, "--out", folder, "--lang", "ko"]
    code, out, err = sadari(*words)
    assert code == 0, err
    assert "가중치" in out and "보고서: " in out
    assert json.loads((folder / "climb.json").read_text())["verdict"]["headlines"]["ko"] in out


def test_a_climb_stands_for_the_run_of_its_verdict(climbed: tuple[Path, str], sadari: Callable) -> None:
    folder, _ = climbed
    chosen = json.loads((folder / "climb.json").read_text())["verdict"]["rung"]
    code, out, err = sadari("look", folder)
    assert code == 0 and out.startswith(f"{chosen} fitted on toy-wave (300 rows)")
    assert f"{folder} is a climb; its verdict is {chosen}, so that run is used" in err


def test_scores_of_a_table_share_their_digits() -> None:
    from sadari.cli.climb import Scores

    rmse = Scores([703.4, 46.53, 51.0], False)
    assert [rmse.show(score) for score in (703.4, 46.53)] == ["703.4", "46.5"]
    assert Scores([0.0512, 0.04], False).show(0.04) == "0.0400"
    assert Scores([2500.0], False).show(2500.4) == "2,500"
    assert Scores([0.5], True).show(0.9444, "+") == "+94.4"
    assert Scores([0.0], False).show(0.0) == "0.00"


def test_the_app_knows_no_verb_without_a_file() -> None:
    app = make_app()
    assert [name for name in app if not name.startswith("-")] == list(VERBS)
    for verb in VERBS:
        assert app[verb].help


def test_a_field_without_default_text_hides_it() -> None:
    assert Field("a_b", int, 0, "").flag == "--a-b"


def test_a_view_of_a_climb_opens_a_rung_that_it_fits(climbed: tuple[Path, str], sadari: Callable) -> None:
    folder, _ = climbed
    code, out, err = sadari("look", folder, "regions")
    assert code == 0, err
    assert "shallow" in out.splitlines()[0] and out.splitlines()[-1] == str(folder / "looks" / "regions.png")
    code, _, err = sadari("look", folder, "gradients")
    assert code == 2 and "view 'gradients' does not fit" in err


def test_a_curve_of_a_climb_draws_all_its_rungs(
    climbed: tuple[Path, str], sadari: Callable, tmp_path: Path
) -> None:
    code, _, err = sadari("look", climbed[0], "curve", "--out", tmp_path / "looks")
    assert code == 0, err
    assert json.loads((tmp_path / "looks" / "curve.json").read_text())["facts"]["rungs"] == [
        "mean",
        "line",
        "shallow",
    ]


def test_an_unfinished_climb_says_how_it_goes_on(
    climbed: tuple[Path, str], sadari: Callable, tmp_path: Path
) -> None:
    import shutil

    copy = shutil.copytree(climbed[0], tmp_path / "copy")
    (copy / "climb.json").unlink()
    code, _, err = sadari("look", copy)
    assert code == 2 and "is unfinished; give its `sadari climb` command again and it goes on" in err

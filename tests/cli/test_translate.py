"""Lines in, lines out: a run of pairs as a library and a command, with a model that says them backwards."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sadari.data.spec_pairs import PairSpec
from sadari.data.tokenizers import Kind, Tokenizer, train_tokenizer
from sadari.errors import SadariError
from sadari.runs import Run
from sadari.search import Searching
from sadari.translate import (
    GREEDY,
    one_line,
    pieces_of,
    replace_unknown,
    spans,
    translate_lines,
    word_pairs,
    words_at,
)

LINES = ["불을 켜 주세요", "turn on the light", "", "the light is on", " \t ", "on", "켜 the 불을 on is turn"]
WORDS = " ".join(LINES).split()


class Backwards(nn.Module):
    """Says the source's tokens from the last to the first, each a little less surely than the one before."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.batches: list[tuple[int, ...]] = []
        self.bias = nn.Parameter(torch.linspace(0, 1, size))

    def start(self, source: Tensor) -> Any:
        self.batches.append(tuple(source.shape))
        return source, (source >= 0).sum(1), 0

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        source, sizes, t = state
        t += tokens.shape[1]
        places = (sizes - 1 - t).clamp(min=0)[:, None]
        wanted = torch.where((sizes - 1 - t >= 0)[:, None], source.gather(1, places), 2)
        logits = self.bias.repeat(len(source), 1)
        return logits.scatter(1, wanted, 9.0), (source, sizes, t)

    def reorder(self, state: Any, rows: Tensor) -> Any:
        return state[0][rows], state[1][rows], state[2]


class Aligned(Backwards):
    def alignment(self, source: Tensor, target: Tensor) -> Tensor:
        sizes = (source >= 0).sum(1)
        places = (sizes[:, None] - 2 - torch.arange(target.shape[1])).clamp(min=0)
        return nn.functional.one_hot(places, source.shape[1]).float()


def make(kind: Kind = "words", model: type[Backwards] = Aligned, length: int = 30) -> Any:
    """A run of pairs, as far as it is needed here."""
    size = {"bpe": 300, "unigram": 320}.get(kind, 60)
    tokenizer = train_tokenizer([*LINES, *LINES], kind, size)
    spec = PairSpec("en", "ko", tokenizer, tokenizer, length)
    return SimpleNamespace(
        path=Path("runs/back"),
        rung="rnn",
        config={"task": "translate"},
        spec=spec,
        model=model(tokenizer.size),
    )


def said(run: Any, lines: Any, how: Searching = GREEDY, **more: Any) -> list[str]:
    return [line.text for line in translate_lines(run, lines, how, **more)]


def ons(count: int) -> str:
    return " ".join(["on"] * count)


def backwards(line: str) -> str:
    return " ".join(line.split()[::-1])


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("how", [Searching(), Searching(beam=3), Searching(temperature=0.01)])
def test_one_answer_a_line_in_their_order(how: Searching, jobs: int) -> None:
    lines = LINES * 50
    found = list(translate_lines(make(), iter(lines), how, batch_tokens=100, jobs=jobs))
    assert [one.source for one in found] == lines
    assert [one.text for one in found] == [backwards(line) for line in lines]
    assert torch.get_num_threads() >= 1


def test_jobs_in_processes_and_in_threads_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, run = LINES * 50, make()
    found = said(run, lines, batch_tokens=100, jobs=2)
    assert len(run.model.batches) == 0  # all of it in other processes
    monkeypatch.setattr("sadari.translate.sys.platform", "elsewhere")
    assert said(run, lines, batch_tokens=100, jobs=2) == found and len(run.model.batches) > 1


def test_what_goes_wrong_in_a_job_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make()
    with torch.no_grad():
        run.model.bias.fill_(torch.nan)
    with pytest.raises(SadariError, match="no finite numbers; its training broke down"):
        said(run, LINES, jobs=2)
    monkeypatch.setattr("sadari.translate.search", lambda *about, **more: os._exit(9))
    with pytest.raises(SadariError, match="one of 2 jobs was ended from outside"):
        said(run, LINES, jobs=2)


@pytest.mark.parametrize("kind", ["words", "bpe", "unigram", "characters"])
@given(
    lines=st.lists(
        st.text(st.sampled_from("불켜 on\t\n\r\0\x1b\x85\u2028\ud800é日👍🏽"), max_size=12), max_size=8
    )
)
def test_whatever_a_line_holds_alone_or_in_company(kind: Kind, lines: list[str]) -> None:
    run = RUNS.setdefault(kind, make(kind))
    answers = said(run, lines)
    assert len(answers) == len(lines)
    assert answers == [said(run, [line])[0] for line in lines]
    assert all(not answer for line, answer in zip(lines, answers, strict=True) if not line.strip())


RUNS: dict[str, Any] = {}


def test_lines_are_answered_when_a_none_asks() -> None:
    asked: list[str] = []

    def lines() -> Iterator[str | None]:
        for line in LINES:
            asked.append(line)
            yield line
            yield None

    for i, answer in enumerate(translate_lines(make(), lines())):
        assert len(asked) == i + 1 and answer.text == backwards(LINES[i])


def test_batches_keep_their_tokens_and_little_is_padded() -> None:
    run = make()
    random = np.random.default_rng(0)
    lines = [" ".join(random.choice(WORDS, size)) for size in random.integers(1, 25, 300)]
    plain = said(run, lines, batch_tokens=400)
    shapes = run.model.batches[:]
    assert all(rows * longest <= 400 for rows, longest in shapes)
    real = sum(len(source) for source in run.spec.encode_sources(lines))
    assert real > 0.9 * sum(rows * longest for rows, longest in shapes)
    run.model.batches.clear()
    assert said(run, lines, Searching(beam=4), batch_tokens=400) == plain
    assert all(rows * longest * 4 <= 400 or rows == 1 for rows, longest in run.model.batches)


def test_a_line_of_a_megabyte_is_cut_and_says_so() -> None:
    run = make("bpe")
    long = "turn on the light " * 60_000
    found = list(translate_lines(run, ["on", long, "a" * 1_000_000, "on"]))
    assert [one.text for one in found[::3]] == ["on", "on"]
    assert found[0].left_out == found[3].left_out == 0
    for one in found[1:3]:
        tokens = len(run.spec.source_tokenizer.encode([one.source])[0]) + 1
        assert one.left_out == tokens - 30 and one.text
    exact = make().spec.length - 1
    assert [one.left_out for one in translate_lines(make(), [ons(exact), ons(exact + 1)])] == [0, 1]


def test_unknown_words_are_copied_from_where_they_were_looked_at() -> None:
    assert said(make(), ["turn on the zebra", "Qué light", "켜 x y"]) == [
        "zebra the on turn",
        "light Qué",
        "y x 켜",
    ]
    assert said(make(), ["turn on the zebra"], Searching(beam=2)) == ["zebra the on turn"]
    assert said(make("characters"), ["on日"]) == ["日no"]
    known = said(make(model=Backwards), ["turn on the zebra"])  # no account of where it looks: no such word
    assert known[0].split()[1:] == ["the", "on", "turn"] and "unknown" not in known[0]


def test_replace_unknown_by_hand() -> None:
    looks = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.0, 0.9, 0.1]])
    words = ["나는 ", " ", "서울"]
    assert replace_unknown(["I", " <?>", " <?>,"], [False, True, False], looks, words) == [
        "I",
        " 나는",
        " <?>,",
    ]
    assert replace_unknown(["I", " x", " y"], [False, False, True], looks, words) == ["I", " x", " 서울"]
    assert (
        replace_unknown(["I"], [True], looks[:1], [" "]) == ["I"]
        and replace_unknown([], [], looks, words) == []
    )


def test_words_are_aligned_by_all_their_tokens() -> None:
    for kind in ("words", "bpe", "unigram", "characters"):
        for line in ("turn on the light", "불을 켜 주세요"):
            (one,) = translate_lines(make(kind), [line], align=True)
            count = len(line.split())
            assert one.targets[0].pairs is not None
            if kind != "words":  # said backwards, pieces and letters make other words
                assert {i for i, _ in one.targets[0].pairs} <= set(range(count))
                continue
            assert one.targets[0].pairs == tuple((count - 1 - j, j) for j in range(count))[::-1]
    looks = np.array([[0.6, 0.4, 0.0], [0.0, 0.2, 0.8], [0.1, 0.5, 0.4]])
    assert word_pairs(looks, [0, 0, 1], [0, 0, 1]) == ((0, 0), (0, 1))
    assert word_pairs(looks, [0, -1, 1], [0, 1, -1]) == ((0, 0), (1, 1))
    assert word_pairs(looks, [-1, -1, -1], [0, 0, 0]) == () == word_pairs(looks[:0], [0, 0, 1], [])


@given(st.text(max_size=20), st.sampled_from(["words", "bpe", "unigram", "characters"]))
def test_pieces_join_to_the_text_and_spans_lie_in_it(text: str, kind: Kind) -> None:
    tokenizer: Tokenizer = RUNS.setdefault(kind, make(kind)).spec.tokenizer
    (tokens,) = tokenizer.encode([text])
    pieces = pieces_of(tokenizer, tokens.tolist())
    assert "".join(pieces) == tokenizer.decode(tokens) and len(pieces) == len(tokens)
    assert len(spans(tokenizer, text)) == len(tokens)


def test_words_at_counts_between_white_space() -> None:
    text = "  the light,  is\ton"
    assert words_at(text, [(0, 5), (5, 11), (11, 12), (12, 14), (13, 16), (16, 17), (17, 19)]) == [
        0,
        1,
        1,
        -1,
        2,
        -1,
        3,
    ]


def test_a_prefix_is_where_each_answer_begins() -> None:
    run = make()
    assert said(run, ["turn on the light", ""], prefix="the light") == ["the light on turn", ""]


def test_scores_are_there_when_asked_for() -> None:
    how = Searching(beam=4, n_best=3)
    (found,) = translate_lines(make(), ["turn on"], how)
    assert (
        found.text == "on turn"
        and len(found.targets) == 3
        and found.targets[0].score > found.targets[1].score
    )
    (quick,), (asked,) = (
        list(translate_lines(make(), ["turn on"], scores=scores)) for scores in (False, True)
    )
    assert np.isnan(quick.targets[0].logp) and asked.targets[0].logp == pytest.approx(
        found.targets[0].logp, abs=1e-5
    )


def test_wrong_runs_and_settings_are_refused_before_a_line_is_read() -> None:
    run = make(model=Backwards)
    with pytest.raises(SadariError, match=r"rnn keeps no account of where it looks, .* lstm-attention or tr"):
        translate_lines(run, iter([]), align=True)
    with pytest.raises(SadariError, match="jobs 0 is below 1; use jobs=1"):
        translate_lines(run, [], jobs=0)
    with pytest.raises(SadariError, match="batch_tokens -1 is below 1; use batch_tokens=4096"):
        translate_lines(run, [], batch_tokens=-1)
    run.spec, run.config = SimpleNamespace(task="language"), {"task": "language"}
    with pytest.raises(SadariError, match="runs/back is a rnn for language and translates nothing; give one"):
        translate_lines(run, [])


# the command


@pytest.fixture
def translate(sadari: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """The command on a run of this file; `stdin` are bytes."""

    def call(*words: Any, stdin: bytes = b"", run: Any = None) -> tuple[int, str, str]:
        opened = make() if run is None else run
        monkeypatch.setattr("sadari.cli.translate.open_run", lambda *_: opened)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return sadari("translate", "runs/back", *words)

    return call


def test_texts_a_file_and_a_pipe_answer_alike(translate: Callable, tmp_path: Path) -> None:
    answers = [backwards(line) for line in LINES]
    content = "\n".join(LINES).encode()
    assert translate("turn on the light", "불을 켜") == (0, "light the on turn\n켜 불을\n", "")
    assert translate("turn on") == (0, "on turn\n", "")
    for more in (b"", b"\n"):
        for words in ((), ("-",)):
            assert translate(*words, stdin=content + more) == (0, "\n".join(answers) + "\n", "")
    assert translate(stdin=b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))[1].splitlines() == answers
    for name, data in (
        ("lines.txt", content),
        ("lines", content),
        ("불.en.gz", gzip.compress(content)),
        ("wide.txt", "\n".join(LINES).encode("utf-16")),
        ("old.txt", "\n".join(LINES).encode("cp949")),
    ):
        (tmp_path / name).write_bytes(data)
        assert translate(name) == (0, "\n".join(answers) + "\n", "")
        code, out, err = translate(name, "--out", "new/out.ko", "--beam", 3, "--jobs", 2)
        assert (code, out, err) == (0, "new/out.ko\n", "")
        assert Path("new/out.ko").read_text(encoding="utf-8").splitlines() == answers
        assert [path.name for path in Path("new").iterdir()] == ["out.ko"]
    (tmp_path / "empty.txt").touch()
    assert translate("empty.txt") == (0, "", "") == translate(stdin=b"")


def test_n_best_is_a_line_of_json(translate: Callable) -> None:
    code, out, _ = translate("--beam", 4, "--n-best", 2, "--alignment", stdin="켜 on\n\n".encode())
    first, second = map(json.loads, out.splitlines())
    assert code == 0 and first["source"] == "켜 on" and second == {"source": "", "targets": []}
    best, other = first["targets"]
    assert (
        (best["text"], best["alignment"]) == ("on 켜", "0-1 1-0")
        and best["score"] > other["score"]
        and "켜" in out
    )
    assert best["logp"] == pytest.approx(best["score"] * (8 / 6), abs=1e-5)


def test_alignments_stand_behind_a_tab(translate: Callable) -> None:
    assert translate("--alignment", stdin=b"turn on\n\n")[1] == "on turn\t0-1 1-0\n\t\n"
    code, out, err = translate("--alignment", "on", run=make(model=Backwards))
    assert (code, out) == (2, "") and "rnn keeps no account of where it looks" in err


def test_what_would_begin_a_new_line_becomes_a_space(translate: Callable) -> None:
    code, out, _ = translate(stdin="a\x0bb\x85c\u2028d\re\n".encode(), run=make("bpe"))
    assert code == 0 and out.count("\n") == 1 and len(out.splitlines()) == 1
    assert out.startswith("e ") and out.endswith(" a\n")


def test_settings_reach_the_search(translate: Callable) -> None:
    assert translate("--prefix", "the", "turn on")[1] == "the turn\n"
    assert translate("--max-tokens", 1, "turn on")[1] == "on\n"
    assert translate("--sample", "--temperature", 0.01, "turn on")[1] == "on turn\n"
    drawn = {translate("--sample", "--seed", seed, "turn on the light")[1] for seed in range(30)}
    assert (
        len(drawn) > 1
        and translate("--sample", "--seed", 3, "on")[1] == translate("--sample", "--seed", 3, "on")[1]
    )


def test_what_was_cut_or_broken_is_said_once(translate: Callable, tmp_path: Path) -> None:
    code, out, err = translate(stdin=b"on\n" + ons(100).encode() + b"\non", run=make(length=10))
    assert code == 0 and out.splitlines() == ["on", ons(9), "on"]
    assert err == "line 2 has 101 tokens and the run reads 10; the last 91 were left out\n"
    assert translate("--lang", "ko", stdin=ons(100).encode())[2].startswith(
        "1번째 줄의 토큰 101개 가운데 30개까지만"
    )
    code, out, err = translate(stdin=b"on\n\xff\xfe on\n\xff\n")
    assert code == 0 and out.count("\n") == 3
    assert err.startswith(
        "line 2 holds bytes that are no UTF-8; they are read as \N{REPLACEMENT CHARACTER}, and"
    )
    assert len(err.splitlines()) == 1
    assert translate("--quiet", stdin=b"\xff" + ons(100).encode())[2] == ""


def test_each_line_is_answered_before_the_next_one_comes(
    translate: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    shown = io.StringIO()

    class Slowly(io.BytesIO):
        blocks = iter([b"turn on\nth", b"e light\n", "불을\n켜".encode()[:-1], "켜".encode()[-1:]])

        def read1(self, size: int | None = -1) -> bytes:
            seen.append(shown.getvalue())
            return next(self.blocks, b"")

    class Typed(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    from sadari.cli import run as command

    monkeypatch.setattr("sadari.cli.translate.open_run", lambda *_: make())
    monkeypatch.setattr(sys, "stdin", Typed(Slowly()))
    monkeypatch.setattr(sys, "stdout", shown)
    assert command(["translate", "runs/back"]) == 0
    assert seen == [
        "",
        "on turn\n",
        "on turn\nlight the\n",
        "on turn\nlight the\n불을\n",
        "on turn\nlight the\n불을\n",
    ]
    assert shown.getvalue().endswith("불을\n켜\n")


def test_a_reader_who_goes_away_is_met_in_silence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sadari.cli import run as command

    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr("sadari.cli.translate.open_run", lambda *_: make())
    with os.fdopen(writing, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        assert command(["translate", "runs/back", "turn on"]) == 141
    assert capsys.readouterr().err == ""


def test_files_that_are_not_there_or_no_text_or_full(translate: Callable, tmp_path: Path) -> None:
    for name in ("letters.txt", "data/letters.en"):
        code, out, err = translate(name)
        assert (code, out) == (2, "") and f"no file {name}; check the path, or give the text itself" in err
    assert translate("e.g.")[0] == 0  # a text
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG\0\0")
    code, out, err = translate("picture.txt")
    assert (code, out) == (2, "") and "has a NUL byte in line 1, so it is no text" in err
    (tmp_path / "here").mkdir()
    code, out, err = translate("on", "--out", "here")
    assert (code, out) == (2, "") and "cannot write here" in err and "choose another file with --out" in err
    assert list((tmp_path).glob(".here*")) == []


def test_a_text_may_begin_with_a_dash_and_a_wrong_option_is_none(translate: Callable) -> None:
    assert translate("- on", "--beam", 2, "turn on")[:2] == (0, "on -\non turn\n")
    assert translate("-5", "on", "--beam=2")[0] == 0
    for words in (["--beem", 3, "on"], ["on", "-b"], ["--beem=3"]):
        code, out, err = translate(*words)
        option = next(str(word) for word in words if str(word).startswith("-"))
        assert (code, out) == (
            2,
            "",
        ) and f"{option} is no option of translate; sadari translate --help" in err


def test_a_setting_out_of_range_is_one_line(translate: Callable) -> None:
    code, out, err = translate("--n-best", 3, "on")
    assert (code, out) == (2, "") and err.startswith(
        "error: n_best 3 is above the beam of 1, which finds no more"
    )
    assert len(err.splitlines()) == 1


def test_a_run_of_another_task_is_one_line(sadari: Callable) -> None:
    path = sadari("fit", "line", "toy-linear")[1].strip()
    code, out, err = sadari("translate", path, "on")
    assert (code, out) == (2, "") and len(err.splitlines()) == 1
    assert (
        f"run {path} is a line for regress and translates nothing; give one that was fitted on pairs" in err
    )


def test_help_teaches(sadari: Callable) -> None:
    code, out, err = sadari("translate", "--help")
    assert code == 0 and not err
    for words in (
        "tail -f chat.log | sadari translate",
        "--n-best INT",
        "fast_align",
        "A beam follows several",
    ):
        assert words in out


def test_a_fitted_run_answers_in_the_shell_as_in_python(
    sadari: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [" ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 3 + i % 4)) for i in range(60)]
    rows = ["en\tko", *(f"{pair}\t{backwards(pair)}" for pair in pairs)]
    Path("pairs.tsv").write_text("\n".join(rows), encoding="utf-8")
    code, out, err = sadari(
        "fit", "lstm-attention", "pairs.tsv", "--task", "translate", "--budget", "5steps", "--width", 16
    )
    assert code == 0, err
    texts = Run.load(out.strip()).translate(LINES)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(LINES).encode())))
    assert sadari("translate", out.strip()) == (0, "\n".join(map(one_line, texts)) + "\n", "")

"""The command line: one verb a file, imported when it is asked for, so that `--help` never waits for torch.

Exit codes: 0 done, 2 the person can mend it (one line says how), 1 a fault of ours, 130 interrupted, 141 the
reader of the pipe went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import pairwise

from cyclopts import App, CycloptsError

from sadari.cli import say
from sadari.errors import SadariError
from sadari.lang import Lang, default_lang, pick

VERBS = {
    "climb": "Train every rung of a ladder on your data and say how far up is worth it.",
    "fit": "Train one rung on your data.",
    "predict": "Use a trained rung on new rows or texts, or let it write on.",
    "translate": "Turn lines of text into others with a run of pairs: translate, summarise, answer.",
    "index": "Embed pictures with a run, so that words or another picture find them.",
    "search": "Find pictures of an index by words, in any language, or by another picture.",
    "embed": "Learn word vectors from text (word2vec).",
    "look": "Open a trained rung up: curves, regions, weights, calibration and more.",
    "export": "Write a trained rung in a format that other software reads.",
    "rungs": "Show every ladder, and why each rung was invented.",
    "data": "Show the bundled data sets, or look into one.",
}
EPILOGUES = {
    "translate": """Examples:
  sadari translate runs/ko-lstm "Turn on the light."         one line, as an argument
  sadari translate runs/ko-lstm letters.en --out letters.ko  a file, line for line
  tail -f chat.log | sadari translate runs/ko-lstm           each line as it comes
  sadari translate runs/ko-lstm --beam 5 --n-best 3 "Hello"  three candidates, as a line of JSON

A beam follows several beginnings at once and finds likelier targets than greedy search, at several times the
cost; 4 or 5 is where most of the gain is. One line goes out for each that comes in, an empty one for an
empty one; with --n-best above 1 it is {"source": ..., "targets": [{"text", "score", "logp"}, ...]}.""",
    "index": """Examples:
  sadari fit clip captions.csv --out runs/clip    a run that puts pictures and words in one space
  sadari index photos --run runs/clip             photos-index: every picture below photos
  sadari index photos --run runs/clip --prune     again: only what is new, changed or gone
  sadari index emoji-captions --run runs/clip --duplicates 0.97 --outliers 10

Stopped by Ctrl-C, the same command goes on where it was. An index belongs to the run that made it: vectors of
two runs cannot be compared. Columns of a table stand beside each picture, for `sadari search --where`.""",
    "search": """Examples:
  sadari search photos-index "노란 우산"                    words, in any language that the run has learnt
  sadari search photos-index "yellow umbrella" dog.jpg    each is answered; a file asks with its picture
  sadari search photos-index "sea" -k 30 --sheet sea.png  a row of pictures a query
  sadari search photos-index "sea" --where "path LIKE '2024/%'" --json

A cosine says how near in the run's space, not how sure: compare it with others of the same query, for words
lie further from pictures than pictures from each other.""",
}
TEXTS = {
    "start": (
        """Sadari {version}: how far up do you need to climb?

  sadari climb diabetes                  every rung on a bundled table, and which one is worth it
  sadari climb table.csv --target price  the same on a table of yours
  sadari rungs                           what the rungs are, and why each was invented

All verbs: sadari --help""",
        """사다리 {version}: 어디까지 올라가야 할까요?

  sadari climb diabetes                  내장 표에서 모든 단을 훈련하고, 어느 단이 값어치를 하는지 알려 줍니다
  sadari climb table.csv --target price  같은 일을 내 표에서
  sadari rungs                           어떤 단이 있고, 각 단은 왜 생겨났는지

모든 명령: sadari --help""",
    ),
    "interrupted": (
        "interrupted; nothing is half-written, and the same command again goes on from what is finished",
        "중단되었습니다. 반쯤 쓰인 파일은 없으며, 같은 명령을 다시 주면 끝난 곳에서 이어 갑니다",
    ),
    "fault": (
        "{kind}: {message} -- this is a fault of Sadari; SADARI_TRACE=1 shows where it happened",
        "{kind}: {message} -- 사다리의 결함입니다. SADARI_TRACE=1을 주면 일어난 곳이 보입니다",
    ),
}


def make_app() -> App:
    """The verbs with their help; a verb's own file is read when the verb is called."""
    app = App(
        name="sadari",
        help="Climb from a line to deep networks on your own data, and learn how far up is worth it.",
        help_epilogue="sadari VERB --help explains a verb; sadari fit RUNG --help shows a rung's settings.",
        help_format="plaintext",
        version=lambda: f"sadari {_version()}",
        console=say.console(stderr=False),
        result_action="return_value",
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
    )
    app.default(_start)
    for order, (verb, text) in enumerate(VERBS.items()):
        more = {"help_epilogue": EPILOGUES[verb]} if verb in EPILOGUES else {}
        app.command(f"sadari.cli.{verb}:{verb}", name=verb, help=text, sort_key=order, **more)
    app.register_install_completion_command(
        help="Let your shell complete these words (bash, zsh, fish, PowerShell).", sort_key=len(VERBS)
    )
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a column named in Hangul must not break a terminal that has none
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; no exception leaves, unless SADARI_TRACE asks for it."""
    from sadari.cli.mistakes import explain

    lang = _lang_of(arguments)
    try:
        make_app()(arguments)
        sys.stdout.flush()
        return 0
    except SadariError as error:
        say.error(str(error), lang)
        return 2
    except CycloptsError as error:
        say.error(explain(error, VERBS), lang)
        return 2
    except KeyboardInterrupt as interrupt:
        say.aside(str(interrupt) or pick(TEXTS, "interrupted", lang))
        return 130
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or Python complains once more at exit
        return 141
    except OSError as error:  # a full disk, a name too long: nothing that a change of ours would mend
        if os.environ.get("SADARI_TRACE"):
            raise
        say.error(": ".join(str(part) for part in (error.filename, error.strerror or error) if part), lang)
        return 2
    except Exception as error:
        if os.environ.get("SADARI_TRACE"):
            raise
        say.error(pick(TEXTS, "fault", lang, kind=type(error).__name__, message=error), lang)
        return 1


def _start() -> None:
    print(pick(TEXTS, "start", default_lang(), version=_version()))


def _version() -> str:
    """The installed version; the library that looks it up is slow to import."""
    from importlib.metadata import version

    return version("sadari")


def _lang_of(arguments: list[str]) -> Lang:
    """The language of errors, known before the arguments are read in earnest."""
    words = " ".join(arguments).replace("--lang=", "--lang ").split()
    asked = {value for flag, value in pairwise(words) if flag == "--lang"}
    return "ko" if "ko" in asked else "en" if "en" in asked else default_lang()

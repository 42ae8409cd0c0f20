"""`sadari translate RUN [FILE | TEXT ...]`: lines in, one line out for each, as they come."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from sadari.cli import say
from sadari.cli.opening import open_run
from sadari.cli.options import REST, LangOption, QuietOption, RunArgument, natural, switch
from sadari.cli.settings import option, with_options
from sadari.describe import fields_of
from sadari.errors import SadariError
from sadari.lang import Lang, default_lang, pick

if TYPE_CHECKING:
    from sadari.translate import Target, Translation

SEARCH = Group("The search", sort_key=2)
SHOWN = Group("What is shown", sort_key=3)
BROKEN = "\N{REPLACEMENT CHARACTER}"
BLOCK = 1 << 16
_FILE = re.compile(r"\S+\.(txt|text|md|tsv|csv|jsonl|gz)|\S*[/\\]\S+\.\w+", re.IGNORECASE)
_OPTION = re.compile(r"-[a-zA-Z]|--[a-zA-Z][\w-]*(=.*)?")
TEXTS = {
    "type": ("type a line and press Enter; Ctrl-D ends", "한 줄을 쓰고 Enter를 누르세요. Ctrl-D로 끝냅니다"),
    "cut": (
        "line {line:,} has {tokens:,} tokens and the run reads {read:,}; the last {left:,} were left out",
        "{line:,}번째 줄의 토큰 {tokens:,}개 가운데 {read:,}개까지만 읽고 끝의 {left:,}개는 뺐습니다",
    ),
    "broken": (
        "line {line:,} holds bytes that are no {encoding}; they are read as {sign}, and so in later lines",
        "{line:,}번째 줄에 {encoding}이 아닌 바이트가 있어 {sign}로 읽었습니다. 뒤의 줄도 그렇게 읽습니다",
    ),
}


def translate_texts(
    run: RunArgument,
    /,
    *texts: Annotated[
        str,
        Parameter(
            help="A file of lines (gzipped or not), or texts, each a line; left out or `-`: standard input.",
            show_default=False,
            allow_leading_hyphen=True,
        ),
    ],
    sample: Annotated[
        bool,
        switch(help="Draw by the model's odds, that is --temperature 1 unless it is given.", group=SEARCH),
    ] = False,
    prefix: Annotated[
        str, Parameter(help="Text that every answer begins with.", group=SEARCH, show_default=False)
    ] = "",
    alignment: Annotated[
        bool,
        switch(
            help="Behind a tab, pairs i-j: word j looked at word i of the line, counted from 0 between "
            "spaces, as fast_align writes them.",
            group=SHOWN,
        ),
    ] = False,
    out: Annotated[
        Path | None, Parameter(help="The file to write; else standard output.", group=REST)
    ] = None,
    jobs: Annotated[
        int, Parameter(help="Batches in work at once, each on one thread.", group=REST, converter=natural)
    ] = 1,
    precision: Annotated[
        Literal["fp32", "bf16", "int8"],
        Parameter(
            help="Of the products with weights: bf16 and int8 may write other words, and are faster where "
            "weights outgrow the processor's caches.",
            group=REST,
        ),
    ] = "fp32",
    engine: Annotated[
        Literal["sadari", "ctranslate2"],
        Parameter(
            help="Whose search it is: ctranslate2, for a transformer, is converted to at the first use.",
            group=REST,
        ),
    ] = "sadari",
    quiet: QuietOption = False,
    lang: LangOption = None,
    **searching: Any,
) -> None:
    """Turn lines of text into others with a run of pairs.

    A line becomes its best target; with --n-best above 1 a JSON object: {"source": ..., "targets": [{"text",
    "score", "logp", "alignment"}, ...]}, so that one line goes out for one that comes in, whatever it holds.
    """
    lang = lang or default_lang()
    if wrong := next(filter(_OPTION.fullmatch, texts), None):
        raise SadariError(
            f"{wrong} is no option of translate; sadari translate --help shows them, and a text that begins "
            "so can come from standard input"
        )
    opened = open_run(run, lang, quiet, lambda task, rung, kind: task == "translate")
    from sadari.search import Searching
    from sadari.translate import translate_lines

    asked = {name: value for name, value in searching.items() if value is not None}
    if sample:
        asked.setdefault("temperature", 1.0)
    how = Searching(**asked)
    lines, live = _lines_of(texts, lang, quiet)
    found = translate_lines(
        opened, lines, how, jobs=jobs, prefix=prefix, align=alignment, scores=how.n_best > 1,
        precision=precision, engine=engine,
    )  # fmt: skip
    with _output(out, live) as write:
        for number, line in enumerate(found, 1):
            if line.left_out and not quiet:
                read = opened.spec.length
                values = {"tokens": read + line.left_out, "read": read, "left": line.left_out}
                say.aside(pick(TEXTS, "cut", lang, line=number, **values))
            write(_shown(line, how.n_best, alignment))
    if out is not None:
        say.result(out)


def _shown(line: Translation, n_best: int, alignment: bool) -> str:
    """The line that goes out."""
    from sadari.translate import one_line

    if n_best > 1:
        targets = [_content(target, alignment) for target in line.targets]
        return json.dumps({"source": line.source, "targets": targets}, ensure_ascii=False)
    text = one_line(line.text)
    if not alignment:
        return text
    return text.replace("\t", " ") + "\t" + (_pairs(line.targets[0]) if line.targets else "")


def _content(target: Target, alignment: bool) -> dict[str, Any]:
    numbers = {"score": target.score, "logp": target.logp}  # JSON has no infinity
    finite = {name: round(value, 6) if isfinite(value) else None for name, value in numbers.items()}
    return {"text": target.text, **finite, **({"alignment": _pairs(target)} if alignment else {})}


def _pairs(target: Target) -> str:
    return " ".join(f"{i}-{j}" for i, j in target.pairs or ())


# lines


def _lines_of(texts: tuple[str, ...], lang: Lang, quiet: bool) -> tuple[Iterator[str | None], bool]:
    """The lines to read, and whether somebody waits for each answer."""
    if texts in ((), ("-",)):
        if sys.stdin.isatty() and not quiet:
            say.aside(pick(TEXTS, "type", lang))
        return _split(_arriving(), "utf-8-sig", lang, quiet), True
    if len(texts) > 1 or not _names_a_file(texts[0]):
        return iter(texts), True
    from sadari.data import text_files

    path = Path(texts[0])
    return _split(_blocks(path), text_files.look(path).encoding, lang, quiet), False


def _names_a_file(text: str) -> bool:
    """Whether one argument is a file. Raises SadariError for what looks like one and is not there."""
    try:
        there = Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False
    if not there and _FILE.fullmatch(text):
        raise SadariError(
            f"no file {text}; check the path, or give the text itself on standard input: echo TEXT | sadari "
            "translate RUN"
        )
    return there


def _arriving() -> Iterator[bytes | None]:
    """Standard input as it comes; None whenever the next bytes may have to be waited for."""
    stream: Any = sys.stdin.buffer
    while block := stream.read1(BLOCK):
        yield block
        yield None


def _blocks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if packed else open(path, "rb") as source:
        while block := source.read(BLOCK):
            yield block


def _split(
    blocks: Iterator[bytes] | Iterator[bytes | None], encoding: str, lang: Lang, quiet: bool
) -> Iterator[str | None]:
    """Lines, which end with a newline and nothing else; a None is handed on. What is broken is said once."""
    decoder, number, sound = codecs.getincrementaldecoder(encoding)("replace"), 0, True
    parts: list[str] = []

    def line() -> str:
        nonlocal number, sound
        text = "".join(parts).removesuffix("\r")
        number += 1
        if sound and BROKEN in text and not quiet:
            sound = False
            name = encoding.removesuffix("-sig").upper()
            say.aside(pick(TEXTS, "broken", lang, line=number, encoding=name, sign=BROKEN))
        return text

    for block in blocks:
        if block is None:
            yield None
            continue
        first, *more = decoder.decode(block).split("\n")
        parts.append(first)
        for rest in more:
            yield line()
            parts = [rest]
    parts.append(decoder.decode(b"", True))
    if any(parts):
        yield line()


@contextmanager
def _output(out: Path | None, live: bool) -> Iterator[Callable[[str], Any]]:
    """What writes a line: to standard output, or to a file that takes its place when all is written."""
    if out is None:
        flush = live or sys.stdout.isatty()
        yield lambda line: print(line, flush=flush)
        return
    part = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        file: IO[str]
        with open(part, "w", encoding="utf-8", newline="\n") as file:
            yield lambda line: file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before the bytes that it names
        os.replace(part, out)
    except OSError as error:
        raise SadariError(f"cannot write {out} ({error.strerror}); choose another file with --out") from error
    finally:
        part.unlink(missing_ok=True)


translate = with_options(
    translate_texts, [option(field, SEARCH) for field in fields_of("sadari.search.settings", "Searching")]
)

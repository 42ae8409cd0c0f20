"""What the command line says besides its result: always on standard error, in the reader's language."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sadari.lang import Lang, Note, default_lang, pick

if TYPE_CHECKING:
    from rich.console import Console

    from sadari.data.prepare import Prepared

TEXTS = {
    "table": ("{name}: {rows:,} rows, {columns:,} column{s}; ", "{name}: {rows:,}행, {columns:,}열; "),
    "texts": ("{name}: {rows:,} texts; ", "{name}: 글 {rows:,}편; "),
    "corpus": ("{name}: {rows:,} documents, {bytes}; ", "{name}: 문서 {rows:,}편, {bytes}; "),
    "label": (
        "text `{text}`, label `{target}` with {classes} classes",
        "글 `{text}`, 라벨 `{target}`의 범주 {classes}가지",
    ),
    "images": (
        "{name}: {rows:,} pictures, {size} x {size} in {colours}; label `{target}` with {classes} classes",
        "{name}: 그림 {rows:,}장, {size} x {size} {colours}; 라벨 `{target}`의 범주 {classes}가지",
    ),
    "captions": (
        "{name}: {rows:,} pictures, {size} x {size} in {colours}; captions {columns} cut into {tokenizer} "
        "tokens, {vocabulary:,} of them; task match: bring both into one space",
        "{name}: 그림 {rows:,}장, {size} x {size} {colours}; 설명 {columns}을(를) {tokenizer} 토큰 "
        "{vocabulary:,}가지로 자름; 과제 match: 둘을 한 공간에 놓기",
    ),
    "grey": ("grey", "흑백"),
    "colour": ("colour", "컬러"),
    "pairs": ("{name}: {rows:,} pairs; ", "{name}: {rows:,}쌍; "),
    "translate": (
        "task translate: from `{text}` to `{target}`",
        "과제 translate: `{text}`에서 `{target}`(으)로",
    ),
    "language": (
        "task language: foretell each token from those before it",
        "과제 language: 앞의 토큰으로 다음 토큰 맞히기",
    ),
    "cut": (
        "; cut into {tokenizer} tokens, {vocabulary:,} of them",
        "; {tokenizer} 토큰 {vocabulary:,}가지로 자름",
    ),
    "own": ("target `{target}`, task {task}", "목표 `{target}`, 과제 {task}"),
    "regress": (
        "target `{target}` is numeric, so the task is regress",
        "목표 `{target}`의 값이 수이므로 과제는 regress",
    ),
    "classify": (
        "target `{target}` has {classes} classes, so the task is classify",
        "목표 `{target}`의 범주가 {classes}가지이므로 과제는 classify",
    ),
    "last": (
        " (the last column is the target unless --target names one)",
        " (--target이 없으면 마지막 열이 목표)",
    ),
    "streamed": ("; larger than memory, so it is streamed", "; 메모리보다 커서 나누어 읽음"),
    "note": ("note", "알림"),
    "warning": ("warning", "주의"),
    "error": ("error", "오류"),
}


def console(stderr: bool = True) -> Console:
    """A console on the stream as it is now (tests replace it); rich itself honours NO_COLOR and pipes."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would leave with 1; `sadari.cli.run` knows what to do

    stream = sys.stderr if stderr else sys.stdout
    return Plain(file=stream, highlight=False, soft_wrap=not stream.isatty())


def error(message: str, lang: Lang | None = None) -> None:
    """One line on standard error: newlines within the message become spaces."""
    line = " ".join(str(message).split())
    _line(pick(TEXTS, "error", lang or default_lang()), line, "bold red")


def notes(found: Iterable[Note], lang: Lang) -> None:
    """Each note on its own line, warnings first and in colour."""
    for note in sorted(found, key=lambda note: note.level != "warning"):
        kind = "warning" if note.level == "warning" else "note"
        _line(pick(TEXTS, kind, lang), note.say(lang), "bold yellow" if kind == "warning" else "dim")


def prepared(prepared: Prepared, *, target: str | None, task: str | None, lang: Lang) -> None:
    """What was read and how it was understood, in a line; then the notes about the data."""
    if prepared.kind in ("text", "pairs"):
        aside(_texts(prepared, lang))
        notes(prepared.notes, lang)
        return
    if prepared.kind in ("images", "captions"):
        aside(_images(prepared, lang))
        notes(prepared.notes, lang)
        return
    table, spec = prepared.table, prepared.spec
    columns = len(table.schema) - 1
    asked = task is not None or (table.task is not None and table.target == spec.target)
    line = pick(
        TEXTS, "table", lang, name=table.name, rows=table.rows, columns=columns, s="s" * (columns > 1)
    )
    line += pick(
        TEXTS,
        "own" if asked else prepared.task,
        lang,
        target=spec.target,
        task=prepared.task,
        classes=len(spec.classes or ()),
    )
    if target is None and table.target is None:
        line += pick(TEXTS, "last", lang)
    if table.streamed:
        line += pick(TEXTS, "streamed", lang)
    aside(line)
    notes(prepared.notes, lang)


def _texts(prepared: Prepared, lang: Lang) -> str:
    """How texts were understood."""
    table: Any = prepared.table
    spec: Any = prepared.spec
    if prepared.task == "language":
        size = f"{table.bytes / 1e6:,.1f} MB" if table.bytes >= 1e6 else f"{table.bytes / 1e3:,.1f} kB"
        line = pick(TEXTS, "corpus", lang, name=table.name, rows=table.rows, bytes=size)
        line += pick(TEXTS, "language", lang)
    elif prepared.task == "translate":
        line = pick(TEXTS, "pairs", lang, name=table.name, rows=table.rows)
        line += pick(TEXTS, "translate", lang, text=spec.source, target=spec.target)
    else:
        line = pick(TEXTS, "texts", lang, name=table.name, rows=table.rows)
        line += pick(TEXTS, "label", lang, text=spec.text, target=spec.target, classes=len(spec.classes))
    return line + pick(TEXTS, "cut", lang, tokenizer=spec.tokenizer.kind, vocabulary=spec.width)


def _images(prepared: Prepared, lang: Lang) -> str:
    """How pictures were understood."""
    spec: Any = prepared.spec
    about: dict[str, Any] = {"name": prepared.table.name, "rows": prepared.table.rows, "size": spec.size}
    channels = spec.width[0]
    colours = pick(TEXTS, "grey" if channels == 1 else "colour", lang)
    if prepared.kind == "captions":
        columns = ", ".join(f"`{name}`" for name in spec.captions)
        about |= {"tokenizer": spec.tokenizer.kind, "vocabulary": spec.vocabulary}
        return pick(TEXTS, "captions", lang, **about, colours=colours, columns=columns)
    return pick(
        TEXTS, "images", lang, **about, colours=colours, target=spec.target, classes=len(spec.classes)
    )


def aside(text: str) -> None:
    """A plain line on standard error."""
    print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def result(path: object) -> None:
    """The last line on standard output: the path of what was made, for the next command to read."""
    print(path, flush=True)


def _line(kind: str, text: str, style: str) -> None:
    from rich.text import Text

    console().print(Text.assemble((f"{kind}: ", style), text))

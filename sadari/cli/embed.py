"""`sadari embed DATA`: learn word vectors from text."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from sadari.cli import say
from sadari.cli.options import REST, LangOption, OutOption, QuietOption, SeedOption, TextOption, switch
from sadari.cli.settings import option, with_options
from sadari.describe import fields_of
from sadari.lang import Lang, default_lang, pick

if TYPE_CHECKING:
    from sadari.data.text import Corpus
    from sadari.data.words import Words

VECTORS = Group("The vectors", sort_key=2)
TEXTS = {
    "read": (
        "{name}: {total:,} words, {words:,} of them different; {rare:,} that occur less than {least} times "
        "are left out",
        "{name}: 낱말 {total:,}개(종류 {words:,}), {least}번보다 적게 나온 {rare:,}개는 뺐습니다",
    ),
    "compiling": (
        "compiling the kernel, once an install (about ten seconds on a quiet machine)",
        "커널을 컴파일합니다. 설치 뒤 한 번뿐입니다(한가한 컴퓨터에서 10초쯤)",
    ),
    "epoch": ("epoch {epoch}: mean loss {loss:.4f}", "{epoch}에폭: 평균 손실 {loss:.4f}"),
    "near": ("{word}: {near}", "{word}: {near}"),
    "done": (
        "{words:,} words of {width} numbers in {seconds}; next: sadari look {path} words",
        "낱말 {words:,}개, 각각 수 {width}개, {seconds}. 다음: sadari look {path} words",
    ),
}


def embed_words(
    data: Annotated[
        str,
        Parameter(
            help="A text file, a folder of them, a table with a column of text, or a bundled corpus' name."
        ),
    ],
    /,
    *,
    text: TextOption = None,
    lower: Annotated[bool, switch(help="Make all letters small first.", group=VECTORS)] = False,
    to: Annotated[
        Literal["binary", "text"], Parameter(help="Which of word2vec's formats to write.", group=REST)
    ] = "binary",
    seed: SeedOption = 0,
    out: OutOption = None,
    quiet: QuietOption = False,
    lang: LangOption = None,
    **settings: Any,
) -> None:
    """Learn word vectors from text (word2vec)."""
    lang = lang or default_lang()
    from sadari.embedding import embed, neighbours

    bar = _bar(quiet, lang)
    given = {name: value for name, value in settings.items() if value is not None}
    started = False

    def read(corpus: Corpus, words: Words) -> None:
        if quiet:
            return
        say.notes(corpus.notes, lang)
        about = {"name": corpus.name, "total": words.total + words.rare, "words": len(words.names)}
        least = given.get("min_count", 5)
        say.aside(pick(TEXTS, "read", lang, **about, rare=words.rare, least=least))

    def watch(record: dict[str, Any]) -> None:
        nonlocal started
        if not started:
            bar.start({"steps": record["steps"], "step": 0})
            started = True
        bar(record)

    def compiling() -> None:
        if not quiet:
            say.aside(pick(TEXTS, "compiling", lang))

    try:
        vectors = embed(
            data, text=text, out=out, lower=lower, seed=seed, model=given, text_format=to == "text",
            watch=watch, compiling=compiling, read=read,
        )  # fmt: skip
    finally:
        bar.close()
    if not quiet:
        for epoch in vectors.about["epochs"]:
            say.aside(pick(TEXTS, "epoch", lang, **epoch))
        for word, near in neighbours(vectors):
            print(pick(TEXTS, "near", lang, word=word, near=", ".join(near)))
        say.aside(
            pick(
                TEXTS,
                "done",
                lang,
                words=len(vectors.words),
                width=vectors.matrix.shape[1],
                seconds=say.duration(vectors.about["seconds"]),
                path=shlex.quote(str(vectors.path)),
            )
        )
    say.result(vectors.path)


def _bar(quiet: bool, lang: Lang) -> Any:
    from sadari.progress import Progress

    words = {
        "steps": ("{step:,}/{steps:,} words", "낱말 {step:,}/{steps:,}개"),
        "pace": ("{pace:,.0f} words/s", "초당 낱말 {pace:,.0f}개"),
    }

    class WordsBar(Progress):
        """The loop's bar; what it counts are words."""

        def _words(self, record: Any) -> dict[str, str]:
            import time

            said = super()._words(record)
            pace = (record["step"] - self.first) / max(time.monotonic() - self.began, 1e-9)
            values = {"step": record["step"], "steps": self.steps, "pace": pace}
            return said | {key: pick(words, key, lang, **values) for key in words if key in said}

    return WordsBar("word2vec", quiet=quiet, lang=lang)


def _settings() -> list[Any]:
    return [option(field, VECTORS) for field in fields_of("sadari.models.word2vec", "Word2VecConfig")]


embed = with_options(embed_words, _settings())

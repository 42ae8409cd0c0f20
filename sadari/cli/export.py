"""`sadari export RUN`: a trained rung in a format that other software reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sadari.cli import say
from sadari.cli.opening import open_run
from sadari.cli.options import LangOption, QuietOption, RunArgument
from sadari.lang import default_lang


def export(
    run: RunArgument,
    /,
    *,
    to: Annotated[
        Literal["onnx", "safetensors", "arpa", "marian", "ctranslate2", "huggingface", "open_clip"],
        Parameter(
            help="onnx takes raw columns, preprocessing included, tokens, or pixels, and of pictures with "
            "captions is a folder of both towers; safetensors holds the bare weights; arpa is a table of "
            "n-grams; marian (transformers' layout) and ctranslate2 are folders of a transformer of pairs; "
            "huggingface (transformers' layout) of a clip or siglip of captions, open_clip of a clip."
        ),
    ] = "onnx",
    out: Annotated[
        Path | None, Parameter(help="File or folder to write; else into the run's folder.")
    ] = None,
    quiet: QuietOption = False,
    lang: LangOption = None,
) -> None:
    """Write a trained rung in a format that other software reads."""
    opened = open_run(run, lang or default_lang(), quiet)
    from sadari.export import export as write

    say.result(write(opened, to, out))

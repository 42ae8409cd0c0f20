"""CTranslate2 in the place of our own search: for those who ship a Transformer with it, and want its int8.

A run is converted at its first use, into the cache for fetched data, and found there afterwards: the weights'
hash names it. Greedily the engine writes what our search does; over beams its score is another (it divides a
sum of log-probabilities by length to the power of the length penalty).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sadari.data.fetch import cache_folder
from sadari.errors import SadariError
from sadari.export.folders import write_folder
from sadari.files import sha256
from sadari.runs import WEIGHTS
from sadari.search import Found, Searching

if TYPE_CHECKING:
    from sadari.runs import Run

TYPES = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}
"""What it calls our precisions."""
_LEAST = {"groups": 1, "temperature": 0.0, "no_repeat": 0}  # settings that it is not asked for


class CTranslate2:
    """A run of pairs on CTranslate2.

    run        a transformer with one vocabulary for both sides, in Marian's layout
    jobs       batches that it works at at once, each on `threads` threads
    Raises SadariError when a package is missing, or the run or a setting is none that it has a place for.
    """

    def __init__(
        self,
        run: Run,
        searching: Searching,
        precision: str = "fp32",
        jobs: int = 1,
        cache: Path | None = None,
    ) -> None:
        try:
            import ctranslate2
        except ImportError as error:
            raise SadariError(
                "--engine ctranslate2 needs the packages ctranslate2 and transformers; install them with: "
                "pip install 'sadari[ctranslate2]'"
            ) from error
        for name, usual in _LEAST.items():
            if (value := getattr(searching, name)) != usual:
                flag = "--" + name.replace("_", "-")
                raise SadariError(
                    f"{flag} {value} is not handed on to ctranslate2; leave it out, or use --engine sadari"
                )
        if TYPES[precision] not in ctranslate2.get_supported_compute_types("cpu"):
            raise SadariError(
                f"--precision {precision}: ctranslate2 has no such products on this processor; use another"
            )
        self.spec: Any = run.spec
        self.how = searching
        threads = 1 if jobs > 1 else torch.get_num_threads()
        self.engine = ctranslate2.Translator(
            str(converted(run, cache)),
            compute_type=TYPES[precision],
            inter_threads=jobs,
            intra_threads=threads,
        )
        own = self.spec.tokenizer
        self.words = [own.token(token) for token in range(own.size)]
        self.numbers = {word: token for token, word in enumerate(self.words)}

    def search(
        self, sources: Sequence[np.ndarray], begun: Sequence[int], limits: np.ndarray | None
    ) -> list[list[Found]]:
        """The targets of each source (its tokens, END behind), the best first; `logp` is NaN.

        begun    tokens that every target begins with
        limits   tokens written at most for each, where `max_tokens` is 0; the largest holds for all
        """
        most = self.how.max_tokens or (int(limits.max()) if limits is not None else 0)
        found = self.engine.translate_batch(
            [[self.words[token] for token in source] for source in sources],
            target_prefix=[[self.words[token] for token in begun]] * len(sources) if begun else None,
            beam_size=self.how.beam,
            num_hypotheses=self.how.n_best,
            length_penalty=self.how.length_penalty,
            max_decoding_length=most or 2 * max(map(len, sources)) + 10,
            return_scores=True,
        )
        return [
            [
                Found([self.numbers[word] for word in words], math.nan, score)
                for words, score in zip(one.hypotheses, one.scores, strict=True)
            ]
            for one in found
        ]


def converted(run: Run, cache: Path | None = None) -> Path:
    """The folder that CTranslate2 opens for a run: made now, or found."""
    weights = sha256(run.path / WEIGHTS)
    folder = cache_folder(cache) / "ctranslate2" / weights[:32]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as scratch:
            made = write_folder(run, "ctranslate2", Path(scratch) / "made")
            with suppress(FileExistsError, OSError):  # another process was faster with the same weights
                made.rename(folder)
    return folder

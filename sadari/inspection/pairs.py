"""Pairs to look at a translator with: some of a part, what it makes of them, and tokens as words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sadari.data.tokenizers import Tokenizer
from sadari.errors import SadariError
from sadari.inspection.rows import PARTS, Part
from sadari.layers.tokens import PAD, trimmed
from sadari.search import Found, Searching, Step, search

if TYPE_CHECKING:
    from sadari.runs import Run

BLOCK = 64  # sources searched together
SPACES = ("▁", "↵", "⇥")  # how tokenizers show white space
END = "END"  # what pictures call the token that ends a text


@dataclass(frozen=True)
class Pairs:
    """N pairs of a run's data, as texts."""

    sources: list[str]
    references: list[str]

    def __len__(self) -> int:
        return len(self.sources)

    def chosen(self, rows: Sequence[int] | np.ndarray) -> Pairs:
        """These of them, in this order."""
        return Pairs([self.sources[i] for i in rows], [self.references[i] for i in rows])


def pairs_of(run: Run, part: Part, most: int | None = None) -> Pairs:
    """All pairs of a part, or `most` of them drawn evenly at random, always the same ones, in file order.

    Raises SadariError when the part has no such name, when `most` is below 1, or the data has changed.
    """
    if part not in PARTS:
        raise SadariError(f"part {part!r} is no part of the split; choose train, validation or test")
    if most is not None and most < 1:
        raise SadariError(f"--most {most} leaves no pair to look at; give 1 or more")
    prepared, spec = run.data(), run.spec
    numbers = getattr(prepared.split, part)
    if most is not None and len(numbers) > most:
        numbers = np.sort(np.random.default_rng(0).choice(numbers, most, replace=False))
    frame = prepared.table.frame.collect()[numbers]
    return Pairs(frame[spec.source].to_list(), frame[spec.target].to_list())


def opened(path: str | Path, like: Run) -> Run:
    """The run at `path`, to stand beside another of the same pairs in the same split.

    Raises SadariError when there is no run, or it was fitted to other data.
    """
    from sadari.runs import Run

    run = Run.load(Path(path).expanduser())
    if run.kind != "pairs":
        raise SadariError(f"--beside {path} is a {run.rung} of task {run.task.name}; give a run of translate")
    same = ("fingerprint", "target")
    if any(run.config["data"][key] != like.config["data"][key] for key in same) or (
        run.config["seed"] != like.config["seed"]
    ):
        raise SadariError(
            f"--beside {path} was fitted to other pairs or another split of them; give runs of the same data "
            "and seed"
        )
    return run


def names_of(runs: Sequence[Run]) -> list[str]:
    """A name for each run: its rung, and its folder where two have the same."""
    rungs = [run.rung for run in runs]
    names = [run.rung if rungs.count(run.rung) == 1 else f"{run.rung} ({run.path.name})" for run in runs]
    return [name if names.count(name) == 1 else f"{name} {i + 1}" for i, name in enumerate(names)]


def sources_of(run: Run, texts: Sequence[str]) -> Int[Tensor, "N S"]:
    """Texts as the run reads them, PAD at the right."""
    tokens = [torch.from_numpy(one.astype(np.int64)) for one in run.spec.encode_sources(texts)]
    return pad_sequence(tokens, batch_first=True, padding_value=PAD)


def targets_of(run: Run, texts: Sequence[str]) -> Int[Tensor, "N T1"]:
    """Texts as the run writes them: START, tokens, END, PAD at the right."""
    return torch.from_numpy(run.spec.encode_targets(texts).astype(np.int64))


def translated(
    run: Run, texts: Sequence[str], searching: Searching, trace: list[Step] | None = None
) -> list[list[Found]]:
    """What a search finds for each text, the best first; texts of like length are searched together."""
    sources = sources_of(run, texts)
    lengths = (sources != PAD).sum(1)
    order = lengths.argsort(stable=True)
    found: list[list[Found]] = [[] for _ in texts]
    for rows in order.split(BLOCK):
        block = trimmed(sources[rows])
        answers = search(
            run.model,  # type: ignore[arg-type]
            block,
            searching,
            run.spec.start,
            run.spec.end,
            trace=trace,
            limits=run.spec.limits(lengths[rows].numpy()),
        )
        for i, answer in zip(rows.tolist(), answers, strict=True):
            found[i] = answer
    return found


def shown_token(tokenizer: Tokenizer, token: int, first: bool = False) -> str:
    """A token as a word of a picture: END by its name; with a hyphen what goes on the word before, if any."""
    if token == tokenizer.end:
        return END
    name = tokenizer.token(token)
    text = name.removeprefix("##").strip("▁") or "▁"
    apart = first or name.startswith((*SPACES, "<")) or _apart(tokenizer) or not text[0].isalnum()
    return text if apart and not name.startswith("##") else f"-{text}"


def words_of(tokenizer: Tokenizer, tokens: Sequence[int]) -> tuple[list[str], Int[np.ndarray, " T"]]:
    """The words that tokens make, and which of them each token is in.

    A word goes from one space to the next, so that the bytes of a letter stand together; tokenizers of words
    and of characters have a token for each already. Special tokens stand alone.
    """
    special = {tokenizer.start: "START", tokenizer.end: END}
    parted, place, before = _apart(tokenizer), -1, tokenizer.start
    places = []
    for token in map(int, tokens):
        name = tokenizer.token(token)
        goes_on = name.startswith("##") or not (parted or name.startswith(SPACES))
        if not goes_on or token in special or before in special:
            place += 1
        before = token
        places.append(place)
    found = np.array(places, int)
    words = []
    for word in range(place + 1):
        inside = [int(token) for token, at in zip(tokens, places, strict=True) if at == word]
        said = special.get(inside[0]) or tokenizer.decode(inside).strip()
        words.append(said or "".join(map(tokenizer.token, inside)))
    return words, found


def _apart(tokenizer: Tokenizer) -> bool:
    """Whether every token is a word, unless it says that it goes on: none of the first has a space."""
    if tokenizer.kind in ("words", "characters"):
        return True
    if tokenizer.kind in ("bpe", "unigram"):
        return False
    return not any(tokenizer.token(token).startswith("▁") for token in range(min(tokenizer.size, 5000)))


def by_words(
    weights: Float[np.ndarray, "T S"], down: Int[np.ndarray, " T"], across: Int[np.ndarray, " S"]
) -> Float[np.ndarray, "t s"]:
    """Weights between words: summed over a source word's tokens, the mean over a target word's."""
    rows: Any = np.eye(down.max() + 1)[down]  # (T, t)
    columns: Any = np.eye(across.max() + 1)[across]  # (S, s)
    return (rows / rows.sum(0)).T @ weights @ columns

"""Use a run of pairs: lines of text in, one answer each out, in their order, however many there are.

Lines are read a window at a time, sorted by length inside it so that little is padded, and put back in order.
What a line becomes does not depend on its company: a file and a person who types get the same.
"""

from __future__ import annotations

import multiprocessing
import re
import signal
import sys
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from sadari.data.spec_text import padded
from sadari.data.tokenizers import Tokenizer, clean_text
from sadari.errors import SadariError
from sadari.layers.rounded import can_round
from sadari.search import Found, Searching, aligned, search

if TYPE_CHECKING:
    from sadari.engines import CTranslate2
    from sadari.runs import Run

GREEDY = Searching()
WINDOW = 2048  # lines that are sorted at once
WINDOW_TEXT = 1 << 21  # letters after which a window is full
FAR = 4  # a batch counts a source as a quarter of the most that its target may become, if that is more
_ENDS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")  # whatever some program takes for a line's end
_WHOLE = ("bpe", "unigram")  # tokenizers to which nothing is unknown

Span = tuple[int, int]
Precision = Literal["fp32", "bf16", "int8"]
Engine = Literal["sadari", "ctranslate2"]


@dataclass(frozen=True)
class Target:
    """One translation of a line."""

    text: str
    logp: float
    """Sum of its tokens' log-probabilities; NaN where it was not asked for."""
    score: float
    """That over the length penalty."""
    pairs: tuple[tuple[int, int], ...] | None = None
    """(i, j): word j of the text looked at word i of the source, both counted from 0 between spaces."""


@dataclass(frozen=True)
class Translation:
    """What became of a line."""

    source: str
    targets: tuple[Target, ...] = ()
    """The best first; none for a line of nothing but white space."""
    left_out: int = 0
    """Tokens at the line's end that were not read, as the run reads no more."""

    @property
    def text(self) -> str:
        """The best translation; empty for an empty line."""
        return self.targets[0].text if self.targets else ""


def check_translates(run: Run) -> None:
    """Raise SadariError when the run is not one of pairs."""
    if getattr(run.spec, "task", "") != "translate":
        raise SadariError(
            f"run {run.path} is a {run.rung} for {run.config['task']} and translates nothing; give one that "
            f"was fitted on pairs with --task translate"
        )


def translate_lines(
    run: Run,
    lines: Iterable[str | None],
    searching: Searching = GREEDY,
    *,
    batch_tokens: int = 4096,
    jobs: int = 1,
    prefix: str = "",
    align: bool = False,
    scores: bool = False,
    precision: Precision = "fp32",
    engine: Engine = "sadari",
) -> Iterator[Translation]:
    """One `Translation` for each line, in order, while the lines are still coming.

    lines         a None among them asks for the answers to all before it
    batch_tokens  tokens searched at once: sources with their padding, times the beam
    jobs          batches in work at once, each on one thread: in processes where a process can be forked
    prefix        text that every translation begins with
    align         fill `Target.pairs`
    scores        fill `Target.logp` and `score` of a greedy search too, which is slower
    precision     of the products with weights: fp32; bf16 and int8 may write other words
    engine        whose search it is: sadari, or ctranslate2 for a transformer (see `sadari.engines`)

    A line of white space has no translation; one longer than the run reads is cut, and says so. A word that
    the target's vocabulary lacks is copied from where it was looked at; a model that shows no such place
    writes words that it knows instead. Raises SadariError for a run of another task, and for `align` where
    the model has no alignment.
    """
    check_translates(run)
    for name, value in (("batch_tokens", batch_tokens), ("jobs", jobs)):
        if value < 1:
            raise SadariError(
                f"{name} {value} is below 1; use {name}={dict(batch_tokens=4096, jobs=1)[name]}"
            )
    model: Any = run.model
    if align and getattr(model, "alignment", None) is None:
        raise SadariError(
            f"{run.rung} keeps no account of where it looks, so that words cannot be aligned; use a run of "
            "lstm-attention or transformer, or leave the alignment out"
        )
    if precision != "fp32" and engine == "sadari" and not can_round(precision):
        raise SadariError(f"--precision {precision}: torch has no such products here; leave it out")
    work = _Work(run, searching, batch_tokens, prefix, align, scores, precision)
    if engine == "ctranslate2":
        from sadari.engines import CTranslate2

        work = replace(work, engine=CTranslate2(run, searching, precision, jobs))
    return _stream(work, lines, jobs)


def _stream(work: _Work, lines: Iterable[str | None], jobs: int) -> Iterator[Translation]:
    with _workers(work, jobs) as mapped:
        for window in _windows(lines):
            yield from work.window(window, mapped)


@contextmanager
def _workers(work: _Work, jobs: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """What goes through batches, in their order: here, or in processes, or in threads.

    Two processes write 1.08 (5 beams) to 1.16 times (greedy) as much as two threads, which wait for each
    other between the products. They are forked, so that none reads the run again; not from a device's
    process, which cannot be.
    """
    if jobs == 1:
        yield lambda texts, tokens: map(work.answers, texts, tokens)
        return
    parameter = next(work.run.model.parameters(), None)
    forked = "fork" in multiprocessing.get_all_start_methods() and sys.platform == "linux"
    if forked and not work.engine and (parameter is None or parameter.device.type == "cpu"):
        context: Any = multiprocessing.get_context("fork")
        processes = ProcessPoolExecutor(jobs, context, _begin, (work,))
        try:
            yield lambda texts, tokens: _forked_map(processes, texts, tokens)
        except BrokenProcessPool as error:
            raise SadariError(
                f"one of {jobs} jobs was ended from outside, as when memory is short; use a smaller --jobs"
            ) from error
        finally:
            processes.shutdown(cancel_futures=True)
        return
    before = torch.get_num_threads()
    threads = ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield lambda texts, tokens: threads.map(work.answers, texts, tokens)
    finally:
        threads.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _forked_map(
    pool: ProcessPoolExecutor, texts: Sequence[Sequence[str]], tokens: Sequence[Sequence[np.ndarray]]
) -> Iterator[Any]:
    with warnings.catch_warnings():  # a child of one thread does not miss the parent's others
        warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
        return pool.map(_answers_here, texts, tokens)


def _begin(work: _Work) -> None:
    """In a new process: what it works for; Ctrl-C is the parent's to answer."""
    global _HERE
    _HERE = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


_HERE: _Work | None = None  # in a process that was forked for it


def _answers_here(texts: Sequence[str], tokens: Sequence[np.ndarray]) -> list[list[Target]]:
    assert _HERE is not None
    return _HERE.answers(texts, tokens)


def _windows(lines: Iterable[str | None]) -> Iterator[list[str]]:
    """Lines to be sorted together: up to a None, or to so many lines or letters."""
    window: list[str] = []
    letters = 0
    for line in lines:
        if line is not None:
            window.append(line)
            letters += len(line)
        if window and (line is None or len(window) == WINDOW or letters >= WINDOW_TEXT):
            yield window
            window, letters = [], 0
    if window:
        yield window


@dataclass(frozen=True)
class _Work:
    """What stays the same from window to window."""

    run: Run
    searching: Searching
    batch_tokens: int
    prefix: str
    align: bool
    scores: bool
    precision: Precision = "fp32"
    engine: CTranslate2 | None = None

    def window(self, lines: Sequence[str], mapped: Callable[..., Iterable[Any]]) -> list[Translation]:
        """The translations of some lines; `mapped` goes through the batches."""
        spec: Any = self.run.spec
        said = [i for i, line in enumerate(lines) if line.strip()]
        sources = dict(zip(said, spec.encode_sources([lines[i] for i in said]), strict=True))
        said = [i for i in said if len(sources[i]) > 1]  # more than END
        batches = self._batches(sorted(said, key=lambda i: -len(sources[i])), sources)
        out = [Translation(line) for line in lines]
        texts = [[lines[i] for i in rows] for rows in batches]
        tokens = [[sources[i] for i in rows] for rows in batches]
        for rows, answers in zip(batches, mapped(texts, tokens), strict=True):
            for i, answer in zip(rows, answers, strict=True):
                out[i] = Translation(lines[i], tuple(answer), self._left_out(lines[i], sources[i]))
        return out

    def _batches(self, order: Sequence[int], sources: dict[int, np.ndarray]) -> list[list[int]]:
        """Sources of falling length, as many at once as the tokens allow."""
        batches: list[list[int]] = []
        each = max(self.searching.beam, self.searching.n_best)
        lengths = np.array([len(sources[i]) for i in order], int)
        limits = self.run.spec.limits(lengths)
        counted = lengths if limits is None else np.maximum(lengths, limits // FAR)
        size = dict(zip(order, counted.tolist(), strict=True))
        for i in order:
            first = batches[-1][0] if batches else i
            if batches and (len(batches[-1]) + 1) * size[first] * each <= self.batch_tokens:
                batches[-1].append(i)
            else:
                batches.append([i])
        return batches

    def answers(self, texts: Sequence[str], tokens: Sequence[np.ndarray]) -> list[list[Target]]:
        """The targets of a batch of sources."""
        spec: Any = self.run.spec
        model: Any = self.run.model
        unknown = spec.tokenizer.unknown
        copies = unknown is not None and spec.tokenizer.kind not in _WHOLE
        copies = copies and getattr(model, "alignment", None) is not None
        never = {spec.start} if copies or unknown is None else {spec.start, unknown}
        begun = spec.tokenizer.encode([self.prefix])[0].tolist() if self.prefix else []
        limits = spec.limits([len(one) for one in tokens])
        parameter = next(model.parameters(), None)
        sources = torch.from_numpy(padded(tokens)).long().to(None if parameter is None else parameter.device)
        if self.engine is not None:
            found = self.engine.search(tokens, begun, limits)
            if self.align:
                found = aligned(model, sources, found, spec.start)
        else:
            found = search(
                model, sources, self.searching, spec.start, spec.end, never, [begun] * len(texts),
                align=self.align, scores=self.scores, limits=limits, precision=self.precision,
            )  # fmt: skip
        if copies and not self.align and any(unknown in one.tokens for answers in found for one in answers):
            found = aligned(model, sources, found, spec.start)
        return [
            [self._target(text, len(source) - 1, one, unknown) for one in answers]
            for text, source, answers in zip(texts, tokens, found, strict=True)
        ]

    def _target(self, source: str, size: int, one: Found, unknown: int | None) -> Target:
        """Tokens to text, with unknown words copied, and with the words' alignment if asked for."""
        spec = self.run.spec
        text, pairs = spec.decode(one.tokens), None
        if one.alignment is not None and (self.align or unknown in one.tokens):
            looks = one.alignment[:, :size].float().cpu().numpy()  # END has no text
            clean, read = clean_text(source), spans(spec.source_tokenizer, source)[:size]
            pieces = pieces_of(spec.tokenizer, one.tokens)
            lacking = [token == unknown for token in one.tokens]
            pieces = replace_unknown(pieces, lacking, looks, [clean[slice(*span)] for span in read])
            text = "".join(pieces)
            if self.align:
                cuts = np.cumsum([0, *map(len, pieces)]).tolist()
                pairs = word_pairs(looks, words_at(clean, read), words_at(text, pairwise(cuts)))
        return Target(text, one.logp, one.score, pairs)

    def _left_out(self, line: str, tokens: np.ndarray) -> int:
        """Tokens of a line that were cut off: looked up again only where a cut is possible."""
        spec = self.run.spec
        if len(tokens) < spec.length:
            return 0
        return max(0, len(spec.source_tokenizer.encode([line])[0]) + 1 - len(tokens))


def replace_unknown(
    pieces: Sequence[str], unknown: Sequence[bool], alignment: np.ndarray, words: Sequence[str]
) -> list[str]:
    """Pieces of a target (T,) in which each unknown one is the source's word that it looked at most.

    pieces     text of each target token; joined they are the target
    unknown    (T,) which of them stand for a word that the vocabulary lacks
    alignment  (T, S) where each token looked
    words      (S,) text of each source token; what is white space is never copied

    The spaces around a piece stay. (Luong et al. 2015, 1410.8206, copied by positions that the model wrote;
    Jean et al. 2015, 1412.2007, by the attention, as here.)
    """
    out, said = list(pieces), [i for i, word in enumerate(words) if word.strip()]
    for j in np.flatnonzero(unknown) if said else ():
        word = words[said[int(alignment[j, said].argmax())]].strip()
        bare = out[j].strip()
        out[j] = out[j].replace(bare, word, 1) if bare else word
    return out


def spans(tokenizer: Tokenizer, text: str) -> list[Span]:
    """From where to where in the clean text each of its tokens stands."""
    return tokenizer.spans(clean_text(text))


def pieces_of(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[str]:
    """The text that each token adds to what stands before it; joined they are the decoded text.

    A letter of several tokens belongs to its last one.
    """
    text, cuts = tokenizer.decode(tokens), [0]
    for n in range(1, len(tokens)):
        begun = tokenizer.decode(tokens[:n])
        differ = (i for i, (a, b) in enumerate(zip(text, begun, strict=False)) if a != b)
        cuts.append(max(cuts[-1], next(differ, min(len(text), len(begun)))))
    return [text[a:b] for a, b in pairwise([*cuts, len(text)])] if len(tokens) else []


def words_at(text: str, where: Iterable[Span]) -> list[int]:
    """Which word of a text each stretch begins, counted from 0 between white space; -1 for white space."""
    starts = [match.start() for match in re.finditer(r"\S+", text)]
    found = []
    for first, last in where:
        letters = text[first:last]
        skipped = len(letters) - len(letters.lstrip())
        found.append(bisect_right(starts, first + skipped) - 1 if skipped < len(letters) else -1)
    return found


def word_pairs(
    alignment: np.ndarray, source: Sequence[int], target: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """(i, j) for each target word j: the source word i that its tokens looked at most, all together.

    alignment  (T, S) where each target token looked
    source     (S,) the word that each source token belongs to, -1 for none; `target` (T,) likewise
    """
    rows, columns = np.array(target, int), np.array(source, int)
    if not len(rows) or not len(columns) or rows.max() < 0 or columns.max() < 0:
        return ()
    sums = np.zeros((rows.max() + 1, columns.max() + 1))
    kept = np.ix_(rows >= 0, columns >= 0)
    np.add.at(sums, (rows[rows >= 0][:, None], columns[columns >= 0][None]), alignment[kept])
    return tuple(sorted((int(sums[j].argmax()), int(j)) for j in np.unique(rows[rows >= 0])))


def one_line(text: str) -> str:
    """The text with a space for whatever would begin a new line."""
    return _ENDS.sub(" ", text)

"""Scores of finished rungs: the test rows are opened here, once, when nothing is left to choose.

Validation scores choose the best rung, test rows give every number that is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from sadari.bleu import signature
from sadari.climbing.ascent import Fitted
from sadari.climbing.folder import kept
from sadari.climbing.retrieved import Vectors, recalls, searched
from sadari.data.prepare import Prepared
from sadari.data.spec_text import LanguageSpec
from sadari.data.tokens import Stream
from sadari.decode import Sampling, generate
from sadari.judge import Judged
from sadari.ladder import ladder_for
from sadari.lang import Lang, Note
from sadari.metrics import Metric, Resamples, beside, bootstrap, compare, imbalance
from sadari.price import Price, price
from sadari.scoring import found_ranks, own_targets
from sadari.sizes import Curve, answer, learn_parts
from sadari.verdict import Candidate, Verdict, decide, rule

SIZES = "sizes"
SENTENCES = 10  # test sources whose answers by every rung are shown
STRIP, CLASSES = 16, 20  # training pictures that are shown, about, and classes that they are of at most
MISTAKES = 12  # test pictures that are shown with a wrong answer
BEGINNING = 16  # tokens of a test document that every language rung is asked to continue


class Scores:
    """Everybody's answers, the metric on them, and the resamples that all of them share."""

    def __init__(self, prepared: Prepared, fitted: Sequence[Fitted], metric: Metric, seed: int) -> None:
        self.prepared, self.fitted, self.metric = prepared, fitted, metric
        self.targets = own_targets(prepared, prepared.test)
        self.resamples = Resamples(len(self.targets), seed=seed)
        self.contributions: dict[str, np.ndarray] = {}
        self.validations: dict[str, float] = {}
        self.beside: dict[str, float] = {}
        self.said: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # of pictures: class and share, (N,) each
        self.vectors: dict[str, Vectors] = {}  # of captions: what each rung makes of the test part
        for each in fitted:
            own: Any = (
                each.plan.prepared
            )  # the same rows; a pretrained encoder reads them in tokens of its own
            if prepared.kind == "captions":
                self.vectors[each.run.rung] = vectors = each.run.vectors(own.test)
                self.add(each.run.rung, each.run.answers(own.validation), found_ranks(*vectors, own.test))
            else:
                self.add(each.run.rung, *map(each.run.answers, (own.validation, own.test)))

    @property
    def judge(self) -> str:
        """What the model from outside the ladder is called."""
        return ladder_for(self.prepared.task, self.prepared.kind).judge

    def add(self, name: str, validation: np.ndarray, test: np.ndarray) -> None:
        """Score one's answers: numbers in the target's own units (N,), or probabilities (N, K)."""
        self.validations[name] = self.metric.score(
            validation, own_targets(self.prepared, self.prepared.validation)
        )
        self.contributions[name] = self.metric.contributions(test, self.targets)
        self.beside[name] = beside(self.metric).score(test, self.targets)
        if self.prepared.kind == "images":
            self.said[name] = test.argmax(1), test.max(1)

    def decide(self, worth: float | None) -> Verdict:
        """The verdict over the rungs; the judge has no part in it."""
        candidates = [
            Candidate(each.run.rung, self.validations[each.run.rung], self.contributions[each.run.rung])
            for each in self.fitted
        ]
        rows = sum(len(getattr(self.prepared.split, part)) for part in ("train", "validation", "test"))
        return decide(candidates, self.metric, self.resamples, rows=rows, worth=worth)

    def entries(self, verdict: Verdict, judged: Judged | None) -> list[dict[str, Any]]:
        """One entry a rung for climb.json, bottom to top, and the judge's if there is one."""
        best = verdict.best
        prices = [price(each.run, each.plan.prepared.validation, each.peak_memory) for each in self.fitted]
        found = []
        for number, each in enumerate(self.fitted):
            below = self.fitted[number - 1].run.rung if number else None
            entry = self._entry(each.run.rung, prices[number], below, best)
            facts = {name: each.run.result.get(name) for name in ("solved", "steps", "stopped")}
            said = [note.to_json() for note in each.run.notes if note not in self.prepared.notes]
            found.append({**entry, "run": each.run.rung, **facts, "tuned": each.tuned, "notes": said})
        if judged is None:
            return found
        judge = self.judge
        self.add(judge, judged.validation, judged.test)
        outside = self._entry(judge, judged.price, None, best)
        apart = {"from_answer": self._against(judge, verdict.rung), "trees": judged.trees}
        apart["judged"] = judged.facts
        return [*found, {**outside, **apart, "run": None, "outside": True}]

    def _against(self, name: str, other: str | None) -> dict[str, Any] | None:
        """The paired gain of one over another; None without another."""
        if other is None or other == name:
            return None
        paired = compare(self.metric, self.contributions[name], self.contributions[other], self.resamples)
        return {"rung": other, **asdict(paired)}

    def _entry(self, name: str, costs: Price, below: str | None, best: str) -> dict[str, Any]:
        mine = self.contributions[name]
        interval = bootstrap(self.metric, mine, self.resamples)

        return {
            "name": name,
            "score": interval.score,
            "low": interval.low,
            "high": interval.high,
            "validation": self.validations[name],
            "beside": self.beside[name],
            "from_below": self._against(name, below),
            "from_best": self._against(name, best),
            **asdict(costs),
            "outside": False,
        }

    def sizes(self, verdict: Verdict, folder: Path) -> dict[str, Any] | None:
        """The curve of score against data size for the rung of the verdict and the best one, and what it
        says.

        On the ground nothing is learnt, so there the best rung above stands in. None for a table that is
        streamed, and pictures that are mapped: with more than fit in memory, rows are not what is missing.
        """
        if self.prepared.table.streamed or (
            self.prepared.kind in ("images", "captions")
            and isinstance(self.prepared.train.features, np.memmap)
        ):
            return None
        names = [each.run.rung for each in self.fitted if not _learnt_elsewhere(each.run.model)]
        if len(names) < 2:
            return None
        sign = 1 if self.metric.higher else -1

        def best_of(several: Sequence[str]) -> str:
            return max(several, key=lambda name: sign * self.validations[name])

        focus = verdict.rung if verdict.rung in names[1:] else best_of(names[1:])
        above = names[names.index(focus) + 1 :]
        rival = best_of(above) if above else None
        curves = {name: self._curve(name, folder) for name in names if name in (focus, rival)}
        taller = (rival, self.contributions[rival]) if rival else None
        shown = []
        for name, curve in curves.items():
            points = [asdict(interval) for interval in curve.intervals(self.metric, self.resamples)]
            columns = {key: [point[key] for point in points] for key in ("score", "low", "high")}
            shown.append({"rung": name, "rows": list(curve.rows), **columns})
        return {"curves": shown, "answer": answer(curves[focus], self.metric, self.resamples, taller)}

    def _curve(self, name: str, folder: Path) -> Curve:
        """A rung's curve; its predictions are learnt once and then read, so that another metric costs
        nothing.
        """
        fitted = next(each for each in self.fitted if each.run.rung == name)

        def make() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
            rows, predictions = learn_parts(fitted.plan, fitted.run)
            return {str(count): part for count, part in zip(rows, predictions, strict=True)}, {}

        parts, _ = kept(folder / SIZES / f"{name}.safetensors", make)
        rows = sorted(map(int, parts))
        contributions = [self.metric.contributions(parts[str(count)], self.targets) for count in rows]
        total = len(self.prepared.split.train)
        return Curve(name, (*rows, total), (*contributions, self.contributions[name]))

    def retrieval(self, verdict: Verdict) -> dict[str, Any] | None:
        """Recalls of every rung by way and language, and what captions find by the rung of the verdict."""
        if self.prepared.kind != "captions":
            return None
        prepared: Any = self.prepared
        languages = prepared.spec.languages
        rungs = {name: recalls(found, prepared.test, languages) for name, found in self.vectors.items()}
        return {"rungs": rungs, "queries": searched(self.vectors[verdict.rung], prepared)}

    def pictures(self, verdict: Verdict) -> dict[str, Any] | None:
        """What the report shows of pictures: some of each class, and what the rung of the verdict mistakes.

        `shown` are rows of the training part, `mistakes` of the test part, the surest first, each with the
        rungs that know better. None for other data.
        """
        if self.prepared.kind != "images":
            return None
        prepared: Any = self.prepared
        classes, names = prepared.spec.classes, prepared.table.names
        shown = [
            {"row": int(row), "name": names[prepared.split.train[row]], "class": classes[code]}
            for code, row in _of_each_class(prepared.train.targets, len(classes))
        ]
        answer, share = self.said[verdict.rung]
        wrong = np.flatnonzero(answer != self.targets)
        wrong = wrong[np.argsort(-share[wrong], kind="stable")][:MISTAKES]
        rungs = [each.run.rung for each in self.fitted]
        mistakes = [
            {
                "row": int(row),
                "name": names[prepared.split.test[row]],
                "class": classes[int(self.targets[row])],
                "said": classes[int(answer[row])],
                "share": float(share[row]),
                "right": [rung for rung in rungs if self.said[rung][0][row] == self.targets[row]],
            }
            for row in (wrong if verdict.rung != rungs[0] else ())
        ]
        return {"shown": shown, "mistakes": mistakes, "wrong": int((answer != self.targets).sum())}


def _learnt_elsewhere(model: Any) -> bool:
    """Whether a rung stands on what was learnt on other data, or by another rung that has all the rows."""
    pretrained = hasattr(model, "tokenizer_json") or callable(getattr(type(model), "pictures", None))
    return pretrained or getattr(model, "taught", False)


def _of_each_class(targets: np.ndarray, classes: int) -> list[tuple[int, int]]:
    """Class and row of some pictures, as many of each class, spread evenly over its own.

    Of many classes those with the most pictures, in the order of their names.
    """
    counts = np.bincount(targets, minlength=classes)
    largest = np.sort(np.argsort(-counts, kind="stable")[:CLASSES])
    each = max(STRIP // len(largest), 1)
    found = []
    for code in largest:
        rows = np.flatnonzero(targets == code)
        count = min(each, len(rows))
        found += [(int(code), int(rows[k * len(rows) // count])) for k in range(count)]
    return found


def notes_on(prepared: Prepared, metric: Metric) -> list[Note]:
    """What was said of the data, and whether its classes make the metric flatter."""
    flattered = (
        imbalance(prepared.train.targets, prepared.spec.classes)
        if prepared.spec.classes and metric.name == "accuracy"
        else None
    )
    return [*prepared.notes, *([flattered] if flattered else [])]


def _of_texts(prepared: Prepared) -> dict[str, Any]:
    """How texts are read; nothing of a table."""
    spec: Any = prepared.spec
    if prepared.kind == "captions":
        return {"tokenizer": spec.tokenizer.kind, "vocabulary": spec.vocabulary, "length": spec.length}
    if prepared.kind not in ("text", "pairs"):
        return {}
    about: dict[str, Any] = {"tokenizer": spec.tokenizer.kind, "vocabulary": spec.width}
    if prepared.kind == "pairs":
        return {**about, "text": spec.source, "length": spec.length, "shared": spec.shared}
    if prepared.task == "language":
        parts = {name: getattr(prepared, name) for name in ("train", "validation", "test")}
        about["tokens"] = {name: len(part.features) for name, part in parts.items()}
        about["bytes"] = {name: int(part.targets.sum()) for name, part in parts.items()}
    else:
        about["text"] = spec.text
        about["length"] = spec.length
    return about


def _of_pictures(prepared: Prepared) -> dict[str, Any]:
    """How pictures are read; nothing of other data."""
    spec: Any = prepared.spec
    if prepared.kind not in ("images", "captions"):
        return {}
    pictures = getattr(spec, "pictures", spec)
    looks: Any = prepared.table.looks  # type: ignore[attr-defined]
    return {
        **{name: getattr(pictures, name) for name in ("image", "size", "fit", "channels")},
        **({"captions": list(spec.captions)} if pictures is not spec else {}),
        "middle": [int(np.median(looks[side])) for side in ("width", "height")],
        "square": bool((looks["width"] != looks["height"]).mean() < 0.01),
    }


def _signatures(*metrics: Metric) -> dict[str, str]:
    """How scores of translations came about, as sacrebleu writes it; nothing of other scores."""
    return {metric.call("en"): signature(metric.name) for metric in metrics if metric.task == "translate"}


def samples(prepared: Prepared, fitted: Sequence[Fitted], seed: int) -> dict[str, Any] | None:
    """What each rung writes, for a task whose answers are texts."""
    if prepared.task == "language":
        return _continued(prepared, fitted, seed)
    return _translated(prepared, fitted) if prepared.task == "translate" else None


def _translated(prepared: Prepared, fitted: Sequence[Fitted]) -> dict[str, Any]:
    """Sources spread evenly over the test part, not picked, their targets, and what each rung writes."""
    rows = prepared.split.test
    count = min(SENTENCES, len(rows))
    chosen = rows[np.arange(count) * len(rows) // count]
    frame = prepared.table.frame.collect()[chosen]
    sources, targets = (frame[name].to_list() for name in (prepared.spec.source, prepared.spec.target))  # type: ignore[attr-defined]
    written = {each.run.rung: each.run.translate(sources) for each in fitted}
    return {"sources": sources, "targets": targets, "written": written}


def _continued(prepared: Prepared, fitted: Sequence[Fitted], seed: int) -> dict[str, Any]:
    """The beginning of a test document, how it goes on, and how each rung continues it."""
    spec, test = cast(LanguageSpec, prepared.spec), cast(Stream, prepared.test)
    longest = int(np.argmax(np.minimum(np.diff(test.starts), 4 * BEGINNING)))  # one that is long enough
    tokens = test.tokens[test.starts[longest] : test.starts[longest + 1] - 1]
    beginning, rest = tokens[:BEGINNING], tokens[BEGINNING : 4 * BEGINNING]
    sampling = Sampling(max_tokens=3 * BEGINNING, seed=seed)
    prompt = [spec.tokenizer.end, *beginning.tolist()]
    written = {}
    for each in fitted:
        model: Any = each.run.model
        written[each.run.rung] = generate(model, spec.tokenizer, [prompt], sampling)[0]
    return {
        "prompt": spec.tokenizer.decode(beginning),
        "truth": spec.tokenizer.decode(rest),
        "written": written,
    }


def describe(prepared: Prepared, metric: Metric, worth: float | None) -> dict[str, Any]:
    """What climb.json says of the data and of the metric."""
    table, split, second = prepared.table, prepared.split, beside(metric)
    languages: tuple[Lang, Lang] = ("en", "ko")
    return {
        "task": prepared.task,
        "kind": prepared.kind,
        "data": {
            "path": table.source,
            "name": table.name,
            "fingerprint": table.fingerprint,
            "licence": table.licence,
            "rows": table.rows,
            "columns": len(prepared.spec.columns),
            "features": int(np.prod(prepared.spec.width)),
            "target": prepared.spec.target,
            **_of_texts(prepared),
            **_of_pictures(prepared),
            "classes": list(prepared.spec.classes) if prepared.spec.classes else None,
            "split": {
                "train": len(split.train),
                "validation": len(split.validation),
                "test": len(split.test),
                "fingerprint": split.fingerprint,
            },
        },
        "metric": {
            "name": metric.name,
            "better": "higher" if metric.higher else "lower",
            "definition": metric.define("en"),
            "definitions": {lang: metric.define(lang) for lang in languages},
            "beside": second.name,
            "beside_definitions": {lang: second.define(lang) for lang in languages},
            "rule": {lang: rule(worth, metric, lang) for lang in languages},
            "signatures": _signatures(metric, second),
        },
    }

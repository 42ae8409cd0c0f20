"""Pictures found by words and words by pictures: recall against open_clip in the same wall-clock time.

Both learn from the same training part of `emoji-captions`, split by the same seed: 64 pixels a side, decoded
into memory beforehand, English and Korean captions, of which a picture shows one a step, drawn for both by
`CaptionBatches`, 128 pairs a batch (`locked`: 256). Both have `SECONDS` on one thread, changes of pictures
included. Both keep the weights by the same rule, the mean ln(rank) on the validation part. `metrics.match`
scores the test part for both.

Ours are the rungs `clip`, `siglip` and `locked` as `sadari fit` has them, looks at the validation part
included in their time. open_clip's steps are those of its own `train_one_epoch`, with ClipLoss, its
`image_transform` (RandomResizedCrop from 0.9 of the area on), its tokenizer and normalisation, and what
`open_clip_train` takes where nothing is said: AdamW at 5e-4, betas 0.9 and 0.98, eps 1e-6, decay 0.2 of
matrices, warmup and cosine, no clipping. Two networks:

clip-64        the shape of our rung `clip` at this size: patches of 16, width 128, 4 layers; captions width
               128, 2 layers; 2 heads each, 128 shared; five sixths of its parameters are its 49,408 tokens'
ViT-S-16-alt   the smallest of its own configurations, with --force-image-size 64: width 384, 12 layers;
               captions width 256, 10 layers

In open_clip's favour: it reads as many places as its longest training caption has tokens (--force-context-
length; 77 would be usual), has bf16 autocast where that is faster (ours finds out likewise), looks at the
validation part `LOOKS` times off the clock, and is told its share of the time for its warmup (a tenth, where
its usual 10,000 steps would not end) and cosine. What differs by design: our tokenizer is learnt on the
training captions; our losses leave out what is true of another's picture, and ClipLoss calls it false.
`locked` is no equal: its towers were trained elsewhere (efficientnet-lite0, minilm), it only learns lines.

steps, seconds   taken, of training, by the clock that ends it
whole            seconds with all that is off that clock: choosing a precision, open_clip's looks, and what
                 `locked` needs beyond its budget to see all pictures and captions once
recall@1, 5, 10  in per cent, the mean of both ways; image-to-text and text-to-image by themselves; of all
                 captions and in each `language` alone
A - B            difference of A and B on the same split, with the 95 % interval of Student's t over seeds

    sadari data get emoji-artists; sadari data get efficientnet-lite0; sadari data get minilm
    pip install open_clip_torch torchvision      in a venv of its own
    python benchmarks/match_quality.py [SECONDS]     150 unless said; writes results/match_quality.csv
    python benchmarks/match_quality.py --quick       one seed, 15 seconds each; writes nothing
"""

from __future__ import annotations

import copy
import csv
import itertools
import logging
import math
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from clip_parity import peers
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sadari.batches_captions import CaptionBatches, caption_tensors
from sadari.climbing.retrieved import Vectors, recalls
from sadari.data.prepare import Prepared, prepare
from sadari.fitting import plan_fit, run_fit
from sadari.tasks_match import found_by

QUICK = "--quick" in sys.argv
SEEDS = (0,) if QUICK else (0, 1, 2)
T95 = 4.303  # Student's t for two degrees of freedom
RUNGS, NETWORKS = ("clip", "siglip", "locked"), ("clip-64", "ViT-S-16-alt")
BATCH, SIDE, LONGEST, BLOCK, TIMED = 128, 64, 77, 256, 3
WARMUP, COURSE = 0.1, 10_000  # share of the course, and steps into which a course is cut
LOOKS, LOOKED = (0.5, 0.6, 0.7, 0.8, 0.9), 512  # shares of the time, besides its end; validation pictures
METRICS = tuple(
    f"{way}recall@{cut}" for way in ("", "image-to-text-", "text-to-image-") for cut in (1, 5, 10)
)
RESULTS = Path(__file__).parent / "results" / "match_quality.csv"
Row = dict[str, Any]


def ours(rung: str, prepared: Prepared, seconds: float, seed: int) -> tuple[Row, Vectors]:
    told: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_fit(rung, prepared.table, prepared=prepared, budget=f"{seconds:g}s", seed=seed)
        run = run_fit(plan, Path(folder) / "run", [told.append])
        facts = {"steps": run.result["steps"], "seconds": round(told[-1]["seconds"])}
        facts |= {"whole": round(run.result["seconds"]), "precision": "auto"}
        with torch.inference_mode():
            return facts, run.vectors(plan.prepared.test)


class Feed:
    """Batches for open_clip's loop until the time is over; between them the weights are looked at."""

    num_batches = num_samples = sys.maxsize  # that it tells of at its first step

    def __init__(self, reader: Reader, model: Any, prepared: Prepared, seconds: float, seed: int) -> None:
        self.reader, self.model, self.prepared, self.seconds = reader, model, prepared, seconds
        pictures, tokens = reader.pictures(prepared.train), reader.tokens(prepared.train)
        self.pictures = pictures
        arrays = caption_tensors(prepared.train)  # type: ignore[arg-type]
        arrays |= {"features": torch.arange(len(pictures)), "tokens": tokens}
        self.batches = CaptionBatches(arrays, BATCH, seed)
        self.looks = [*LOOKS, math.inf]
        self.best, self.kept = math.inf, copy.deepcopy(model.state_dict())
        self.began = self.idle = 0.0

    @property
    def dataloader(self) -> Feed:
        return self

    def set_epoch(self, epoch: int) -> None:
        """All is one epoch."""

    def spent(self) -> float:
        return time.perf_counter() - self.began - self.idle

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.began = time.perf_counter()
        while True:
            for batch in self.batches.epoch():
                if self.spent() >= self.looks[0] * self.seconds:
                    self.look()
                if self.spent() >= self.seconds:
                    return
                changed = [self.reader.change(self.pictures[row]) for row in batch["features"].tolist()]
                yield torch.stack(changed), batch["tokens"]

    def look(self) -> None:
        """Keep the weights if they are the best so far; this takes none of the time."""
        began = time.perf_counter()
        part: Any = self.prepared.validation
        count = min(len(part.features), LOOKED)
        rows = np.arange(count) * len(part.features) // count
        firsts = part.starts[rows]
        image = self.reader.images(self.model, part.features[rows])
        text = self.reader.captions(self.model, self.reader.tokens(part, firsts))
        truths = torch.from_numpy(part.subjects[rows]), torch.from_numpy(part.wordings[firsts])
        _, rank = found_by(image, text, *truths)
        if float(rank) < self.best:
            self.best, self.kept = float(rank), copy.deepcopy(self.model.state_dict())
        self.model.train()
        self.looks.pop(0)
        self.idle += time.perf_counter() - began


class Reader:
    """open_clip's way from pixels and captions to what its networks take."""

    def __init__(self, open_clip: Any, prepared: Prepared) -> None:
        self.open_clip = open_clip
        self.tokenizer = open_clip.get_tokenizer(NETWORKS[-1])
        said: Any = prepared.train
        lengths = [len(self.tokenizer.encode(text)) for text in set(said.texts.to_list())]
        self.context = min(max(lengths) + 2, LONGEST)
        self.change = open_clip.image_transform(SIDE, is_train=True)
        self.unchanged = open_clip.image_transform(SIDE, is_train=False)

    def pictures(self, part: Any) -> list[Image.Image]:
        return [Image.fromarray(pixels) for pixels in part.features]

    def tokens(self, part: Any, rows: np.ndarray | None = None) -> Tensor:
        """Of a part's captions, or of those numbered."""
        texts = part.texts if rows is None else part.texts[rows.tolist()]
        return self.tokenizer(texts.to_list(), self.context)

    @torch.no_grad()
    def images(self, model: Any, features: np.ndarray) -> Tensor:
        """Embeddings of pictures, of length 1."""
        found = []
        for some in np.split(features, range(BLOCK, len(features), BLOCK)):
            x = torch.stack([self.unchanged(Image.fromarray(pixels)) for pixels in some])
            found.append(F.normalize(model.eval().encode_image(x), dim=-1))
        return torch.cat(found)

    @torch.no_grad()
    def captions(self, model: Any, tokens: Tensor) -> Tensor:
        """Embeddings of captions, of length 1; equal ones are read once."""
        tokens, numbers = torch.unique(tokens, dim=0, return_inverse=True)
        found = [F.normalize(model.eval().encode_text(some), dim=-1) for some in tokens.split(BLOCK)]
        return torch.cat(found)[numbers]


def built(reader: Reader, network: str) -> Any:
    settings: Row = {"output_dict": True}
    if network == NETWORKS[-1]:
        settings |= {"force_image_size": SIDE, "force_context_length": reader.context}
        return reader.open_clip.create_model(network, **settings)
    vision = {"image_size": SIDE, "patch_size": 16, "width": 128, "layers": 4, "head_width": 64}
    text = {"context_length": reader.context, "width": 128, "layers": 2, "heads": 2}
    return reader.open_clip.CLIP(128, vision, text, **settings)


def optimiser(model: Any) -> torch.optim.Optimizer:
    """As open_clip_train/main.py makes it."""
    from open_clip_train.params import get_default_params

    usual = get_default_params("ViT")
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, value in model.named_parameters():
        plain = value.ndim < 2 or any(part in name for part in ("bn", "ln", "bias", "logit_scale"))
        groups[plain].append(value)
    return torch.optim.AdamW(
        [{"params": groups[True], "weight_decay": 0.0}, {"params": groups[False], "weight_decay": 0.2}],
        lr=usual["lr"],
        betas=(usual["beta1"], usual["beta2"]),
        eps=usual["eps"],
    )


def faster(reader: Reader, model: Any, feed: Feed) -> str:
    """Which of two precisions takes this network's steps faster here, by the best of `TIMED` steps each."""
    from open_clip_train.precision import get_autocast

    loss, batch, found = reader.open_clip.ClipLoss(), feed.batches.first(), {}
    x = torch.stack([reader.change(feed.pictures[row]) for row in batch["features"].tolist()])
    for precision in ("fp32", "amp_bf16"):
        net = copy.deepcopy(model)
        rule, times = optimiser(net), []
        for _ in range(TIMED):
            began = time.perf_counter()
            rule.zero_grad()
            with get_autocast(precision, device_type="cpu")():
                losses = loss(**net(x, batch["tokens"]))
            losses.backward()
            rule.step()
            times.append(time.perf_counter() - began)
        found[precision] = min(times)
    return min(found, key=found.__getitem__)


def theirs(
    network: str, reader: Reader, prepared: Prepared, seconds: float, seed: int
) -> tuple[Row, Vectors]:
    from open_clip_train.scheduler import cosine_lr
    from open_clip_train.train import train_one_epoch

    torch.manual_seed(seed)
    model = built(reader, network)
    feed = Feed(reader, model, prepared, seconds, seed)
    began, rule = time.perf_counter(), optimiser(model)
    course = cosine_lr(rule, rule.defaults["lr"], round(WARMUP * COURSE), COURSE)
    steps = 0

    def adjust(step: int) -> None:
        nonlocal steps
        steps = step + 1
        course(min(round(COURSE * feed.spent() / seconds), COURSE))

    args = SimpleNamespace(
        device="cpu", precision=faster(reader, model, feed), distill=False, accum_freq=1, rank=0,
        skip_scheduler=False, horovod=False, grad_clip_norm=None, world_size=1, batch_size=BATCH,
        log_every_n_steps=sys.maxsize, wandb=False,
    )  # fmt: skip
    train_one_epoch(model, {"train": feed}, reader.open_clip.ClipLoss(), 0, rule, None, adjust, None, args)
    taken = feed.spent()
    feed.look()
    whole = time.perf_counter() - began
    model.load_state_dict(feed.kept)
    part: Any = prepared.test
    vectors = reader.images(model, part.features), reader.captions(model, reader.tokens(part))
    facts = {"steps": steps, "seconds": round(taken), "whole": round(whole), "precision": args.precision}
    return facts, (vectors[0].numpy(), vectors[1].numpy())


def differences(table: list[Row]) -> list[Row]:
    """Rows of ours minus theirs, the same split and seed each."""
    found = []
    for rung, network in itertools.product(RUNGS, NETWORKS):
        for language in dict.fromkeys(row["language"] for row in table):
            row: Row = {"system": f"{rung} - open_clip {network}", "seed": "", "language": language}
            for metric in METRICS:
                a, b = (
                    [each[metric] for each in table if (each["system"], each["language"]) == (name, language)]
                    for name in (rung, f"open_clip {network}")
                )
                gaps = [x - y for x, y in zip(a, b, strict=True)]
                middle = statistics.mean(gaps)
                half = T95 * statistics.stdev(gaps) / len(gaps) ** 0.5
                row[metric] = f"{middle:.2f} ({middle - half:.2f} to {middle + half:.2f})"
            found.append(row)
    return found


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    open_clip = peers()
    logging.disable(logging.WARNING)
    given = [word for word in sys.argv[1:] if not word.startswith("--")]
    seconds = float(given[0]) if given else 15.0 if QUICK else 150.0
    table: list[Row] = []

    def told(system: str, seed: int, facts: Row, vectors: Vectors) -> None:
        for language, scores in recalls(vectors, part, spec.languages).items():
            row = {"system": system, "seed": seed, "language": language or "all", "steps": facts["steps"]}
            row |= {name: facts[name] for name in ("seconds", "whole", "precision")}
            table.append(row | {metric: round(100 * scores[metric], 2) for metric in METRICS})
            say(table[-1])

    for seed in SEEDS:
        prepared = prepare("emoji-captions", seed=seed, reading={"size": SIDE})
        part: Any = prepared.test
        spec: Any = prepared.spec
        for rung in RUNGS:
            told(rung, seed, *ours(rung, prepared, seconds, seed))
        reader = Reader(open_clip, prepared)
        for network in NETWORKS:
            told(f"open_clip {network}", seed, *theirs(network, reader, prepared, seconds, seed))
    if QUICK:
        return
    last = differences(table)
    for row in last:
        say(row)
    about = {"torch": torch.__version__, "open_clip": open_clip.__version__}
    about["machine"] = f"{platform.machine()}, 1 thread"
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*table[0], *about])
        writer.writeheader()
        writer.writerows({**row, **about} for row in [*table, *last])


def say(row: Row) -> None:
    print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()

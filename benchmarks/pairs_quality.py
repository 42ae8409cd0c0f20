"""Translating English to Korean: BLEU and chrF against JoeyNMT in the same wall-clock time.

Both learn from the same training pairs in the same tokens (one bpe tokenizer, learnt on the training part),
on the same cores, for `SECONDS` from the first step on, validation included; both then write the test part
with a beam of 5, and sacrebleu scores the texts. Ours are the rungs as `sadari fit` has them; JoeyNMT's are
its own configurations:

transformer    configs/iwslt14_deen_bpe.yaml: 6 + 6 layers, width 256, norms first, dropout 0.3, AdamW 3e-4,
               4,096 tokens a batch
rnn            configs/rnn_reverse.yaml's LSTM with attention and input feeding, and its training, at the
               width that is ours (256), for its own is 16 and 64 for ten digits; ours is `lstm-attention`

`difference` is ours minus JoeyNMT's over the seeds, with the 95 % interval of Student's t.

JoeyNMT 2.3.0 asks for old versions of several packages; it is put beside new ones without them (pip install
--no-deps joeynmt, then what it imports). Where it is not installed this says so and ends.

A network that has learnt little writes on to its longest length: `MOST=200` in the environment asks both for
200 sentences of the test part, for a set of long ones.

    [MOST=N] python benchmarks/pairs_quality.py [SECONDS] [DATA ...]    writes results/pairs_quality.csv
"""

from __future__ import annotations

import csv
import importlib.util
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sacrebleu
import torch

from sadari.data.prepare import Prepared, prepare
from sadari.fitting import fit

SEEDS, BEAM, WIDTH = (0, 1, 2), 5, 256
DATA = ("homeassistant", "help-pairs")
MOST = int(os.environ.get("MOST", "0"))
T95 = 4.303  # Student's t for two degrees of freedom
RUNGS = {"transformer": "transformer", "rnn": "lstm-attention"}
CORES = len(os.sched_getaffinity(0))
RESULTS = Path(__file__).parent / "results" / "pairs_quality.csv"
PARTS = ("train", "validation", "test")


def texts(prepared: Prepared, part: str) -> tuple[list[str], list[str]]:
    """A part's sentences and their translations; of long tests every n-th, `MOST` in all."""
    frame = prepared.table.frame.collect()[getattr(prepared.split, part)]
    if part == "test" and MOST:
        frame = frame.gather_every(max(1, len(frame) // MOST)).head(MOST)
    spec: Any = prepared.spec
    return frame[spec.source].to_list(), frame[spec.target].to_list()


def scores(written: Sequence[str], wanted: Sequence[str]) -> tuple[float, float]:
    return (
        sacrebleu.corpus_bleu(written, [wanted]).score,
        sacrebleu.corpus_chrf(written, [wanted]).score,
    )


def ours(rung: str, prepared: Prepared, seconds: float, seed: int, folder: Path) -> dict[str, object]:
    run = fit(rung, prepared.table, prepared=prepared, budget=f"{seconds:g}s", seed=seed, out=folder)
    source, target = texts(prepared, "test")
    bleu, chrf = scores(run.translate(source, beam=BEAM), target)
    return {"steps": run.result["steps"], "seconds": round(run.result["seconds"]), "bleu": bleu, "chrf": chrf}


def files_for(prepared: Prepared, folder: Path) -> None:
    """The parts as lines of tokens t7 t1 ..., the vocabulary, and START and END left to JoeyNMT."""
    spec: Any = prepared.spec
    for part in PARTS:
        for side, lines in zip(("src", "trg"), texts(prepared, part), strict=True):
            tokens = spec.tokenizer.encode(lines)
            written = [" ".join(f"t{token}" for token in row[: spec.length]) for row in tokens]
            (folder / f"{part}.{side}").write_text("\n".join(written) + "\n")
    special = ["<unk>", "<pad>", "<s>", "</s>"]
    words = special + [f"t{token}" for token in range(spec.tokenizer.size)]
    (folder / "vocabulary.txt").write_text("\n".join(words) + "\n")


def configuration(kind: str, folder: Path, length: int, seed: int) -> dict[str, Any]:
    """JoeyNMT's own settings, on our files."""
    side = {
        "level": "word", "lowercase": False, "normalize": False, "max_length": length + 1,
        "voc_file": str(folder / "vocabulary.txt"), "voc_min_freq": 1,
    }  # fmt: skip
    symbols = {
        "unk_token": "<unk>", "unk_id": 0, "pad_token": "<pad>", "pad_id": 1, "bos_token": "<s>", "bos_id": 2,
        "eos_token": "</s>", "eos_id": 3,
    }  # fmt: skip
    data = {
        "train": str(folder / "train"), "dev": str(folder / "validation"), "test": str(folder / "test"),
        "dataset_type": "plain", "src": {"lang": "src", **side}, "trg": {"lang": "trg", **side},
        "special_symbols": symbols,
    }  # fmt: skip
    testing = {
        "n_best": 1, "beam_size": BEAM, "beam_alpha": 1.0, "batch_size": 1024, "batch_type": "token",
        "max_output_length": length, "eval_metrics": ["bleu"], "sacrebleu_cfg": {"tokenize": "13a"},
    }  # fmt: skip
    training = {
        "optimizer": "adamw", "normalization": "tokens", "adam_betas": [0.9, 0.999], "scheduling": "plateau",
        "patience": 5, "decrease_factor": 0.7, "loss": "crossentropy", "learning_rate": 3e-4,
        "learning_rate_min": 1e-8, "weight_decay": 0.0, "label_smoothing": 0.1, "batch_size": 4096,
        "batch_type": "token", "early_stopping_metric": "bleu", "epochs": 1000, "validation_freq": 10**9,
        "logging_freq": 100, "overwrite": True, "shuffle": True,
    }  # fmt: skip
    part: dict[str, Any] = {
        "type": "transformer", "num_layers": 6, "num_heads": 4, "hidden_size": 256, "ff_size": 1024,
        "dropout": 0.3, "layer_norm": "pre", "activation": "relu",
        "embeddings": {"embedding_dim": 256, "scale": True, "dropout": 0.0},
    }  # fmt: skip
    model = {
        "initializer": "xavier_uniform", "embed_initializer": "xavier_uniform", "embed_init_gain": 1.0,
        "init_gain": 1.0, "bias_initializer": "zeros", "tied_embeddings": True, "tied_softmax": True,
        "encoder": part, "decoder": part,
    }  # fmt: skip
    if kind == "rnn":
        training |= {
            "learning_rate": 1e-3, "learning_rate_min": 2e-4, "clip_grad_norm": 1.0, "decrease_factor": 0.5,
            "label_smoothing": 0.0, "batch_size": 10, "batch_type": "sentence", "normalization": "batch",
        }  # fmt: skip
        part = {
            "type": "recurrent", "rnn_type": "lstm", "hidden_size": WIDTH, "dropout": 0.1, "num_layers": 1,
            "activation": "tanh", "embeddings": {"embedding_dim": WIDTH, "scale": False},
        }  # fmt: skip
        model = {
            "initializer": "xavier_uniform", "embed_initializer": "normal", "embed_init_weight": 0.1,
            "bias_initializer": "zeros", "init_rnn_orthogonal": False, "lstm_forget_gate": 0.0,
            "tied_embeddings": False, "tied_softmax": False, "encoder": {**part, "bidirectional": True},
            "decoder": {
                **part, "hidden_dropout": 0.1, "input_feeding": True, "init_hidden": "last",
                "attention": "luong",
            },
        }  # fmt: skip
    return {
        "name": kind, "joeynmt_version": "2.3.0", "model_dir": str(folder / "model"), "use_cuda": False,
        "fp16": False, "random_seed": seed + 1, "data": data, "testing": testing, "training": training,
        "model": model,
    }  # fmt: skip


def theirs(kind: str, prepared: Prepared, seconds: float, seed: int, folder: Path) -> dict[str, object]:
    """JoeyNMT's TrainManager, stopped as by Ctrl-C when its time is over, and its own beam search."""
    from joeynmt import builders
    from joeynmt.config import parse_global_args, set_validation_args
    from joeynmt.prediction import predict
    from joeynmt.prediction import prepare as prepared_by_it
    from joeynmt.training import TrainManager

    class Plateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
        """torch's, which knows the old word `verbose` no more."""

        def __init__(self, optimizer: Any, verbose: bool = False, **settings: Any) -> None:
            super().__init__(optimizer, **settings)

    builders.ReduceLROnPlateau = Plateau

    class Timed(TrainManager):
        began = 0.0

        def _train_step(self, batch: Any) -> Any:
            self.began = self.began or time.perf_counter()
            if time.perf_counter() - self.began > seconds:
                raise KeyboardInterrupt
            return super()._train_step(batch)

    files_for(prepared, folder)
    spec: Any = prepared.spec
    (folder / "model").mkdir()
    settings = configuration(kind, folder, spec.length, seed)
    args = parse_global_args(settings, rank=0, mode="train")
    model, train, validation, test = prepared_by_it(args, rank=0, mode="train")
    manager = Timed(
        model=model, model_dir=args.model_dir, device=args.device, n_gpu=args.n_gpu, rank=0,
        num_workers=args.num_workers, autocast=args.autocast, seed=args.seed, train_args=args.train,
        dev_args=set_validation_args(args.test),
    )  # fmt: skip
    manager.train_and_validate(train_data=train, valid_data=validation)
    spent = time.perf_counter() - manager.began
    _, _, written, *_ = predict(
        model, test, device=args.device, n_gpu=0, rank=0, compute_loss=False, num_workers=0, args=args.test,
        autocast=args.autocast,
    )  # fmt: skip
    known = [[int(word[1:]) for word in line.split() if word.startswith("t")] for line in written]
    _, target = texts(prepared, "test")
    bleu, chrf = scores([spec.decode(row) for row in known], target)
    return {"steps": manager.stats.steps, "seconds": round(spent), "bleu": bleu, "chrf": chrf}


def compare(data: str, kind: str, seconds: float) -> list[dict[str, object]]:
    """A row a system and seed, and one for the difference."""
    prepared = prepare(data, target="ko", reading={"tokenizer": "bpe"})
    table: list[dict[str, object]] = []
    for seed in SEEDS:
        for system, way in (("sadari", ours), ("joeynmt", theirs)):
            with tempfile.TemporaryDirectory() as scratch:
                name = RUNGS[kind] if system == "sadari" else kind
                found = way(name, prepared, seconds, seed, Path(scratch))
            row = {"data": data, "model": kind, "system": system, "seed": seed, **found}
            table.append({name: round(v, 2) if isinstance(v, float) else v for name, v in row.items()})
            print(" ".join(f"{name}={value}" for name, value in table[-1].items()), flush=True)
    last: dict[str, object] = {"data": data, "model": kind, "system": "difference", "seed": "", "steps": ""}
    last["seconds"] = ""
    for metric in ("bleu", "chrf"):
        by = {system: [float(str(row[metric])) for row in table if row["system"] == system] for system in
              ("sadari", "joeynmt")}  # fmt: skip
        gaps = [a - b for a, b in zip(by["sadari"], by["joeynmt"], strict=True)]
        half = T95 * statistics.stdev(gaps) / len(gaps) ** 0.5
        middle = statistics.mean(gaps)
        last[metric] = f"{middle:.2f} ({middle - half:.2f} to {middle + half:.2f})"
    print(" ".join(f"{name}={value}" for name, value in last.items()), flush=True)
    return [*table, last]


def main() -> None:
    if importlib.util.find_spec("joeynmt") is None:
        print("joeynmt is not installed; see the top of this file. Nothing was measured")
        return
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(CORES)
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 120.0
    table = [row for data in sys.argv[2:] or DATA for kind in RUNGS for row in compare(data, kind, seconds)]
    about = {"torch": torch.__version__, "machine": f"{platform.machine()}, {CORES} core(s)"}
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*table[0], *about])
        writer.writeheader()
        writer.writerows({**row, **about} for row in table)


if __name__ == "__main__":
    main()

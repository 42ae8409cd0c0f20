"""Translating with a Transformer: sentences a second against transformers, CTranslate2 and JoeyNMT.

Marian's layout, 3 + 3 layers, width 256, 8,000 tokens, fp32; sentences of 20 tokens become about 23. All have
the same weights and write the same tokens but for a few sentences. Ours is `sadari.search`, the peers' their
own loops in their best mode; no length penalty, as each has its own.

workers 1    one thread, batches of 1 (8 sentences, after 60 others) and of 32; by processor time, which
             another program's load changes little
workers 2    a file of 256 sentences in batches of 32 and two workers of one thread: processes of ours, as
             `sadari translate --jobs 2` has them, and of transformers, CTranslate2's inter_threads=2; by the
             clock
ratio_...    sentences a second of ours over the peer's, the median of the rounds' own ratios
equal_...    share of sentences that became the same tokens, at least `EQUAL` of them

JoeyNMT 2.3.0 keeps nothing of a Transformer's steps and reads all of a target again for each token, and its
beams go on until none is left unfinished; it is measured with one worker.

CTranslate2 and JoeyNMT are left out, and said to be, where they are not installed: pip install ctranslate2,
and as `benchmarks/pairs_quality.py` says.

    python benchmarks/translate.py       writes benchmarks/results/translate.csv
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tokenizers
import torch
import transformers

from sadari.layers.steps import Done, compiled
from sadari.marian import to_marian
from sadari.models.translator import Translator, TranslatorConfig, waves
from sadari.search import Searching, search

V, START, END = 8000, 1, 2
SENTENCES, LENGTH, WANTED, MOST = 256, 20, 24, 50
SLOPE = 10.0  # by how much END's logit grows with each token: so that a beam finds no short way out
BATCH, ROUNDS, EQUAL = 32, 5, 0.96
LINES = 8  # written one by one
GOALS = {  # (peer, workers, batch, beam): the least ratio
    ("transformers", 1, 32, 1): 2.5, ("transformers", 1, 32, 5): 2.5,
    ("transformers", 2, 32, 1): 2.5, ("transformers", 2, 32, 5): 2.5,
    ("ctranslate2", 1, 1, 1): 1.2, ("ctranslate2", 1, 1, 5): 1.2,
    ("ctranslate2", 2, 32, 1): 1.0, ("ctranslate2", 2, 32, 5): 1.0,
    ("joeynmt", 1, 32, 5): 10.0,
}  # fmt: skip
NAMES = ("sadari", "transformers", "ctranslate2", "joeynmt")
OPTIONAL = {"ctranslate2": "pip install ctranslate2", "joeynmt": "see benchmarks/pairs_quality.py"}
RESULTS = Path(__file__).parent / "results" / "translate.csv"
Way = Callable[[torch.Tensor, int], list[list[int]]]


@torch.no_grad()
def model_and_sources() -> tuple[Translator, torch.Tensor]:
    """Drawn weights, and sentences that they end.

    Weights that are merely drawn never end a text, or at once. END's row is therefore fitted, by least
    squares, to pass the likeliest other token's logit at `WANTED` tokens, whatever is written.
    """
    torch.manual_seed(0)
    model = Translator(
        TranslatorConfig(layers=3, width=256, norm_first=False, share=True, dropout=0.0), V, V
    ).eval()
    sources = torch.randint(END + 1, V, (SENTENCES, LENGTH))
    model.head.bias[END] = -1e4
    how = Searching(max_tokens=MOST)
    written = [found[0].tokens for found in search(model, sources[:128], how, START, END)]
    written += torch.randint(END + 1, V, (SENTENCES, MOST)).tolist()  # what a beam may try is more
    target = torch.tensor([[START, *tokens] for tokens in written])
    h = model.hidden(torch.cat((sources[:128], sources)), target)  # (B, T, C)
    wanted = model.head(h).amax(-1) + SLOPE * (torch.arange(h.shape[1]) - WANTED)
    known = torch.cat((h, torch.ones_like(h[..., :1])), -1).flatten(0, 1).double()
    row = torch.linalg.lstsq(known, wanted.flatten()[:, None].double()).solution[:, 0].float()
    model.embedding.weight[END], model.head.bias[END] = row[:-1], row[-1]
    return model, sources


def ours(model: Translator) -> Way:
    """Sadari's search: the length penalty left out, as the three of them have each their own."""

    def write(sources: torch.Tensor, beam: int) -> list[list[int]]:
        how = Searching(beam=beam, length_penalty=0.0, max_tokens=MOST)
        return [found[0].tokens for found in search(model, sources, how, START, END, scores=False)]

    return write


def transformers_way(folder: Path) -> Way:
    """Its MarianMTModel, without the lists of forbidden tokens that slow it down."""
    model = transformers.MarianMTModel.from_pretrained(folder).eval()
    model.generation_config.bad_words_ids = None

    def write(sources: torch.Tensor, beam: int) -> list[list[int]]:
        with torch.inference_mode():
            found = model.generate(
                sources, attention_mask=torch.ones_like(sources), num_beams=beam, do_sample=False,
                max_new_tokens=MOST, length_penalty=0.0,
            )  # fmt: skip
        return [row[1 : row.index(END)] for row in ([*row.tolist(), END] for row in found)]

    return write


def ctranslate2_way(folder: Path, workers: int) -> Way:
    """Its Translator in fp32, of so many workers of one thread, 32 sentences each at a time."""
    import ctranslate2

    translator = ctranslate2.Translator(
        str(folder), compute_type="float32", inter_threads=workers, intra_threads=1
    )

    def write(sources: torch.Tensor, beam: int) -> list[list[int]]:
        tokens = [[f"t{token}" for token in row] for row in sources.tolist()]
        found = translator.translate_batch(
            tokens, beam_size=beam, length_penalty=0, max_decoding_length=MOST, max_batch_size=32
        )
        return [[int(token[1:]) for token in one.hypotheses[0]] for one in found]

    return write


def joeynmt_way(model: Translator) -> Way:
    """Its own `search` on its own modules, which get our weights, our waves and our norms' epsilon."""
    from joeynmt.batch import Batch
    from joeynmt.decoders import TransformerDecoder
    from joeynmt.embeddings import Embeddings
    from joeynmt.encoders import TransformerEncoder
    from joeynmt.model import Model
    from joeynmt.search import search as search_by_it

    config, nothing = model.config, V  # a number that no token has
    last: Any = model.layers[-1]
    sizes = {
        "hidden_size": config.width, "ff_size": config.units, "num_heads": config.heads,
        "num_layers": config.layers, "activation": config.activation, "layer_norm": "post",
    }  # fmt: skip
    encoder, decoder = TransformerEncoder(**sizes), TransformerDecoder(**sizes, vocab_size=V)
    tables = [Embeddings(config.width, scale=True, vocab_size=V, padding_idx=0) for _ in range(2)]
    for table in tables:
        table.lut.weight = torch.nn.Parameter(model.embedding.weight.detach().clone())
    with torch.no_grad():
        tables[1].lut.weight[START] = 0  # as ours reads it
    for own, its in zip([*model.encoder, *model.layers], [*encoder.layers, *decoder.layers], strict=True):
        _give_layer(own, its)
    decoder.output_layer.weight, decoder.output_layer.bias = model.embedding.weight, model.head.bias
    for half in (encoder, decoder):
        half.pe.pe = waves(MOST + LENGTH, config.width, config.positions)[None]
    numbers = {"pad_index": nothing, "bos_index": START, "eos_index": END, "sep_index": None, "unk_index": 0}
    words: Any = SimpleNamespace(**numbers, specials=[], lang_tags=[])
    peer = Model(encoder, decoder, *tables, words, words).eval()
    for part in peer.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.eps = last.norm3.eps

    def write(sources: torch.Tensor, beam: int) -> list[list[int]]:
        count = len(sources)
        batch = Batch(
            sources, torch.full((count,), sources.shape[1]), None, None, None, torch.arange(count),
            sources.device, nothing, END, is_train=False,
        )  # fmt: skip
        with torch.inference_mode():
            found, *_ = search_by_it(peer, batch, max_output_length=MOST, beam_size=beam, beam_alpha=0.0)
        return [row[: row.index(END)] for row in ([*row, END] for row in found.tolist())]

    return write


def _give_layer(own: Any, its: Any) -> None:
    """A layer's weights, to those that do the same at JoeyNMT."""
    crossing, feed = own.cross is not None, its.feed_forward
    first = its.trg_trg_att if crossing else its.src_src_att
    norm = its.x_layer_norm if crossing else its.layer_norm
    given = [
        (own.attention.qkv, (first.q_layer, first.k_layer, first.v_layer)),
        (own.attention.out, (first.output_layer,)),
        (own.norm1, (norm,)),
        (own.feed.up, (feed.pwff_layer[0],)),
        (own.feed.down, (feed.pwff_layer[3],)),
        (own.norm3, (feed.layer_norm,)),
    ]
    if crossing:
        cross = its.src_trg_att
        given += [
            (own.cross.query, (cross.q_layer,)),
            (own.cross.kv, (cross.k_layer, cross.v_layer)),
            (own.cross.out, (cross.output_layer,)),
            (own.norm2, (its.dec_layer_norm,)),
        ]
    for part, theirs in given:
        for kind in ("weight", "bias"):  # those of ours may be stacked
            for one, piece in zip(theirs, getattr(part, kind).detach().chunk(len(theirs)), strict=True):
                setattr(one, kind, torch.nn.Parameter(piece.clone()))


def write_marian(model: Translator, folder: Path) -> Path:
    """The weights in the layout that transformers opens; token i is called ti."""
    marian = folder / "marian"
    to_marian(model, marian, start=START, end=END)
    words = {f"t{i}": i for i in range(V)} | {"<pad>": V}
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "t0"))
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=library, pad_token="<pad>", eos_token=f"t{END}", unk_token="t0"
    )
    fast.save_pretrained(marian)
    return marian


def converted(marian: Path, folder: Path) -> Path:
    """The same for CTranslate2."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(marian)).convert(str(folder / "engine"))
    return folder / "engine"


_HERE: dict[str, Way] = {}  # of a process that was forked for them


def _write_here(name: str, sources: torch.Tensor, beam: int) -> list[list[int]]:
    torch.set_num_threads(1)
    return _HERE[name](sources, beam)


def in_processes(name: str, pool: ProcessPoolExecutor) -> Way:
    """A file's sentences in batches, for processes to take."""

    def write(sources: torch.Tensor, beam: int) -> list[list[int]]:
        batches = sources.split(BATCH)
        return [row for rows in pool.map(partial(_write_here, name, beam=beam), batches) for row in rows]

    return write


def measure(
    ways: dict[str, Way], sources: torch.Tensor, workers: int, batch: int, beam: int
) -> dict[str, Any]:
    """A row of the table: each way's rate, ours over each other's, and what became the same."""
    clock = time.process_time if workers == 1 else time.perf_counter
    batches = sources.split(batch if workers == 1 else len(sources))
    rates: dict[str, list[float]] = {name: [] for name in ways}
    written: dict[str, list[list[int]]] = {}
    for i in range(ROUNDS + 1):
        for name, way in ways.items():
            began = clock()
            written[name] = [row for rows in batches for row in way(rows, beam)]
            if i:  # the first round warms up
                rates[name].append(len(sources) / (clock() - began))
    row: dict[str, Any] = {"workers": workers, "batch": batch, "beam": beam}
    row["tokens"] = round(sum(map(len, written["sadari"])) / len(sources), 1)
    row |= {name: round(statistics.median(rates[name]), 1) if name in ways else "" for name in NAMES}
    for name in NAMES[1:]:
        row[f"ratio_{name}"] = row[f"equal_{name}"] = ""
        if name in ways:
            ratios = (a / b for a, b in zip(rates["sadari"], rates[name], strict=True))
            same = sum(a == b for a, b in zip(written["sadari"], written[name], strict=True))
            row[f"ratio_{name}"] = round(statistics.median(ratios), 3)
            row[f"equal_{name}"] = round(same / len(sources), 3)
    print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
    return row


def warm_up(way: Way, sources: torch.Tensor) -> None:
    """Write line by line until the decoder's compiled steps are loaded, as a process does that writes on."""
    compiled()  # once an install: a process compiles them after some ten minutes of lines
    Done.code, Done.steps = None, 0
    while Done.code is None:
        for row in sources[:LINES].split(1):
            way(row, 1)


def main() -> None:
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    model, sources = model_and_sources()
    there = {name for name in OPTIONAL if importlib.util.find_spec(name) is not None}
    for name in sorted(OPTIONAL.keys() - there):
        print(f"{name} is not installed; its columns stay empty ({OPTIONAL[name]})")
    _HERE["sadari"] = ours(model)
    warm_up(_HERE["sadari"], sources)
    pool = ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
    with tempfile.TemporaryDirectory() as folder, pool:
        marian = write_marian(model, Path(folder))
        _HERE["transformers"] = transformers_way(marian)
        file = {name: in_processes(name, pool) for name in _HERE}
        file["sadari"](sources[: 2 * BATCH], 1)  # forks, before a peer starts threads
        ways = dict(_HERE)
        if "ctranslate2" in there:
            engine = converted(marian, Path(folder))
            ways["ctranslate2"] = ctranslate2_way(engine, 1)
            file["ctranslate2"] = ctranslate2_way(engine, 2)
        if "joeynmt" in there:
            ways["joeynmt"] = joeynmt_way(model)
        rows = [
            measure(ways, sources[:count], 1, batch, beam)
            for batch, count in ((1, LINES), (BATCH, BATCH))
            for beam in (1, 5)
        ]
        rows += [measure(file, sources, 2, BATCH, beam) for beam in (1, 5)]
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    versions |= {name: importlib.metadata.version(name) if name in there else "none" for name in OPTIONAL}
    about = " ".join(f"{name} {version}" for name, version in versions.items())
    machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} core(s)"
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, [*rows[0], "rounds", "versions", "machine"])
        writer.writeheader()
        writer.writerows({**row, "rounds": ROUNDS, "versions": about, "machine": machine} for row in rows)
    missed = []
    for row in rows:
        case = row["workers"], row["batch"], row["beam"]
        for name in NAMES[1:]:
            if row[f"equal_{name}"] != "":
                assert row[f"equal_{name}"] >= EQUAL, f"{name} writes something else: {row}"
                goal = GOALS.get((name, *case), 0.0)
                if row[f"ratio_{name}"] < goal:
                    missed.append(f"{case} against {name}: {row[f'ratio_{name}']} of {goal}")
    assert not missed, "goals missed, (workers, batch, beam): " + "; ".join(missed)


if __name__ == "__main__":
    main()

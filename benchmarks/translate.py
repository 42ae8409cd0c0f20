"""Translating with a Transformer: sentences a second against transformers' `generate` and CTranslate2.

Marian's layout, 3 + 3 layers, width 256, 8,000 tokens, fp32; 256 sentences of 20 tokens become about 24 each.
All have the same weights and write the same tokens. Ours is `sadari.search`; the peers' are their own loops.

batches      one thread each, batch 1 (the first 16 sentences) and 32, greedy and with 5 beams: ratios of
             processor time, as another program's load then changes little
files        all 256 sentences in batches of 32, two workers of one thread: ours two processes, CTranslate2's
             inter_threads=2; by the clock
ratio_...    sentences a second of ours over the peer's, the median of the rounds' own ratios

CTranslate2 is left out, and said to be, where it is not installed (pip install ctranslate2).

    python benchmarks/translate.py       writes benchmarks/results/translate.csv
"""

from __future__ import annotations

import csv
import importlib.util
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tokenizers
import torch
import transformers

from sadari.marian import to_marian
from sadari.models.translator import Translator, TranslatorConfig
from sadari.search import Searching, search

V, START, END = 8000, 1, 2
SENTENCES, LENGTH, WANTED, MOST = 256, 20, 24, 50
ROUNDS, FILE_ROUNDS = 5, 5
GOALS = {  # (peer, workers, batch, beam): the least ratio
    ("transformers", 1, 32, 1): 2.5, ("transformers", 1, 32, 5): 2.5,
    ("ctranslate2", 1, 1, 1): 1.2, ("ctranslate2", 1, 1, 5): 1.2,
    ("ctranslate2", 2, 32, 1): 1.0, ("ctranslate2", 2, 32, 5): 1.0,
}  # fmt: skip
RESULTS = Path(__file__).parent / "results" / "translate.csv"
Way = Callable[[torch.Tensor, int], list[list[int]]]


@torch.no_grad()
def model_and_sources() -> tuple[Translator, torch.Tensor]:
    """Drawn weights, large enough that few likeliest tokens are ties, and sentences that they end.

    Weights that are merely drawn never end a text, or at once. END's row is therefore fitted, by least
    squares, to pass the likeliest other token's logit at `WANTED` tokens.
    """
    torch.manual_seed(0); scale=float(os.environ.get("SC",1.5)); slope=float(os.environ.get("SL",.5))
    model = Translator(TranslatorConfig(share=True, dropout=0.0), V, V).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(scale)
    sources = torch.randint(END + 1, V, (SENTENCES, LENGTH))
    model.head.bias[END] = -1e4
    how = Searching(max_tokens=MOST)
    written = [found[0].tokens for found in search(model, sources[:128], how, START, END)]
    target = torch.tensor([[START, *tokens] for tokens in written])
    h = model.hidden(sources[:128], target)  # (B, T, C)
    wanted = model.head(h).amax(-1) + slope * (torch.arange(h.shape[1]) - WANTED)
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
        return [row[1 : row.index(END)] for row in (row.tolist() + [END] for row in found)]

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


def write_folders(model: Translator, folder: Path, converted: bool) -> tuple[Path, Path]:
    """The weights as the peers read them; token i is called ti."""
    marian, engine = folder / "marian", folder / "engine"
    to_marian(model, marian, start=START, end=END)
    words = {f"t{i}": i for i in range(V)} | {"<pad>": V}
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "t0"))
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=library, pad_token="<pad>", eos_token=f"t{END}", unk_token="t0"
    )
    fast.save_pretrained(marian)
    if converted:
        from ctranslate2.converters import TransformersConverter

        TransformersConverter(str(marian)).convert(str(engine))
    return marian, engine

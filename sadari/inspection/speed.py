"""Speed: tokens a second against the length of a text, in training and in writing, for all three kinds.

What is timed is everything but the vocabulary, which costs each kind the same: in training a forward and a
backward pass over as many tokens at every length, cut into fewer and longer texts; in writing one more token
after a text of that length, by the state or the cache that it left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from sadari.errors import SadariError
from sadari.inspection.view import Said, View, say
from sadari.models.gpt import GPT, GPTConfig
from sadari.models.lstm import LSTMLanguage, LSTMLanguageConfig
from sadari.models.rnn import RNNLanguage, RNNLanguageConfig

if TYPE_CHECKING:
    from sadari.runs import Run

KINDS = ("rnn", "lstm", "transformer")
LENGTHS = (32, 64, 128, 256, 512, 1024)
TOGETHER = 2048  # tokens of a training step
WRITTEN = 8  # tokens timed after each text
ROUNDS = 3
VOCABULARY = 256  # only looked up here
ROUNDED = 2  # figures of a rate that are worth reading

TEXTS = {
    "title": (
        "At {length} tokens, {fastest} trains fastest with {rate} tokens a second, and {fastest_written} "
        "writes fastest with {rate_written}",
        "글 길이 {length}토큰에서 훈련은 {fastest}(초당 {rate}토큰), 쓰기는 {fastest_written}(초당 "
        "{rate_written}토큰) 쪽이 가장 빠름",
    ),
    "caption": (
        "Networks of this run's width ({width}) and layers ({layers}), without the vocabulary's product, on "
        "this machine ({threads} threads), medians of {rounds}. Training: {together} tokens a step, cut into "
        "texts of the length across. Writing: one more token after a text of that length.",
        "이 실행과 같은 너비({width})와 층 수({layers})의 망, 어휘 곱은 뺌. 이 기계, 스레드 {threads}개, "
        "{rounds}번의 중앙값. 훈련: 한 걸음에 {together}토큰을 가로축 길이의 글로 나눈다. 쓰기: 그 길이의 "
        "글 뒤에 토큰 하나를 더 쓴다.",
    ),
    "see": (
        "Read one after another, {length} tokens are {length} products that wait for each other, each as "
        "small as the {rows} texts that share it: an rnn does {rnn_work} multiply-adds a second there, and "
        "{rnn_work_few} where {rows_few} texts share each. A transformer puts all tokens into one product "
        "and does {transformer_work}, but needs {times} times as many for a token. In writing a state costs "
        "the same after any text, while a transformer looks back on all of it: from {few} to {length} tokens "
        "an lstm keeps {lstm_kept} of its speed, a transformer {transformer_kept}.",
        "{length}토큰을 하나씩 읽으면 곱셈 {length}번이 차례로 앞을 기다리고, 그 크기는 나란히 읽는 글 "
        "{rows}개만큼 작습니다. 이때 rnn은 수의 곱을 초당 {rnn_work} 번, 글 {rows_few}개를 나란히 읽을 때는 "
        "{rnn_work_few} 번 합니다. transformer는 모든 토큰을 곱셈 하나에 넣어 {transformer_work} 번 하지만, "
        "토큰마다 할 일이 {times}배입니다. 쓸 때 상태의 비용은 글이 길어져도 같고, transformer는 글 전체를 "
        "돌아봅니다. {few}토큰에서 {length}토큰으로 가면 속도가 lstm은 {lstm_kept}, transformer는 "
        "{transformer_kept} 남습니다.",
    ),
    "length": ("tokens of a text", "글의 토큰 수"),
    "rate": ("tokens a second", "초당 토큰 수"),
    "written": ("{kind}, writing", "{kind}, 쓰기"),
    "work": ("{kind}, billion multiply-adds a second", "{kind}, 초당 곱셈(십억 번)"),
    "training": ("training", "훈련"),
    "writing": ("writing", "쓰기"),
}


def speed(run: Run, *, lengths: Sequence[int] = LENGTHS) -> View:
    """Time an rnn, an lstm and a transformer of the run's width: tokens a second at each of A lengths.

    lengths (A,); rnn, lstm, transformer (A,): in training; rnn_written, lstm_written, transformer_written
    (A,): in writing; rnn_work, lstm_work, transformer_work (A,): billion multiply-adds a second of training,
    three times those of reading. A few seconds for a width of some hundred.
    Raises SadariError for fewer than two lengths, or one below 1.
    """
    lengths = sorted(set(lengths))
    if len(lengths) < 2 or lengths[0] < 1:
        said = " ".join(map(str, lengths))
        raise SadariError(f"--lengths {said}: a curve needs two lengths or more, from 1 up; give 32,256")
    config: Any = run.model.config
    width, layers = int(config.width), int(getattr(config, "layers", 1))
    rates = measure(width, layers, lengths)
    work = {
        kind: np.array([multiply_adds(kind, width, layers, length) for length in lengths]) for kind in KINDS
    }
    rates |= {f"{kind}_work": 3e-9 * work[kind] * rates[kind] for kind in KINDS}
    first, last = ({name: float(rate[place]) for name, rate in rates.items()} for place in (0, -1))
    fastest, written = (max(KINDS, key=lambda kind: last[f"{kind}{way}"]) for way in ("", "_written"))
    values: dict[str, Any] = {
        "length": lengths[-1],
        "few": lengths[0],
        "width": width,
        "layers": layers,
        "threads": torch.get_num_threads(),
        "rounds": ROUNDS,
        "together": TOGETHER,
        "rows": _rows(lengths[-1]),
        "rows_few": _rows(lengths[0]),
        "fastest": fastest,
        "rate": _rounded(last[fastest]),
        "fastest_written": written,
        "rate_written": _rounded(last[f"{written}_written"]),
        "rnn_work": _billions(last["rnn_work"]),
        "rnn_work_few": _billions(first["rnn_work"]),
        "transformer_work": _billions(last["transformer_work"]),
        "times": f"{work['transformer'][-1] / work['rnn'][-1]:.2g}",
    }
    for kind in ("lstm", "transformer"):
        values[f"{kind}_kept"] = f"{last[f'{kind}_written'] / first[f'{kind}_written']:.0%}"
    return View(
        "speed",
        say(TEXTS, "title", **values),
        say(TEXTS, "caption", **values),
        say(TEXTS, "see", **values),
        {"lengths": np.array(lengths), **rates},
        {"width": width, "layers": layers, "threads": torch.get_num_threads(), "together": TOGETHER},
        {
            "lengths": TEXTS["length"],
            **{kind: (kind, kind) for kind in KINDS},
            **{f"{kind}_written": say(TEXTS, "written", kind=kind) for kind in KINDS},
            **{f"{kind}_work": say(TEXTS, "work", kind=kind) for kind in KINDS},
            **{name: TEXTS[name] for name in ("rate", "training", "writing")},
        },
    )


def measure(
    width: int, layers: int, lengths: Sequence[int], rounds: int = ROUNDS, together: int = TOGETHER
) -> dict[str, np.ndarray]:
    """Tokens a second (A,) of each kind, in training and as KIND_written; medians of interleaved rounds."""
    models = {kind: born(kind, width, layers, max(lengths) + WRITTEN) for kind in KINDS}
    ways: Mapping[str, Callable[[Any, int, int], float]] = {"": train_rate, "_written": write_rate}
    found = {f"{kind}{way}": np.empty((rounds, len(lengths))) for way in ways for kind in KINDS}
    for model in models.values():  # the first call of a kernel also loads it
        train_rate(model, lengths[0], together)
    for r in range(rounds):
        for a, length in enumerate(lengths):
            for way, rate in ways.items():
                for kind, model in models.items():
                    found[f"{kind}{way}"][r, a] = rate(model, length, together)
    return {name: np.median(rates, 0) for name, rates in found.items()}


MODELS: dict[str, Any] = {"rnn": RNNLanguage, "lstm": LSTMLanguage, "transformer": GPT}


def settings_of(kind: str, width: int, layers: int, context: int) -> Any:
    """The config of a kind; a transformer's heads have 32 numbers or somewhat more."""
    if kind == "transformer":
        heads = max(h for h in range(1, max(width // 32, 1) + 1) if width % h == 0)
        return GPTConfig(layers=layers, width=width, heads=heads, context=context)
    return (LSTMLanguageConfig if kind == "lstm" else RNNLanguageConfig)(width=width, layers=layers)


def born(kind: str, width: int, layers: int, context: int) -> nn.Module:
    """A language model of a kind with fresh weights; the caller's random numbers stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = MODELS[kind](settings_of(kind, width, layers, context), VOCABULARY, VOCABULARY)
        return model


def multiply_adds(kind: str, width: int, layers: int, length: int) -> int:
    """For reading a token of a text of that length, without the vocabulary; on average half is in view."""
    config = settings_of(kind, width, layers, length)
    seen = (length + 1) // 2
    return MODELS[kind].macs(config, VOCABULARY, VOCABULARY, seen) - width * VOCABULARY


def train_rate(model: Any, length: int, together: int = TOGETHER) -> float:
    """Tokens a second of one forward and backward pass over texts of that length."""
    tokens = torch.zeros(_rows(length, together), length, dtype=torch.int64)
    model.train()
    model.zero_grad(set_to_none=True)
    began = time.perf_counter()
    model.hidden(tokens)[0].square().mean().backward()
    return tokens.numel() / (time.perf_counter() - began)


@torch.inference_mode()
def write_rate(model: Any, length: int, together: int = TOGETHER) -> float:
    """Tokens a second of writing on after a text of that length, one text at a time."""
    model.eval()
    _, state = model.hidden(torch.zeros(1, length, dtype=torch.int64), model.start(1))
    token = torch.zeros(1, 1, dtype=torch.int64)
    began = time.perf_counter()
    for _ in range(WRITTEN):
        _, state = model.hidden(token, state)
    return WRITTEN / (time.perf_counter() - began)


def _rows(length: int, together: int = TOGETHER) -> int:
    return max(1, together // length)


def _rounded(rate: float) -> int:
    """A rate with as many figures as are worth reading."""
    return int(float(f"{rate:.{ROUNDED}g}"))


def _billions(count: float) -> Said:
    """So many billions, in the units that each language counts by."""
    return f"{float(f'{count:.2g}'):g} billion", f"{float(f'{10 * count:.2g}'):,g}억"

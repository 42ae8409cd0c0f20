"""Gates: what one unit of an LSTM forgets, writes and shows, token by token (Karpathy 2015, 1506.02078).

The values are those of the readable cell; training used the fused kernel on the same weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from sadari.errors import SadariError
from sadari.inspection.record import Recorder
from sadari.inspection.rows import PARTS, Part, sample
from sadari.inspection.view import View, say
from sadari.layers.tokens import is_real
from sadari.metrics import number

if TYPE_CHECKING:
    from sadari.runs import Run

MOST = 60  # tokens shown; more would be too small to read
USUAL = 30  # tokens that an example has, about
PARTS_OF_A_CELL = ("forget", "input", "output", "cell")

TEXTS = {
    "title": (
        "Unit {unit} lets go of its cell at {drops} of {steps} tokens, most at ‘{wiped}’ (keeps {least})",
        "유닛 {unit}: 토큰 {steps}개 중 {drops}개에서 셀을 놓고, ‘{wiped}’에서 가장 많이 놓는다({least})",
    ),
    "caption": (
        "One unit of layer {layer}, read forwards over {what}. Forget gate: share of the cell that stays. "
        "Input gate: share of the new that is written. Output gate: share of the cell that is shown. Cell: "
        "what it holds, blue above zero, orange below.",
        "{what}, 앞에서부터 읽는 {layer}층의 유닛 하나. 망각 게이트: 남기는 셀의 비율. 입력 게이트: "
        "새것을 써넣는 비율. 출력 게이트: 셀을 밖으로 보이는 비율. 셀: 담은 값, 양수는 파랑, 음수는 주황.",
    ),
    "given": ("the text that was given", "주어진 글"),
    "example": ("a {part} text", "{part} 글 하나"),
    "row": ("a {part} series", "{part} 수열 하나"),
    "see": (
        "Where the forget gate is open (a typical {kept}), the cell carries what it was told on to the next "
        "token, about {lasts} tokens at a stretch here; below one half it lets go. It moved most at "
        "‘{moved}’, from {before} to {after}.",
        "망각 게이트가 열린 곳(보통 {kept})에서 셀은 들은 것을 다음 토큰으로 나르며, 여기서는 한 번에 "
        "{lasts}개쯤 갑니다. 절반 아래로 닫히면 놓습니다. 가장 크게 움직인 곳은 ‘{moved}’로, {before}에서 "
        "{after}로 갔습니다.",
    ),
    "forget": ("forget gate", "망각 게이트"),
    "input": ("input gate", "입력 게이트"),
    "output": ("output gate", "출력 게이트"),
    "cell": ("cell", "셀"),
    "token": ("token", "토큰"),
    "number": ("number", "수"),
}


def gates(
    run: Run,
    *,
    part: Part = "validation",
    text: str | None = None,
    layer: int | None = None,
    unit: int | None = None,
) -> View:
    """One unit's gates along a text: token (T,) as text; forget, input, output, cell (T,).

    Without `unit`, the one whose cell moves most; without `layer`, the last; both are counted from 1.
    facts["kept"] is the median of the forget gate, facts["drops"] the number of tokens at which it is below
    one half. Raises SadariError when the run has no such layer or unit, or the text no token.
    """
    core: Any = run.model.lstm
    layer = core.num_layers if layer is None else layer
    if not 1 <= layer <= core.num_layers:
        raise SadariError(f"--layer {layer}: this {run.rung} has layers 1 to {core.num_layers}")
    if unit is not None and not 1 <= unit <= core.hidden_size:
        raise SadariError(f"--unit {unit}: each layer of this {run.rung} has units 1 to {core.hidden_size}")
    read, names = _example(run, part, text)
    values = {name: value[0].numpy() for name, value in _cell_values(run, read, layer - 1).items()}  # (T, C)
    chosen = int(values["cell"].std(0).argmax()) if unit is None else unit - 1
    along = {name: values[name][:, chosen].astype(np.float64) for name in PARTS_OF_A_CELL}
    kept, drops = float(np.median(along["forget"])), int((along["forget"] < 0.5).sum())
    least, moves = int(along["forget"].argmin()), np.diff(along["cell"], prepend=0.0)
    most = int(np.abs(moves).argmax())
    what = TEXTS["given"] if text is not None else _named("row" if run.kind == "series" else "example", part)
    return View(
        "gates",
        say(
            TEXTS,
            "title",
            unit=chosen + 1,
            drops=drops,
            steps=len(names),
            wiped=names[least],
            least=f"{along['forget'][least]:.0%}",
        ),
        say(TEXTS, "caption", layer=layer, what=what),
        say(
            TEXTS,
            "see",
            kept=f"{kept:.0%}",
            lasts=number(len(names) / (drops + 1), 2),
            moved=names[most],
            before=float(along["cell"][most] - moves[most]),
            after=float(along["cell"][most]),
        ),
        {"token": np.array(names, dtype=str), **along},
        {"rung": run.rung, "unit": chosen + 1, "layer": layer, "kept": kept, "drops": drops},
        {
            **{name: TEXTS[name] for name in PARTS_OF_A_CELL},
            "token": TEXTS["number" if run.kind == "series" else "token"],
        },
    )


def _named(key: str, part: Part) -> tuple[str, str]:
    return say(TEXTS, key, part=PARTS[part])


def _cell_values(run: Run, read: Tensor, layer: int) -> dict[str, Tensor]:
    """What the forward cell of a layer computes, each (1, T, C)."""
    recorder, net = Recorder(), run.model
    with torch.no_grad():
        if run.task.name == "language":
            net.hidden(read, None, recorder, plain=True)  # type: ignore[operator]
        else:
            net(read, recorder, plain=True)
    return {name: recorder.values[f"{name}{layer}"] for name in PARTS_OF_A_CELL}


def _example(run: Run, part: Part, text: str | None) -> tuple[Tensor, list[str]]:
    """What to read (1, T), and what people call each step of it."""
    if run.kind == "series":
        if text is not None:
            raise SadariError("--text is for runs on texts; this one reads series of numbers")
        features = sample(run, part).features[:1, :MOST]
        return torch.from_numpy(features), [number(float(value), 2) for value in features[0]]
    spec: Any = run.spec
    if text is None:
        tokens = _an_example(run, part)
    elif run.task.name == "language":
        tokens = spec.encode_prompts([text])[0]
    else:
        tokens = spec.encode(pl.DataFrame({spec.text: [text]}))[0]
    tokens = tokens[tokens >= 0][:MOST]
    if not len(tokens):
        raise SadariError("the text has no token, so no gate moves; give another with --text")
    pieces = [spec.tokenizer.token(int(token)) for token in tokens]
    names = [piece.replace("▁", " ").strip() or piece for piece in pieces]
    return torch.from_numpy(np.asarray(tokens, np.int64))[None], names


def _an_example(run: Run, part: Part) -> np.ndarray:
    """Tokens of a text of readable length: the first whose length is nearest to the usual."""
    if run.task.name == "language":
        stream = np.asarray(getattr(run.data(), part).features[: USUAL + 1])
        return stream.astype(np.int64)
    features = sample(run, part, limit=500).features
    lengths = is_real(torch.from_numpy(features)).sum(1).numpy()
    return features[int(np.abs(lengths - USUAL).argmin())]

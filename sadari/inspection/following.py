"""Following: what a language model expects after a beginning, the likeliest tokens with their odds.

A model of a language is nothing but this list, asked again after each token that it writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sadari.errors import SadariError
from sadari.inspection.view import View, say

if TYPE_CHECKING:
    from sadari.runs import Run

BEGINNING = 12  # tokens of a validation document that are read where no text is given

TEXTS = {
    "title": (
        "{rung}: after ‘{text}’ it expects ‘{first}’ ({odds})",
        "{rung}: ‘{text}’ 다음에 ‘{first}’({odds})가 올 것으로 봅니다",
    ),
    "caption": (
        "The {shown} likeliest of {vocabulary} tokens, and the share of the odds that each has.",
        "토큰 {vocabulary}가지 가운데 가장 그럴듯한 {shown}개와 그 확률.",
    ),
    "see": (
        "The shown tokens hold {held} of the odds. It is as unsure as if it chose among {choices} tokens "
        "at random; before it had learnt, it was {vocabulary}.",
        "보인 토큰들이 확률의 {held}를 차지합니다. 이 확률은 토큰 {choices}개 가운데 아무거나 고를 때만큼 "
        "불확실합니다. 배우기 전에는 {vocabulary}개였습니다.",
    ),
    "token": ("next token", "다음 토큰"),
    "odds": ("probability", "확률"),
}


def following(run: Run, *, text: str | None = None, top: int = 10) -> View:
    """token (K,) as text and odds (K,), the likeliest first, after `text` or the beginning of a document.

    facts["choices"] is the exponential of the entropy. Raises SadariError when `top` is below 1.
    """
    if top < 1:
        raise SadariError(f"--top {top} shows nothing; give 1 or more")
    tokenizer = run.spec.tokenizer
    if text is None:
        stream: Any = run.data().validation
        tokens = [tokenizer.end, *map(int, stream.features[: min(BEGINNING, int(stream.starts[1]) - 1)])]
        text = tokenizer.decode(tokens[1:])
    else:
        tokens = run.spec.encode_prompts([text])[0].tolist()
    model: Any = run.model
    with torch.inference_mode():
        logits, _ = model.step(torch.tensor([tokens]), model.start(1))
        logs = logits[0].double().log_softmax(-1)
    order = logs.argsort(descending=True)[:top]
    odds = logs.exp()
    choices = float((-(odds * logs.clamp(min=-1e9)).sum()).exp())
    names = [tokenizer.token(int(token)) for token in order]
    shown = odds[order].numpy()
    short = text if len(text) <= 40 else "…" + text[-40:]
    return View(
        "following",
        say(TEXTS, "title", rung=run.rung, text=short, first=names[0], odds=f"{shown[0]:.0%}"),
        say(TEXTS, "caption", shown=len(names), vocabulary=len(logs)),
        say(TEXTS, "see", held=f"{shown.sum():.0%}", choices=choices, vocabulary=len(logs)),
        {"token": np.array(names, dtype=str), "odds": shown},
        {"rung": run.rung, "text": text, "choices": choices, "vocabulary": len(logs)},
        {"token": TEXTS["token"], "odds": TEXTS["odds"]},
    )

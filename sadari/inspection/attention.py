"""Attention: what each head of each layer looks at in one text, and how much of each word reaches the answer.

Weights are exact: a model that is given a recorder takes the plain path, which keeps them. Rollout (Abnar &
Zuidema 2020, 2005.00928) follows them through the layers: half of each layer's output is what it looked at,
heads averaged, half is what the place held already. That heads rest on marks such as [CLS] and [SEP] is from
Clark et al. 2019 (1906.04341); words are ranked without these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from sadari.errors import SadariError
from sadari.inspection.record import record
from sadari.inspection.view import Said, View, say

if TYPE_CHECKING:
    from sadari.runs import Run

MOST = 48  # tokens of a text that are looked at: more cannot be read in a picture
FEW = 8  # tokens that an example should have at least
USUAL = 24  # tokens that an example should have about
SHOWN = 18  # letters of a token in a sentence
RESTS = 0.25  # share of the marks from which they are spoken of

TEXTS = {
    "title": (
        "{answer} draws most from “{first}”: {most} of its weight",
        "{answer} “{first}”에서 가장 많이 가져온다: 무게의 {most}",
    ),
    "answer_class": ("The answer “{label}”", "답 “{label}”은(는)"),
    "answer_next": ("What comes next", "다음에 올 토큰은"),
    "caption_heads": (
        "Above, the text: the darker a token, the more of it reaches the answer by rollout ({layers} layers, "
        "heads averaged). Below, every head: a row for each token that looks, a column for each that is "
        "looked at, both from the beginning of the text. {part}",
        "위는 글: 토큰이 짙을수록 롤아웃으로 셈한 몫이 답에 더 많이 닿는다(층 {layers}개, 헤드 평균). 아래는 "
        "모든 헤드: 행은 보는 토큰, 열은 보이는 토큰, 둘 다 글의 처음부터. {part}",
    ),
    "caption_one": (
        "Layer {layer}, head {head}: a row for each token that looks, a column for each that is looked at. "
        "{part}",
        "{layer}층 {head}번 헤드: 행은 보는 토큰, 열은 보이는 토큰. {part}",
    ),
    "caption_pool": (
        "The darker a token, the more its state weighs in the answer. {part}",
        "토큰이 짙을수록 그 자리의 상태가 답에서 차지하는 무게가 크다. {part}",
    ),
    "whole": ("All {count} tokens of the text.", "글의 토큰 {count}개 모두."),
    "cut": ("The first {count} of {all} tokens.", "토큰 {all}개 중 처음 {count}개."),
    "see_heads": (
        "After “{first}” ({most}) come “{second}” ({next}) and “{third}” ({last}). The narrowest head, "
        "{narrow} of layer {narrow_layer}, looks at {few} tokens at a time, the widest, {wide} of layer "
        "{wide_layer}, at {many}. Looked at is not yet decisive: a weight says where information came from, "
        "not what it did.",
        "“{first}”({most}) 다음은 “{second}”({next}), “{third}”({last})입니다. 가장 좁게 보는 헤드는 "
        "{narrow_layer}층 {narrow}번으로 한 번에 토큰 {few}개쯤을, 가장 넓게 보는 헤드는 {wide_layer}층 "
        "{wide}번으로 {many}개쯤을 봅니다. 보았다고 결정한 것은 아닙니다. 무게는 정보가 어디서 왔는지를 "
        "말할 뿐, 무엇을 했는지는 말하지 않습니다.",
    ),
    "rest": (
        " {share} of it comes from {names}: heads rest on a mark that says nothing where they find nothing.",
        " 몫의 {share}는 {names}에서 옵니다. 헤드는 찾는 것이 없으면 뜻 없는 표시 위에서 쉽니다.",
    ),
    "see_pool": (
        "After “{first}” ({most}) come “{second}” ({next}) and “{third}” ({last}); evenly spread, each token "
        "would have {even}. A state has read its neighbours too, so the weight of a place is not that of its "
        "word alone.",
        "“{first}”({most}) 다음은 “{second}”({next}), “{third}”({last})입니다. 고르게 나누면 토큰마다 "
        "{even}씩입니다. 상태는 둘레의 낱말도 읽었으므로, 자리의 무게가 그 낱말만의 무게는 아닙니다.",
    ),
    "rollout": ("share that reaches the answer", "답에 닿는 몫"),
    "pool": ("weight in the answer", "답에서의 무게"),
    "weights": ("weight in a head", "헤드 안의 무게"),
    "reach": ("tokens looked at at a time", "한 번에 보는 토큰 수"),
    "token": ("token", "토큰"),
    "layer": ("layer {layer}", "{layer}층"),
    "head": ("head {head}", "헤드 {head}"),
    "looks": ("the token that looks", "보는 토큰"),
    "seen": ("the token that is looked at", "보이는 토큰"),
}


@dataclass(frozen=True)
class _Text:
    """What was read, as people see it."""

    names: list[str]
    inside: list[bool]  # goes on the word of the token before
    marks: np.ndarray  # (T,) holds no word: begin or end of a text, or a place of the model's own
    whole: int  # tokens of the text before it was cut

    @property
    def part(self) -> Said:
        cut = "cut" if self.whole > MOST else "whole"
        return say(TEXTS, cut, count=min(self.whole, MOST), all=self.whole)

    def facts(self, run: Run, layer: int | None, head: int | None) -> dict[str, Any]:
        words = {"inside": self.inside, "marks": self.marks.tolist(), "tokens": self.whole}
        return {"rung": run.rung, "layer": layer, "head": head, **words}

    def first_three(self, answer: np.ndarray) -> dict[str, str]:
        """The three heaviest tokens with their shares, words before marks; of fewer the last again."""
        order = np.lexsort((-answer, self.marks))
        places = [int(order[min(k, len(order) - 1)]) for k in range(3)]
        words = zip(("first", "second", "third"), ("most", "next", "last"), places, strict=True)
        return {
            key: value
            for word, share, place in words
            for key, value in ((word, self.names[place][:SHOWN]), (share, f"{answer[place]:.0%}"))
        }


def attention(
    run: Run, *, text: str | None = None, layer: int | None = None, head: int | None = None
) -> View:
    """Weights of every head and layer over one text; `layer` and `head`, from 1, show one of them large.

    text     what to read; else one of the run's validation part

    token (T,); answer (T,): the share of each token in the answer, by rollout, or by the pooling weights of
    an LSTM with attention; weights (L, H, T, T): row i is where token i looks; reach (L, H): e to the mean
    entropy of a head's rows; rollout (T, T). Of an LSTM with attention only token and answer.
    SadariError for a layer or head that the model has not, one without the other, or an empty text.
    """
    tokens, whole = _tokens(run, text)
    values = record(run.model, torch.from_numpy(tokens)[None])
    layers = [values[f"layer{i}.attention"][0] for i in range(len(values)) if f"layer{i}.attention" in values]
    if not layers:
        if layer is not None or head is not None:
            raise SadariError("an LSTM with attention has one row of weights; leave out --layer and --head")
        return _pooled(run, _text(run, tokens, whole, len(tokens)), values)
    weights = torch.stack(layers).double().numpy()  # (L, H, T, T)
    L, H, T, _ = weights.shape
    _check(layer, L, "layer")
    _check(head, H, "head")
    if (layer is None) is not (head is None):
        raise SadariError("one head is shown by both its numbers; give --layer and --head, or neither")
    read = _text(run, tokens, whole, T)
    followed = rollout(weights)
    language = run.task.name == "language"
    cls = getattr(run.model, "cls", getattr(run.model.config, "pooling", "") == "cls")
    answer = followed[-1] if language else followed[0] if cls else followed.mean(0)
    reach = reaches(weights)
    caption = say(TEXTS, "caption_heads", layers=L, part=read.part)
    if layer is not None:
        caption = say(TEXTS, "caption_one", layer=layer, head=head, part=read.part)
    return View(
        "attention",
        say(TEXTS, "title", answer=_answer(run, values["output"]), **read.first_three(answer)),
        caption,
        _see(read, answer, reach),
        {
            "token": np.array(read.names),
            "answer": answer,
            "weights": weights.astype(np.float32),
            "rollout": followed.astype(np.float32),
            "reach": reach,
        },
        read.facts(run, layer, head),
        {
            **{name: TEXTS[name] for name in ("token", "weights", "reach", "looks", "seen")},
            "answer": TEXTS["rollout"],
            "rollout": TEXTS["rollout"],
            **{f"layer{i}": say(TEXTS, "layer", layer=i + 1) for i in range(L)},
            **{f"head{i}": say(TEXTS, "head", head=i + 1) for i in range(H)},
        },
    )


def _see(read: _Text, answer: np.ndarray, reach: np.ndarray) -> Said:
    """What a learner should see; and that heads rest on marks, where these have much of the answer."""
    narrow, wide = (np.unravel_index(at, reach.shape) for at in (reach.argmin(), reach.argmax()))
    see = say(
        TEXTS,
        "see_heads",
        narrow_layer=int(narrow[0]) + 1,
        narrow=int(narrow[1]) + 1,
        few=f"{reach[narrow]:.1f}",
        wide_layer=int(wide[0]) + 1,
        wide=int(wide[1]) + 1,
        many=f"{reach[wide]:.1f}",
        **read.first_three(answer),
    )
    rests = answer[read.marks].sum()
    if rests <= RESTS:
        return see
    found = ", ".join(dict.fromkeys(np.array(read.names)[read.marks].tolist()))
    rest = say(TEXTS, "rest", share=f"{rests:.0%}", names=found)
    return see[0] + rest[0], see[1] + rest[1]


def rollout(weights: np.ndarray) -> np.ndarray:
    """(L, H, T, T) -> (T, T): how much of each token's input is in each place after the last layer."""
    T = weights.shape[-1]
    followed = np.eye(T)
    for layer in weights:
        step = 0.5 * layer.mean(0) + 0.5 * np.eye(T)
        followed = step / step.sum(-1, keepdims=True) @ followed
    return followed


def reaches(weights: np.ndarray) -> np.ndarray:
    """(L, H, T, T) -> (L, H): how many tokens a head looks at, e to the mean entropy of its rows."""
    logs = np.log(weights, out=np.zeros_like(weights), where=weights > 0)
    return np.exp(-(weights * logs).sum(-1).mean(-1))


def _pooled(run: Run, read: _Text, values: dict[str, torch.Tensor]) -> View:
    """The one row of weights of an LSTM with attention."""
    weights = values["attention"][0].double().numpy()
    first = read.first_three(weights)
    return View(
        "attention",
        say(TEXTS, "title", answer=_answer(run, values["output"]), **first),
        say(TEXTS, "caption_pool", part=read.part),
        say(TEXTS, "see_pool", even=f"{1 / len(weights):.1%}", **first),
        {"token": np.array(read.names), "answer": weights},
        read.facts(run, None, None),
        {"token": TEXTS["token"], "answer": TEXTS["pool"]},
    )


def _text(run: Run, tokens: np.ndarray, whole: int, places: int) -> _Text:
    """Tokens as people read them; where the model has a place more, it is its own, before the text."""
    tokenizer: Any = run.spec.tokenizer  # type: ignore[union-attr]
    shown = [tokenizer.token(int(token)) for token in tokens]
    marked = any(token.startswith("▁") for token in shown)  # where spaces are, else every token is a word
    inside = [token.startswith("##") or (marked and not token.startswith("▁")) for token in shown]
    names = [token.removeprefix("##").strip("▁") or "▁" for token in shown]
    own = places - len(tokens)
    ends = np.isin(tokens, [tokenizer.start, tokenizer.end])
    marks = np.concatenate([np.ones(own, bool), ends])
    return _Text(["[CLS]"] * own + names, [False] * own + inside, marks, whole)


def _answer(run: Run, output: torch.Tensor) -> Said:
    """What the model answers to the text, as the subject of a sentence."""
    if run.task.name == "language":
        return TEXTS["answer_next"]
    winner = int(run.loss.predict(output)[0].argmax())
    return say(TEXTS, "answer_class", label=run.spec.classes[winner][:SHOWN])  # type: ignore[union-attr, index]


def _check(number: int | None, count: int, what: str) -> None:
    if number is not None and not 1 <= number <= count:
        raise SadariError(f"--{what} {number}: this model's {what}s are 1 to {count}")


def _tokens(run: Run, text: str | None) -> tuple[np.ndarray, int]:
    """The tokens to look at, at most MOST, and how many the text has."""
    spec: Any = run.spec
    if text is None:
        found = _example(run)
    elif run.task.name == "language":
        found = spec.encode_prompts([text])[0]
    else:
        found = spec.encode(pl.DataFrame({spec.text: [text]}))[0]
    found = found[found >= 0]
    if not len(found):
        raise SadariError("the text has no tokens to look at; give one with --text")
    return found[:MOST].astype(np.int64), len(found)


def _example(run: Run) -> np.ndarray:
    """Of the validation part, the text nearest to a length that can be read at a glance."""
    part: Any = run.data().validation
    if run.task.name == "language":
        lengths = np.diff(part.starts)
        nearest = int(_nearest(lengths))
        tokens = np.asarray(part.features[part.starts[nearest] : part.starts[nearest + 1] - 1])
        return np.concatenate([[run.spec.tokenizer.end], tokens.astype(np.int64)])  # type: ignore[union-attr]
    return part.features[_nearest((part.features >= 0).sum(-1))]


def _nearest(lengths: np.ndarray) -> int:
    """The first of those that are nearest to USUAL tokens."""
    return int(np.abs(lengths - USUAL).argmin())

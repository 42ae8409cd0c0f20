"""Patches: which places of a picture speak for a caption.

Of a model that reads (clip, siglip, locked) each place is covered in turn, and the cosine with the caption
taken again (occlusion, Zeiler & Fergus 2013, 1311.2901, section 4.2): what it loses is what the place is
worth. The vectors of the last layer's patches, which are often shown instead, would say less: in training
only the class token's (or the probe's) vector ever met a caption, so that those of single patches were never
taught to lie near one (Li et al. 2023, 2304.05653, see the same in CLIP's own weights).

    worth of place j      cos(picture, caption) - cos(picture with j covered, caption)

Beside it, of a Vision Transformer, where the token that is read has looked in its last layer: the mean over
heads of its attention. It asks for no caption, so it is the same for all.

Bag-of-words needs no trial. Its picture is one line x = W p + b over a few shrunk pixels, so that each has a
share of its own in the cosine with the caption's y, and those and b's add up to it:

    worth of pixel j      (W_j p_j) . y / (|x| |y|)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.inspection.captioned import captioned
from sadari.inspection.record import Recorder
from sadari.inspection.rows import PARTS, Part
from sadari.inspection.thumbnails import thumbnails
from sadari.inspection.view import View, say
from sadari.inspection.where import over_pixels

if TYPE_CHECKING:
    from sadari.runs import Run

PLACES = 8  # of a side, where the model cuts none itself
LEAST, LARGEST = 1, 12  # pictures
SHOWN = 40  # letters of a caption in a sentence
SLIGHT = 0.5  # correlation of two captions' maps below which they are said to differ

TEXTS = {
    "title_own": (
        "{rung}: asked for other words, other places of a picture speak (correlation of the maps {alike})",
        "{rung}: 다른 말을 물으면 그림의 다른 곳이 힘을 싣는다(지도의 상관 {alike})",
    ),
    "title_same": (
        "{rung}: whatever words are asked for, much the same places of a picture speak (correlation {alike})",
        "{rung}: 어떤 말을 물어도 그림의 비슷한 곳이 힘을 싣는다(지도의 상관 {alike})",
    ),
    "title_one": (
        "{rung}: “{caption}” has a cosine from {low} to {high} with these pictures",
        "{rung}: “{caption}”와(과) 이 그림들의 코사인은 {low}에서 {high}까지",
    ),
    "caption_covered": (
        "Each picture{looked}, and what speaks for the words under it: {places} places, each covered in turn "
        "with the mean colour of all pictures; the hotter, the more the cosine (the number) loses. Each map "
        "has a scale of its own. Pictures of the {part} part.",
        "그림{looked}, 그리고 아래에 적은 말에 힘을 싣는 곳: {places}자리를 차례로 전체 그림의 평균색으로 "
        "가렸다. 뜨거울수록 가렸을 때 코사인(숫자)을 많이 잃는다. 눈금은 지도마다 따로. {part} 부분의 그림.",
    ),
    "caption_line": (
        "Each picture, and what speaks for the words under it: the share of each of {places} shrunk pixels "
        "in the cosine (the number), exactly, as this model adds pixels up. Each map has a scale of its own. "
        "Pictures of the {part} part.",
        "그림, 그리고 아래에 적은 말에 힘을 싣는 곳: 줄인 픽셀 {places}개 저마다 코사인(숫자)에 보태는 몫. "
        "이 모델은 픽셀을 더해 읽으므로 정확한 값이다. 눈금은 지도마다 따로. {part} 부분의 그림.",
    ),
    "looked": (
        ", where the token that is read looked in the last layer",
        ", 읽어 내는 토큰이 마지막 층에서 본 곳",
    ),
    "see_own": (
        "With another of these captions in place of its own, a picture's map has a correlation of {alike} "
        "with the first: {verdict} {attention}Only what speaks for the words is hot; places that speak "
        "against them are left white.{cover}",
        "제 설명 대신 여기 있는 다른 설명을 넣으면 지도의 상관은 {alike}입니다. {verdict} {attention}뜨거운 "
        "곳은 그 말에 힘을 싣는 곳뿐이고, 반대하는 곳은 비워 둡니다.{cover}",
    ),
    "follows": (
        "the words decide what is hot.",
        "무엇이 뜨거운지는 말이 정합니다.",
    ),
    "stays": (
        "much of what is hot is so whatever is asked, so trust these maps little.",
        "무엇을 묻든 뜨거운 곳이 많으니, 이 지도는 조금만 믿으십시오.",
    ),
    "attention": (
        "Attention knows no caption; its correlation with the maps is {looked}. ",
        "어텐션은 설명을 모르며, 이 지도와의 상관은 {looked}입니다. ",
    ),
    "see_one": (
        "The words fit best the picture of “{best}”. {attention}A map shows what a cosine rests on, however "
        "small that cosine is: look at the number first.{cover}",
        "이 말은 “{best}” 그림에 가장 잘 맞습니다. {attention}지도는 코사인이 아무리 작아도 그것이 어디에 "
        "기대는지 보일 뿐이니, 숫자를 먼저 보십시오.{cover}",
    ),
    "cover": (
        " A cover is a change too: grey on a white ground may take something away or add it.",
        " 가리는 것도 바꾸는 것입니다. 흰 바탕의 회색은 무엇을 지울 수도, 더할 수도 있습니다.",
    ),
    "picture": ("picture", "그림"),
    "speaks": ("speaks for them", "힘을 싣는 곳"),
    "worth": ("worth of each place", "자리마다의 값"),
    "heat": ("speaks for the words", "그 말에 힘을 싣는 곳"),
    "attention_map": ("looked at", "본 곳"),
    "cosine": ("cosine", "코사인"),
    "caption": ("words", "말"),
}


@dataclass(frozen=True)
class Maps:
    """What places of pictures are worth to a caption each."""

    worth: Float[np.ndarray, "n h w"]
    cosine: Float[np.ndarray, " n"]


def patches(
    run: Run,
    *,
    part: Part = "test",
    count: int = 6,
    caption: str | None = None,
    language: str | None = None,
) -> View:
    """Which places of some pictures speak for their captions, or for `caption`.

    worth (N, h, w): of each place, may be below 0; heat (N, H, W): what is above 0, over the pixels, its
    largest 1; of a Vision Transformer looked (N, h, w) and looked_heat (N, H, W); cosine (N,); caption (N,):
    the words asked for; own (N,): each picture's first caption; picture (N, H, W, C) uint8, made smaller.
    SadariError for a count that there is not, and a caption of no word.
    """
    if not LEAST <= count <= LARGEST:
        raise SadariError(f"--count {count}: {LEAST} to {LARGEST} pictures have room; use --count 6")
    if caption is not None and not caption.strip():
        raise SadariError("the caption has no words to look for; give some with --caption")
    shown = captioned(run, part, language=language).distinct(count)
    texts = shown.texts if caption is None else [caption] * len(shown)
    encoded = run.spec.encode_captions(texts)
    asked = run.task.captions(run.model, torch.from_numpy(encoded))  # (n, D)
    several = caption is None and len(shown) > 1
    maps, *others = maps_of(run, shown.pixels, [asked, asked.roll(1, 0)] if several else [asked])
    looked = looked_at(run, shown.pixels)
    alike = correlation(maps.worth, others[0].worth) if others else None
    near = None if looked is None else correlation(maps.worth, looked)
    small = thumbnails(shown.pixels)
    size, shares = small.shape[1:3], covered_shares(run, shown.pixels.shape[1:3])
    arrays = {
        "worth": maps.worth.astype(np.float32),
        "heat": np.stack([_heat(np.maximum(one, 0), size, shares) for one in maps.worth]),
        "cosine": maps.cosine.astype(np.float32),
        "caption": np.array(texts),
        "own": np.array(shown.texts),
        "picture": small,
    }
    if looked is not None:
        arrays["looked"] = looked.astype(np.float32)
        arrays["looked_heat"] = np.stack([_heat(one - one.min(), size, shares) for one in looked])
    line = is_line(run.model)
    said: dict[str, Any] = {
        "rung": run.rung,
        "alike": _two(alike or 0.0),
        "cover": "" if line else TEXTS["cover"],
        "verdict": TEXTS["follows" if (alike or 0.0) < SLIGHT else "stays"],
        "attention": "" if near is None else say(TEXTS, "attention", looked=_two(near)),
        "caption": texts[0][:SHOWN],
        "best": shown.texts[int(maps.cosine.argmax())][:SHOWN],
        "low": _two(float(maps.cosine.min())),
        "high": _two(float(maps.cosine.max())),
    }
    kind = "one" if alike is None else "own"
    places = " × ".join(map(str, maps.worth.shape[1:]))
    return View(
        "patches",
        say(TEXTS, "title_same" if (alike or 0.0) >= SLIGHT else f"title_{kind}", **said),
        say(
            TEXTS, f"caption_{'line' if line else 'covered'}", places=places, part=PARTS[part],
            looked="" if looked is None else TEXTS["looked"],
        ),
        say(TEXTS, f"see_{kind}", **said),
        arrays,
        {
            "rung": run.rung,
            "kind": "line" if line else "covered",
            "alike": alike,
            "looked": near,
            "numbers": shown.numbers.tolist(),
        },
        {
            **{name: TEXTS[name] for name in ("picture", "worth", "heat", "speaks", "cosine", "caption")},
            "looked": TEXTS["attention_map"],
            "looked_heat": TEXTS["attention_map"],
        },
    )  # fmt: skip


def maps_of(
    run: Run, pixels: UInt8[np.ndarray, "n H W C"], texts: Sequence[Float[Tensor, "n D"]]
) -> list[Maps]:
    """What the places of each picture are worth to the caption in the same row, of length 1; once for each of
    `texts`."""
    pictures = run.task.tensors(torch.from_numpy(pixels))
    with torch.inference_mode():
        if is_line(run.model):
            return [_shares(run.model, pictures, text) for text in texts]
        return _covered(run, pictures, texts)


def looked_at(run: Run, pixels: UInt8[np.ndarray, "n H W C"]) -> Float[np.ndarray, "n h w"] | None:
    """Where the token that is read looked in the last layer, its own place left out; None without patches."""
    model: Any = run.model
    if not patch_of(run):
        return None
    recorder = Recorder()
    with torch.inference_mode():
        model.encode_image(run.task.tensors(torch.from_numpy(pixels)), recorder)
    attentions = [value for name, value in recorder.values.items() if name.endswith(".attention")]
    weights = attentions[-1].double().mean(1)[:, 0]  # the class token's row, or the probe's only one
    grid = grid_of(run, pixels.shape[1:3])
    return weights[:, -grid[0] * grid[1] :].reshape(len(pixels), *grid).numpy()


def patch_of(run: Run) -> int:
    """Pixels of a side of the patches that the model cuts; 0 where it cuts none."""
    sizes: Any = getattr(run.model, "sizes", None)
    return 0 if sizes is None or any(getattr(sizes, "depths", [])) else sizes.patch


def grid_of(run: Run, size: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the places that are covered: the model's own patches, else squares."""
    if patch := patch_of(run):
        return size[0] // patch, size[1] // patch
    return min(PLACES, size[0]), min(PLACES, size[1])


def covered_shares(run: Run, size: tuple[int, ...]) -> tuple[float, float]:
    """Which shares of height and width the places take; pixels behind the last patch are not looked at."""
    patch, (h, w) = patch_of(run), grid_of(run, size)
    return (h * patch / size[0], w * patch / size[1]) if patch else (1.0, 1.0)


def is_line(model: Any) -> bool:
    """Whether its picture is read by one line over shrunk pixels, as bag-of-words reads it."""
    return hasattr(model, "picture") and hasattr(model, "size")


def correlation(one: Float[np.ndarray, "n h w"], other: Float[np.ndarray, "n h w"]) -> float:
    """Mean over pictures of Pearson's correlation of two maps; 0 for a map that is level."""
    a, b = (maps.reshape(len(maps), -1) for maps in (one, other))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / np.where(lengths > 0, lengths, 1.0)).mean())


def _shares(model: Any, pictures: Float[Tensor, "n C H W"], text: Float[Tensor, "n D"]) -> Maps:
    """Of a line: what each shrunk pixel adds to the cosine."""
    small = F.adaptive_avg_pool2d(pictures, model.size).double()  # (n, C, s, s)
    weight = model.picture.weight.double().view(-1, *small.shape[1:])  # (D, C, s, s)
    vector = small.flatten(1) @ weight.flatten(1).t() + model.picture.bias.double()
    each = torch.einsum("nd,dchw->nchw", text.double(), weight) * small
    length = vector.norm(dim=-1).clamp(min=torch.finfo(vector.dtype).tiny)
    cosine = (vector * text.double()).sum(-1) / length
    return Maps((each.sum(1) / length[:, None, None]).numpy(), cosine.numpy())


def _covered(
    run: Run, pictures: Float[Tensor, "n C H W"], texts: Sequence[Float[Tensor, "n D"]]
) -> list[Maps]:
    """What the cosine loses where a place has the mean colour, which is 0 in what a network is shown."""
    model: Any = run.model
    h, w = grid_of(run, pictures.shape[-2:])
    patch = patch_of(run)
    height, width = (h * patch, w * patch) if patch else pictures.shape[-2:]
    down, across = (
        np.linspace(0, length, count + 1).round().astype(int) for length, count in ((height, h), (width, w))
    )
    whole = _cosines(model, pictures, texts)
    worth = np.empty((len(texts), len(pictures), h, w))
    for i in range(h):
        for j in range(w):
            hidden = pictures.clone()
            hidden[:, :, down[i] : down[i + 1], across[j] : across[j + 1]] = 0.0
            worth[:, :, i, j] = whole - _cosines(model, hidden, texts)
    return [Maps(*found) for found in zip(worth, whole, strict=True)]


def _cosines(
    model: Any, pictures: Float[Tensor, "n C H W"], texts: Sequence[Float[Tensor, "n D"]]
) -> Float[np.ndarray, "k n"]:
    """Of each picture with the caption in its row, for each of `texts`."""
    image = F.normalize(model.encode_image(pictures).float(), dim=-1)
    return torch.stack([(image * text).sum(-1) for text in texts]).double().numpy()


def _heat(
    places: Float[np.ndarray, "h w"], size: tuple[int, ...], shares: tuple[float, float]
) -> Float[np.ndarray, "H W"]:
    """A map over the pixels, its largest 1; what lies behind the last patch has none."""
    spread = [max(round(share * length), 1) for share, length in zip(shares, size, strict=True)]
    heat = np.zeros(size, np.float32)
    heat[: spread[0], : spread[1]] = over_pixels(places / (places.max() or 1.0), tuple(spread))
    return heat.round(3)


def _two(value: float) -> str:
    """Two decimals with a real minus sign; a rounded zero has none."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")

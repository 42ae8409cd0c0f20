"""Where: the part of a picture that an answer comes from.

Convolutions, Grad-CAM (Selvaraju et al. 2016, 1610.02391), for the logit y of one class over the maps A of
the last convolution, of which each channel k counts by its mean slope:

    a_k = mean_ij d y / d A_kij        where_ij = relu(sum_k a_k A_kij)

Vision transformer, attention rollout (Abnar & Zuidema 2020, 2005.00928): what each patch has of the pooled
vector after all layers. It asks for no class, so it speaks for the answer as a whole.

A map can be handsome and wrong. So the picture is shown to the network again with its hottest fifth covered,
and with its coldest fifth (as Petsiuk et al. 2018, 1806.07421, delete pixels): if the map is right, the first
costs the answer more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.inspection.attention import rollout
from sadari.inspection.exhibit import SHOWN, Exhibit, exhibit
from sadari.inspection.record import Recorder, record
from sadari.inspection.stages import find_stage, network_of, stages_of
from sadari.inspection.view import Said, View, say

if TYPE_CHECKING:
    from sadari.runs import Run

COVERED = 0.2  # share of the pixels that are covered
SLIGHT = 0.01  # change of a probability below which the answer has not moved
TOLD = 5  # classes whose probabilities are shown
COARSE = 4  # places along a side below which a map is said to be coarse

TEXTS = {
    "title": (
        "{rung}: with the hottest fifth covered, “{label}” goes from {whole} to {hot}; with the coldest "
        "fifth, to {cold}",
        "{rung}: 가장 뜨거운 5분의 1을 가리면 “{label}” 확률이 {whole}에서 {hot}로, 가장 찬 5분의 1을 가리면 "
        "{cold}로 바뀐다",
    ),
    "title_nothing": (
        "{rung}: nothing at {stage} speaks for “{label}” ({whole})",
        "{rung}: {stage}에는 “{label}”({whole}) 쪽에 힘을 싣는 곳이 없다",
    ),
    "caption_cam": (
        "Left, {picture}. Right, what speaks for “{label}” at {stage} by Grad-CAM, {places} places spread "
        "over the pixels. Below, the probabilities of the likeliest classes and of the answer where the "
        "hottest fifth is covered; → marks the one that the map speaks for.",
        "왼쪽은 {picture}. 오른쪽은 Grad-CAM으로 본, {stage}에서 “{label}” 쪽에 힘을 싣는 "
        "곳({places}자리를 픽셀 위에 펼침). 아래는 가장 그럴듯한 클래스와 뜨거운 5분의 1을 가렸을 때 답이 "
        "되는 클래스의 확률이고 →는 지도가 말하는 클래스.",
    ),
    "caption_rollout": (
        "Left, {picture}. Right, what reaches the answer by rollout of attention through {layers} layers, "
        "{places} patches spread over the pixels. Below, the probabilities of the likeliest classes and of "
        "the answer where the hottest fifth is covered; → marks the answer.",
        "왼쪽은 {picture}. 오른쪽은 {layers}개 층의 어텐션을 롤아웃해 본, 답에 닿는 곳({places} 패치를 "
        "픽셀 위에 펼침). 아래는 가장 그럴듯한 클래스와 뜨거운 5분의 1을 가렸을 때 답이 되는 클래스의 "
        "확률이고 →가 답.",
    ),
    "see_cam": (
        "The map speaks for “{label}” alone, and half of it lies in {half} of the picture; another class may "
        "speak from elsewhere (--of). {verdict}{coarse}",
        "이 지도는 “{label}” 하나에 대해서만 말하며, 그 절반이 그림의 {half}에 모여 있습니다. 다른 클래스의 "
        "근거는 다른 곳에 있을 수 있습니다(--of). {verdict}{coarse}",
    ),
    "see_rollout": (
        "Rollout follows what was looked at and knows no class: it speaks for the answer as a whole, here "
        "“{label}”. The hottest patch has {most} times an even share, the coldest {least}{own}. {verdict}",
        "롤아웃은 무엇을 보았는지 따라갈 뿐 클래스를 모릅니다. 답 전체, 여기서는 “{label}”에 대해 말합니다. "
        "가장 뜨거운 패치의 몫은 고른 몫의 {most}배, 가장 찬 패치는 {least}배입니다{own}. {verdict}",
    ),
    "own": (
        "; {share} stays with the class token, which stands for no place",
        ". {share}는 어느 자리도 아닌 클래스 토큰에 남습니다",
    ),
    "holds": (
        "Covering what is hot costs more than covering what is cold, so the map points at what matters.",
        "뜨거운 곳을 가릴 때 찬 곳보다 더 잃으므로, 지도는 중요한 곳을 가리킵니다.",
    ),
    "fails": (
        "Covering what is hot does not cost more than covering what is cold: do not trust this map.",
        "뜨거운 곳을 가려도 찬 곳보다 더 잃지 않습니다. 이 지도는 믿지 마십시오.",
    ),
    "robust": (
        "Covering either fifth hardly changes the answer: there is more than one reason for it, and the test "
        "does not tell the map right or wrong.",
        "어느 5분의 1을 가려도 답이 거의 바뀌지 않습니다. 근거가 여럿이라 이 시험으로는 지도가 맞는지 틀린지 "
        "알 수 없습니다.",
    ),
    "nothing": (
        "Nothing at {stage} speaks for “{label}”: every place speaks against it, and the map is empty.",
        "{stage}에는 “{label}” 쪽에 힘을 싣는 곳이 없습니다. 모든 자리가 반대하며, 지도는 비어 있습니다.",
    ),
    "coarse": (
        " {places} places are coarse; an earlier --stage has more, and speaks less of the class.",
        " {places}자리는 성깁니다. 앞선 --stage에는 자리가 더 많지만 클래스는 덜 말합니다.",
    ),
    "name": ("class", "클래스"),
    "probability": ("probability", "확률"),
    "covered_hot": ("hottest fifth covered", "뜨거운 5분의 1 가림"),
    "covered_cold": ("coldest fifth covered", "찬 5분의 1 가림"),
    "picture": ("the picture's pixels", "그림의 픽셀"),
    "rollout": ("share of each token in each place", "자리마다 각 토큰의 몫"),
    "map": ("the map, place by place", "자리마다의 지도"),
    "heat_cam": ("speaks for it", "힘을 싣는 정도"),
    "heat_rollout": ("share in the answer", "답에서 차지하는 몫"),
    "least_cam": ("not at all", "없음"),
    "least_rollout": ("least", "가장 작게"),
}


def where(run: Run, *, image: str | None = None, of: str | None = None, stage: str | None = None) -> View:
    """The part of a picture that speaks for class `of`, else for the answer.

    image    file of the picture; else one of the run's validation part
    stage    of a convolutional network: the stage whose maps are weighed; else its last convolution

    probability, covered_hot, covered_cold (K,): of the likeliest classes, the one spoken for among them, and
    what becomes of them with a fifth of the picture covered, NaN where the map is empty; name (K,); map
    (h, w): place by place, its largest 1, or of a ViT in even shares; heat (H, W): over the pixels, from 0 to
    1; picture (H, W, C) uint8. Of a ViT also rollout (T, T).
    SadariError for a class or stage that there is not, a picture that is none, or of a ViT with `of` or
    `stage`, which rollout does not ask for.
    """
    network = network_of(run.model)
    transformer = hasattr(network, "conv_proj")
    if transformer and (of is not None or stage is not None):
        raise SadariError(
            "attention rollout speaks for the answer as a whole, at all layers; leave out --of and --stage"
        )
    number = _class(run, of)
    seen = exhibit(run, image)
    number = seen.answer if number is None else number
    found: dict[str, Any] = {}
    if transformer:
        shares, own, found["rollout"] = patches(network, seen.tensor)
        found["map"] = shares / shares.mean()
        place, layers = "", len(network.encoder.layers)
    else:
        names = [each.name for each in stages_of(run.model)]
        place = find_stage(names, stage) or last_convolution(run.model)
        found["map"], own, layers = grad_cam(run.model, seen.tensor, number, place), 0.0, 0
        found["map"] /= found["map"].max() or 1.0
    found["heat"] = over_pixels(found["map"], seen.pixels.shape[:2], _patch(run))
    if transformer:  # every patch keeps much of itself in each layer, so that only differences tell
        found["heat"] = (found["heat"] - found["heat"].min()) / (np.ptp(found["heat"]) or 1.0)
    hot, cold = covered(run, seen, found["heat"])
    instead = [int(hot.argmax())] if np.isfinite(hot).all() else []  # what it says where that is covered
    order = _told(seen.probabilities, number, *instead)
    label = seen.classes[number][:SHOWN]
    numbers = {
        "rung": run.rung,
        "label": label,
        "whole": f"{seen.probabilities[number]:.0%}",
        "hot": f"{hot[number]:.0%}",
        "cold": f"{cold[number]:.0%}",
        "picture": seen.name,
        "stage": place,
        "layers": layers,
        "places": " × ".join(map(str, found["map"].shape)),
        "answer": seen.said,
    }
    kind = "rollout" if transformer else "cam"
    return View(
        "where",
        say(TEXTS, "title" if found["map"].any() else "title_nothing", **numbers),
        say(TEXTS, f"caption_{kind}", **numbers),
        _see(kind, numbers, found, verdict(seen.probabilities[number], hot[number], cold[number]), own),
        {
            "probability": seen.probabilities[order],
            "covered_hot": hot[order],
            "covered_cold": cold[order],
            "name": np.array([seen.classes[k][:SHOWN] for k in order]),
            "picture": seen.pixels,
            **{name: value.astype(np.float32) for name, value in found.items()},
        },
        {
            "rung": run.rung,
            **seen.facts,
            "of": seen.classes[number],
            "spoken": order.index(number),
            "stage": place or None,
            "covered": COVERED,
            "covered_hot": float(hot[number]),
            "covered_cold": float(cold[number]),
        },
        {
            **{key: TEXTS[key] for key in ("name", "probability", "covered_hot", "covered_cold")},
            **{key: TEXTS[key] for key in ("picture", "map", "rollout")},
            **{key: TEXTS[f"{key}_{kind}"] for key in ("heat", "least")},
        },
    )


def grad_cam(
    model: Any, picture: Float[Tensor, "1 C H W"], number: int, stage: str
) -> Float[np.ndarray, "h w"]:
    """What speaks for class `number` at each place of a stage; all zeros where all of them speak against."""
    recorder = Recorder()
    with torch.enable_grad():
        output = model(picture.detach().requires_grad_(), recorder)[0]
        logit = output[number] if len(output) > 1 else (output[0] if number else -output[0])
        (slope,) = torch.autograd.grad(logit, recorder.values[stage])
    maps = recorder.values[stage].detach()[0].double()
    weights = slope[0].double().mean((1, 2))
    return torch.einsum("k,kij->ij", weights, maps).relu().numpy()


def patches(
    model: Any, picture: Float[Tensor, "1 C H W"]
) -> tuple[Float[np.ndarray, "h w"], float, Float[np.ndarray, "T T"]]:
    """What each patch of a ViT has of the pooled vector, what its class token keeps, and the rollout."""
    values = record(model, picture)
    layers = [values[f"layer{i}.attention"][0] for i in range(len(model.encoder.layers))]
    followed = rollout(torch.stack(layers).double().numpy())
    if model.pooling is None:
        shares, own = followed[0, 1:], float(followed[0, 0])
    else:
        pooled = values["pooling.attention"][0].double().mean(0)[0].numpy()  # (N,)
        shares, own = pooled @ followed, 0.0
    grid = [-(-pixels // model.sizes.patch) for pixels in picture.shape[-2:]]  # of these pictures
    return shares.reshape(grid), own, followed


def last_convolution(model: Any) -> str:
    """The name of the last stage that is no pooling."""
    return [stage.name for stage in stages_of(model) if not stage.pools][-1]


def over_pixels(
    places: Float[np.ndarray, "h w"], size: tuple[int, ...], patch: int = 0
) -> Float[np.ndarray, "H W"]:
    """A map over the picture, between its places linear; patches over the edge are cut off as they were."""
    spread = (places.shape[0] * patch, places.shape[1] * patch) if patch else size
    finer = F.interpolate(
        torch.from_numpy(np.ascontiguousarray(places))[None, None], size=tuple(spread), mode="bilinear"
    )
    return finer[0, 0, : size[0], : size[1]].numpy()


def covered(
    run: Run, seen: Exhibit, heat: Float[np.ndarray, "H W"]
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Probabilities with the hottest fifth of the pixels at the training pictures' mean, and the coldest;
    NaN where there is no heat."""
    if not heat.any():
        nothing = np.full(len(seen.classes), np.nan)
        return nothing, nothing
    count = max(round(COVERED * heat.size), 1)
    order = np.argsort(-heat.ravel(), kind="stable")
    answers = []
    for pixels in (order[:count], order[-count:]):
        picture = seen.tensor.clone().contiguous()
        picture.flatten(2)[:, :, torch.from_numpy(pixels.copy())] = 0.0  # the mean, after normalising
        with torch.inference_mode():
            answers.append(run.loss.predict(run.model(picture))[0].numpy())
    return answers[0], answers[1]


def verdict(whole: float, hot: float, cold: float) -> str:
    """What the test says of a map, by the answer's probability: holds, fails, or robust: it cannot tell."""
    if max(abs(whole - hot), abs(whole - cold)) < SLIGHT:
        return "robust"
    return "holds" if hot < cold else "fails"


def _see(kind: str, numbers: dict[str, Any], found: dict[str, Any], judged: str, own: float) -> Said:
    if not found["map"].any():
        return say(TEXTS, "nothing", **numbers)
    heat = np.sort(found["heat"].ravel())[::-1]
    half = (int(np.searchsorted(np.cumsum(heat), heat.sum() / 2)) + 1) / heat.size
    coarse = kind == "cam" and min(found["map"].shape) < COARSE
    return say(
        TEXTS, f"see_{kind}", half=f"{half:.0%}", most=f"{found['map'].max():.3g}",
        least=f"{found['map'].min():.2g}", verdict=TEXTS[judged],
        coarse=say(TEXTS, "coarse", **numbers) if coarse else ("", ""),
        own=say(TEXTS, "own", share=f"{own:.0%}") if own else ("", ""), **numbers,
    )  # fmt: skip


def _told(probabilities: np.ndarray, *wanted: int) -> list[int]:
    """The likeliest classes, likeliest first, and the wanted ones in place of the last of them."""
    order = np.argsort(-probabilities, kind="stable")[:TOLD].tolist()
    for number in wanted:
        if number not in order:
            order.remove(next(k for k in reversed(order) if k not in wanted))
            order.append(number)
    return order


def _patch(run: Run) -> int:
    network = network_of(run.model)
    return network.sizes.patch if hasattr(network, "conv_proj") else 0


def _class(run: Run, of: str | None) -> int | None:
    if of is None:
        return None
    if of not in run.spec.classes:
        raise SadariError(
            f"--of {of!r} is no class of this run; its classes: {', '.join(run.spec.classes[:12])}"
        )
    return run.spec.classes.index(of)

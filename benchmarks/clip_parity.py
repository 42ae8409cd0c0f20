"""CLIP and SigLIP against open_clip and transformers: the same weights give the same embeddings.

Each network is built at its published size by its owner, weights of chance, norms and biases stirred. The
weights are read by `from_weights`, and both embed the same pictures and captions. Then ours are stirred anew,
written by the owner's names, loaded there with no name left over, and compared once more.

gap         the largest difference of two numbers of an embedding of length 1; `back` of those written
likeness    the mean cosine of two different pictures, and of two captions: far from 1, or the gap says little
parameters  of both

    pip install open_clip_torch torchvision     in a venv of its own; torchvision's version must fit torch's
    python benchmarks/clip_parity.py            a few minutes; writes benchmarks/results/clip_parity.csv
"""

from __future__ import annotations

import csv
import logging
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.models import clip_names, siglip_names
from sadari.models.clip import CLIP
from sadari.models.siglip import SigLIP

GOAL = 1e-5
PAIRS = 4
RESULTS = Path(__file__).parent / "results" / "clip_parity.csv"
State = dict[str, Tensor]


class Case(NamedTuple):
    """One network of one owner."""

    name: str
    layout: str
    build: Callable[[], nn.Module]
    read: Callable[[State], Any]
    write: Callable[[State], State]
    embed: Callable[[Any, Tensor, Tensor], tuple[Tensor, Tensor]]


def peers() -> Any:
    """open_clip, or a clear end: what cannot be compared misses no goal.

    It imports torchvision, whose own operators nothing here uses, but whose import fails where they were
    compiled for another torch: there they are given names, and no more.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError):
        pass
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        KEPT.append(library)
    try:
        import open_clip
    except (ImportError, RuntimeError, OSError) as error:
        print(f"left out: no open_clip ({error}); pip install open_clip_torch and a fitting torchvision")
        raise SystemExit(0) from error
    return open_clip


KEPT: list[Any] = []  # a library's names last as long as it does


def cases(open_clip: Any) -> list[Case]:
    """Every layout, at sizes that a processor embeds in seconds."""
    import transformers as hub

    def openai(state: State) -> State:
        """As OpenAI's files are: half precision would not be exact, so only the facts are added."""
        facts = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
        return state | {name: torch.tensor(value) for name, value in facts.items()}

    def by_openai(name: str) -> Callable[[], nn.Module]:
        """open_clip's builder of OpenAI's state dicts, which reads all sizes from the shapes."""

        def build() -> nn.Module:
            state = open_clip.create_model(name).state_dict()
            return open_clip.model.build_model_from_openai_state_dict(openai(state), cast_dtype=torch.float32)

        return build

    def quick(state: State) -> CLIP:
        return CLIP.from_weights(state, quick_gelu=True)

    def plain(state: State) -> CLIP:
        return CLIP.from_weights(state, quick_gelu=False)

    def exact(state: State) -> SigLIP:
        return SigLIP.from_weights(state, gelu="exact")

    def same(state: State) -> State:
        return state

    native, theirs = _native, _transformers
    return [
        Case("ViT-B/32", "OpenAI", by_openai("ViT-B-32"), quick, same, native),
        Case("RN50", "OpenAI", by_openai("RN50"), quick, same, native),
        Case("ViT-B/16", "open_clip", lambda: open_clip.create_model("ViT-B-16"), plain, same, native),
        Case("RN50", "open_clip", lambda: open_clip.create_model("RN50"), plain, same, native),
        Case(
            "ViT-B/32 apart", "open_clip",
            lambda: open_clip.create_model("ViT-B-32", force_custom_text=True),
            plain, lambda state: clip_names.export_open_clip(state, apart=True), native,
        ),
        Case(
            "SigLIP B/16", "open_clip", lambda: open_clip.create_model("ViT-B-16-SigLIP"), exact,
            siglip_names.export_open_clip, native,
        ),
        Case(
            "ViT-B/32", "Hugging Face", lambda: hub.CLIPModel(hub.CLIPConfig()), quick,
            clip_names.export_huggingface, theirs,
        ),
        Case(
            "SigLIP B/16", "Hugging Face", lambda: hub.SiglipModel(hub.SiglipConfig()),
            SigLIP.from_weights, same, theirs,
        ),
    ]  # fmt: skip


def _native(model: Any, pictures: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    return model.encode_image(pictures), model.encode_text(tokens)


def _transformers(model: Any, pictures: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    text = model.get_text_features(tokens).pooler_output
    return model.get_image_features(pictures).pooler_output, text


@torch.no_grad()
def stir(model: nn.Module) -> nn.Module:
    """Norms and biases that do something, as after training."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and not name.startswith("logit_"):
            parameter.add_(0.1 * torch.randn_like(parameter))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.momentum = 1.0
    return model.float().eval()


def captions(length: int, vocabulary: int) -> Tensor:
    """Words, the highest token as the end, and zeros; of SigLIP's length, words up to the last."""
    tokens = torch.zeros(PAIRS, length, dtype=torch.int64)
    for row in range(PAIRS):
        end = 5 + 4 * row
        tokens[row, :end] = torch.randint(2, vocabulary - 1, (end,))
        tokens[row, end] = vocabulary - 1
    return tokens


def gap(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> float:
    """The largest difference of normalised embeddings, of both kinds."""
    pairs = zip(ours, theirs, strict=True)
    return max((F.normalize(a, dim=-1) - F.normalize(b, dim=-1)).abs().max().item() for a, b in pairs)


def likeness(embeddings: Tensor) -> float:
    """The mean cosine of two different rows."""
    cosines = F.normalize(embeddings, dim=-1) @ F.normalize(embeddings, dim=-1).T
    return ((cosines.sum() - PAIRS) / (PAIRS * (PAIRS - 1))).item()


@torch.no_grad()
def compare(case: Case) -> dict[str, object]:
    """One network, as a row of the table."""
    torch.manual_seed(0)
    theirs = stir(case.build())
    ours = case.read(theirs.state_dict()).eval()
    length = ours.config.context or ours.sizes.context
    coarse = torch.randn(PAIRS, ours.inputs[0], 4, 4)  # of fine noise alone, pictures are all alike
    x = 2 * F.interpolate(coarse, ours.inputs[1:], mode="bilinear") + torch.randn(PAIRS, *ours.inputs)
    tokens = captions(length, ours.vocabulary)
    if any(isinstance(module, nn.BatchNorm2d) for module in theirs.modules()):
        case.embed(theirs.train(), x, tokens)  # norms that have seen pictures, or all look alike
        ours = case.read(theirs.eval().state_dict()).eval()
    found, expected = (ours.encode_image(x), ours.encode_text(tokens)), case.embed(theirs, x, tokens)
    first = gap(found, expected)
    stir(ours)
    theirs.load_state_dict(case.write(ours.state_dict()))
    back = gap((ours.encode_image(x), ours.encode_text(tokens)), case.embed(theirs, x, tokens))
    return {
        "network": case.name, "layout": case.layout, "gap": f"{first:.1e}", "back": f"{back:.1e}",
        "likeness_images": round(likeness(found[0]), 4), "likeness_texts": round(likeness(found[1]), 4),
        "parameters": type(ours).parameter_count(ours.config, ours.inputs, ours.vocabulary),
        "their_parameters": sum(p.numel() for p in theirs.parameters()), "torch": torch.__version__,
        "machine": platform.machine(),
    }  # fmt: skip


def main() -> None:
    logging.disable(logging.WARNING)
    open_clip = peers()
    table = []
    for case in cases(open_clip):
        row = compare(case) | {"open_clip": open_clip.__version__}
        table.append(row)
        print(
            "{layout:12} {network:15} gap {gap}, written back {back}; likeness {likeness_images} and "
            "{likeness_texts}; parameters {parameters:,} ({their_parameters:,})".format(**row),
            flush=True,
        )
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    for row in table:
        assert max(float(str(row["gap"])), float(str(row["back"]))) <= GOAL, row
        assert row["parameters"] == row["their_parameters"], row


if __name__ == "__main__":
    main()

"""docs/parity.md: the parameters of each network for pictures, here and elsewhere, and whose logits it gives.

Counted anew on every call: Sadari's networks by their tensors and by their formula, transformers' by their
tensors. torchvision's numbers and all gaps are read from the table that images_parity.py wrote. What a paper
says is written below as it says it.

    python benchmarks/parity_table.py             10 s; writes docs/parity.md and docs/parity.ko.md
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

from sadari.lang import Lang, pick
from sadari.models.alexnet import AlexNet
from sadari.models.efficientnet import EfficientNet
from sadari.models.resnet import VARIANTS, ResNet
from sadari.models.vgg import VGG
from sadari.models.vit import VARIANTS as VITS
from sadari.models.vit import ViT

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "benchmarks" / "results" / "images_parity.csv"
TOWERS = ROOT / "benchmarks" / "results" / "clip_parity.csv"
PHOTO, SMALL = ((3, 224, 224), 1000), ((3, 32, 32), 10)  # pictures and classes
MODELS = "tests/models/test_"


@dataclass(frozen=True)
class Network:
    """A row of the first table."""

    variant: str
    network: Any
    proof: str
    """The test that builds it and compares, as file::function."""
    torchvision: str = ""
    """What torchvision calls it."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What makes transformers build it; empty where it has none."""
    paper: str = ""
    task: tuple[tuple[int, int, int], int] = PHOTO


@dataclass(frozen=True)
class Proof:
    """A row of the table of logits that a test proves."""

    name: str
    against: str
    what: tuple[str, str]
    test: str


def networks() -> list[Network]:
    """The rows of the first table."""
    alexnet, vgg, resnet = (
        f"{MODELS}{name}.py::test_totals_are_the_published_ones" for name in ("alexnet", "vgg", "resnet")
    )
    small = f"{MODELS}resnet.py::test_totals_for_small_pictures_are_the_papers"
    vit = f"{MODELS}vit.py::test_published_networks_have_their_published_parameters"
    rows = [
        Network("alexnet", AlexNet, alexnet, "alexnet"),
        Network("two-tower", AlexNet, alexnet, paper="60 M"),
    ]
    for layers, said in ((11, "133 M"), (13, "133 M"), (16, "138 M"), (19, "144 M")):
        rows.append(Network(f"vgg{layers}", VGG, vgg, f"vgg{layers}", paper=said))
    for layers in (11, 13, 16, 19):
        rows.append(Network(f"vgg{layers}-bn", VGG, vgg, f"vgg{layers}_bn"))
    for layers in (18, 34, 50, 101, 152):
        for early in ("", "-v1") if layers >= 50 else ("",):
            name = f"resnet{layers}{early}"
            layout = VARIANTS[name]
            settings: dict[str, Any] = {
                "layer_type": "bottleneck" if layout.bottleneck else "basic",
                "depths": list(layout.depths),
                "hidden_sizes": [channels * (4 if layout.bottleneck else 1) for channels in layout.channels],
                "downsample_in_bottleneck": bool(early),
            }
            rows.append(Network(name, ResNet, resnet, "" if early else name, settings))
    for kind in ("resnet", "plain"):
        for layers, said in ((20, "0.27 M"), (32, "0.46 M"), (44, "0.66 M"), (56, "0.85 M"), (110, "1.7 M")):
            rows.append(
                Network(f"{kind}{layers}", ResNet, small, paper=said if kind == "resnet" else "", task=SMALL)
            )
    for name, theirs, said in (
        ("vit-ti16", "", "5 M"), ("vit-s16", "", "22 M"), ("vit-b16", "vit_b_16", "86 M"),
        ("vit-b32", "vit_b_32", ""), ("vit-l16", "vit_l_16", "307 M"),
    ):  # fmt: skip
        sizes = VITS[name]
        settings = {
            "hidden_size": sizes.width, "num_hidden_layers": sizes.layers, "num_attention_heads": sizes.heads,
            "intermediate_size": sizes.inner, "patch_size": sizes.patch,
        }  # fmt: skip
        rows.append(Network(name, ViT, vit, theirs, settings, said))
    lite = f"{MODELS}backbone.py::test_the_built_in_is_read_as_its_authors_wrote_it"
    rows.append(Network("lite0", EfficientNet, lite, paper="4.7 M"))
    return rows


PROOFS = [
    Proof(
        "AlexNet",
        "torchvision",
        (
            "its layers written out from the weights; gap ≤ 1e-5",
            "가중치로 층을 하나씩 써 내려간 것; 차이 ≤ 1e-5",
        ),
        f"{MODELS}alexnet.py::test_equals_torchvisions_layout_written_out",
    ),
    Proof(
        "AlexNet two-tower",
        "Krizhevsky 2012",
        (
            "the paper written out, two towers and normalisation across channels; gap ≤ 1e-4 of the logit",
            "논문을 그대로 써 내려간 것, 두 갈래와 채널 사이 정규화; 차이 ≤ 로짓의 1e-4",
        ),
        f"{MODELS}alexnet.py::test_two_towers_equal_the_paper_of_2012_written_out",
    ),
    Proof(
        "VGG 11 13 16 19, with and without norms",
        "1409.1556",
        ("the paper's table 1 written out; gap ≤ 1e-5", "논문 표 1을 써 내려간 것; 차이 ≤ 1e-5"),
        f"{MODELS}vgg.py::test_equals_the_papers_table_written_out",
    ),
    Proof(
        "ResNet 18 34 50 50-v1",
        "transformers",
        (
            "logits within 1e-5 of the largest, and every gradient",
            "로짓 차이 ≤ 가장 큰 로짓의 1e-5, 기울기도 모두 같음",
        ),
        f"{MODELS}resnet.py::test_logits_and_gradients_equal_transformers",
    ),
    Proof(
        "plain32",
        "resnet32",
        ("a ResNet without its sums gives the same bits", "덧셈을 뺀 ResNet과 비트까지 같음"),
        f"{MODELS}resnet.py::test_without_its_shortcuts_a_network_is_its_plain_twin",
    ),
    Proof(
        "ViT",
        "transformers",
        ("logits and gradients within 1e-5", "로짓과 기울기 차이 ≤ 1e-5"),
        f"{MODELS}vit.py::test_equals_transformers_in_answers_and_gradients",
    ),
    Proof(
        "ViT",
        "transformers",
        (
            "its files are read, ours are read by it; logits within 1e-5 both ways",
            "그쪽 파일을 읽고 우리 파일을 그쪽이 읽음; 양쪽 모두 로짓 차이 ≤ 1e-5",
        ),
        f"{MODELS}vit.py::test_weights_go_to_transformers_files_and_back",
    ),
    Proof(
        "ViT, pooling map",
        "transformers, SigLIP",
        ("pooled vectors within 1e-5", "모은 벡터 차이 ≤ 1e-5"),
        f"{MODELS}vit.py::test_map_pooling_is_siglips",
    ),
    Proof(
        "probe, fine-tune on ResNet 18, 50-v1, ViT",
        "transformers",
        ("features of a hub folder within 1e-5", "허브 폴더로 얻은 특징 차이 ≤ 1e-5"),
        f"{MODELS}backbone.py::test_gives_the_references_features",
    ),
    Proof(
        "every network, as ONNX",
        "onnxruntime",
        (
            "probabilities within 1e-5 of torch's, for 1 and for 5 pictures",
            "그림 1장과 5장의 확률이 torch와 1e-5 이내",
        ),
        "tests/test_export_images.py::test_each_network_answers_as_torch_does",
    ),
    Proof(
        "every rung, a run exported as ONNX",
        "onnxruntime",
        (
            "JPEG, PNG, GIF, TIFF and WebP files through the code beside it: the very pixels, "
            "probabilities within 1e-4",
            "JPEG, PNG, GIF, TIFF, WebP 파일을 함께 나온 코드로 읽음: 픽셀이 똑같고 확률 차이 ≤ 1e-4",
        ),
        "tests/test_export_images.py::test_a_run_answers_photos_with_its_files_alone",
    ),
]

TEXTS = {
    "towers": ("## Pictures and captions", "## 그림과 설명"),
    "embedded": (
        "CLIP and SigLIP at their published sizes, weights of chance: each owner's weights read, and ours "
        "written back in its layout; the largest difference of two numbers of an embedding of length 1. By "
        "`python benchmarks/clip_parity.py` (open_clip {open_clip}), in "
        "`benchmarks/results/clip_parity.csv`; on narrow networks, with every gradient, in "
        "[test_clip.py](../tests/models/test_clip.py) and [test_siglip.py](../tests/models/test_siglip.py), "
        "which run on every change.",
        "발표된 크기의 CLIP과 SigLIP, 무작위 가중치입니다. 주인의 가중치를 읽고, 우리 것을 그 배치로 써서 "
        "되읽혔을 때 길이 1인 벡터의 두 수가 다른 정도의 최댓값입니다. "
        "`python benchmarks/clip_parity.py`(open_clip {open_clip})로 재어 "
        "`benchmarks/results/clip_parity.csv`에 두었습니다. 좁은 신경망에서는 기울기까지 "
        "[test_clip.py](../tests/models/test_clip.py)와 [test_siglip.py](../tests/models/test_siglip.py)가 "
        "바뀔 때마다 견줍니다.",
    ),
    "both": (
        "| network | layout | Sadari | owner | read | written |",
        "| 신경망 | 배치 | Sadari | 주인 | 읽음 | 씀 |",
    ),
    "title": ("# Parity: the same networks as elsewhere", "# 같은 신경망임을 보이는 표"),
    "intro": (
        "A network with a known name is only that network if it has as many parameters and, with the same "
        "weights, gives the same answers. `python benchmarks/parity_table.py` writes this page; "
        "`tests/test_parity.py` counts everything again and fails where a number here is another. English "
        "| [한국어](parity.ko.md)",
        "널리 알려진 이름을 쓰려면 파라미터 수가 같아야 하고, 같은 가중치로 같은 답을 내야 합니다. 이 쪽은 "
        "`python benchmarks/parity_table.py`가 쓰고, `tests/test_parity.py`가 모두 다시 세어 숫자가 "
        "하나라도 다르면 실패합니다. [English](parity.md) | 한국어",
    ),
    "counts": ("## Parameters", "## 파라미터 수"),
    "counted": (
        "Colour pictures of 224 x 224 and 1,000 classes; resnet and plain 20 to 110: 32 x 32 and 10 "
        "classes, as in their paper. Sadari's are counted twice, by the tensors and by a formula. "
        "torchvision's stand in its table of weights (read into `benchmarks/results/images_parity.csv`), "
        "transformers' are counted in its own networks. Papers round: the paper of ViT says 307 M of "
        "vit-l16, where all code has 304 M.",
        "224 x 224 컬러 그림, 클래스 1,000개. resnet과 plain 20~110은 논문대로 32 x 32, 클래스 10개. "
        "Sadari의 수는 텐서로 한 번, 식으로 한 번 셉니다. torchvision의 수는 그 가중치 표에 있는 "
        "것(`benchmarks/results/images_parity.csv`에 적어 둠), transformers의 수는 그 신경망에서 센 "
        "것입니다. 논문은 반올림합니다. 다만 vit-l16은 논문이 307 M이라 하고, 코드는 어디나 304 M입니다.",
    ),
    "head": (
        "| network | Sadari | torchvision | transformers | its paper | proved in |",
        "| 신경망 | Sadari | torchvision | transformers | 논문 | 증명하는 곳 |",
    ),
    "logits": ("## Logits", "## 로짓"),
    "measured": (
        "The same weights, of chance, in torchvision {torchvision} and here; {pictures} pictures of noise, "
        "224 x 224. The gap is the largest difference of two logits, over the largest logit. Multiply-adds "
        "(10⁹ a picture) are Sadari's formula and torchvision's table. Measured by `python "
        "benchmarks/images_parity.py`, in `benchmarks/results/images_parity.csv`.",
        "torchvision {torchvision}과 여기에 같은 무작위 가중치를 넣고 224 x 224 잡음 그림 {pictures}장을 "
        "보인 결과입니다. 차이는 두 로짓이 가장 크게 다른 만큼을 가장 큰 로짓으로 나눈 것입니다. "
        "곱셈-덧셈(그림마다 10⁹번)은 Sadari의 식과 torchvision의 표입니다. `python "
        "benchmarks/images_parity.py`로 재어 `benchmarks/results/images_parity.csv`에 두었습니다.",
    ),
    "gaps": (
        "| network | gap | multiply-adds | torchvision's |",
        "| 신경망 | 차이 | 곱셈-덧셈 | torchvision의 것 |",
    ),
    "tests": (
        "And by tests, which run on every change, on narrow networks with weights of chance:",
        "그리고 고칠 때마다 도는 시험이, 무작위 가중치를 넣은 좁은 신경망으로 확인합니다.",
    ),
    "proofs": ("| network | against | what | proved in |", "| 신경망 | 무엇과 | 무엇을 | 증명하는 곳 |"),
}


def page(lang: Lang) -> str:
    """The whole document."""
    seen = measured()
    one = next(iter(seen.values()))
    lines = [pick(TEXTS, "title", lang), "", pick(TEXTS, "intro", lang), "", pick(TEXTS, "counts", lang), ""]
    lines += [pick(TEXTS, "counted", lang), "", *_table(pick(TEXTS, "head", lang), map(_counts, networks()))]
    lines += ["", pick(TEXTS, "logits", lang), ""]
    lines += [pick(TEXTS, "measured", lang, torchvision=one["torchvision"].split("+")[0], pictures=4), ""]
    gaps = [
        [row["network"], _gap(row["gap"]), row["gigamacs"], row["their_gigamacs"]] for row in seen.values()
    ]
    lines += _table(pick(TEXTS, "gaps", lang), gaps)
    towers = list(csv.DictReader(TOWERS.read_text(encoding="utf-8").splitlines()))
    lines += ["", pick(TEXTS, "towers", lang), ""]
    lines += [pick(TEXTS, "embedded", lang, open_clip=towers[0]["open_clip"]), ""]
    both = [
        [
            *(row["network"], row["layout"]),
            *(f"{int(row[name]):,}" for name in ("parameters", "their_parameters")),
            *(_gap(row[name]) for name in ("gap", "back")),
        ]
        for row in towers
    ]
    lines += _table(pick(TEXTS, "both", lang), both)
    said = [[row.name, row.against, row.what[lang == "ko"], _place(row.test)] for row in PROOFS]
    lines += ["", pick(TEXTS, "tests", lang), "", *_table(pick(TEXTS, "proofs", lang), said)]
    return "\n".join(lines) + "\n"


def tensors(row: Network) -> int:
    """Parameters of Sadari's network, by its tensors."""
    with torch.device("meta"):
        model = row.network(row.network.Config(variant=row.variant), *row.task)
    return sum(parameter.numel() for parameter in model.parameters())


def formula(row: Network) -> int:
    """The same by its closed formula."""
    return int(row.network.parameter_count(row.network.Config(variant=row.variant), *row.task))


@cache
def measured() -> dict[str, dict[str, str]]:
    """The rows of images_parity.csv by torchvision's name."""
    with open(MEASURED, newline="", encoding="utf-8") as file:
        return {row["network"]: row for row in csv.DictReader(file)}


def hugging(row: Network) -> int | None:
    """Parameters of transformers' network of the same sizes; None where it has none."""
    if not row.settings:
        return None
    import transformers

    kind = "ResNet" if row.network is ResNet else "ViT"
    settings = getattr(transformers, f"{kind}Config")(num_labels=row.task[1], **row.settings)
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}ForImageClassification")(settings)
    return int(sum(parameter.numel() for parameter in model.parameters()))


def _counts(row: Network) -> list[str]:
    theirs = measured()[row.torchvision]["their_parameters"] if row.torchvision else ""
    same = hugging(row)
    return [
        f"efficientnet-{row.variant}" if row.network is EfficientNet else row.variant,
        f"{tensors(row):,}",
        f"{int(theirs):,}" if theirs else "",
        f"{same:,}" if same else "",
        row.paper,
        _place(row.proof),
    ]


def _gap(said: str) -> str:
    return "0" if float(said) == 0 else said


def _place(test: str) -> str:
    """A link to the test's file, with the test's name."""
    file, _, name = test.partition("::")
    return f"[{name}](../{file})"


def _table(head: str, rows: Iterable[Sequence[str]]) -> list[str]:
    return [head, "|---" * (head.count("|") - 1) + "|", *(f"| {' | '.join(row)} |" for row in rows)]


PAGES: tuple[tuple[Lang, str], ...] = (("en", "parity.md"), ("ko", "parity.ko.md"))


def main() -> None:
    for lang, name in PAGES:
        (ROOT / "docs" / name).write_text(page(lang), encoding="utf-8")
        print(f"docs/{name}")


if __name__ == "__main__":
    main()

"""AlexNet, VGG, ResNet and ViT against torchvision: the same weights give the same logits.

Each network is built twice, by torchvision with weights of chance and norms stirred, and by Sadari; the
weights are copied by `import_torchvision`, which renames nothing, and both answer the same pictures.

gap         the largest difference of two logits, over the largest logit
parameters  of both; gigamacs by Sadari's formula, and in torchvision's table of weights
spread      standard deviation of the logits

    pip install torchvision                       its version must fit torch's (0.28 for 2.13)
    python benchmarks/images_parity.py            5 minutes; writes benchmarks/results/images_parity.csv,
                                                  from which benchmarks/parity_table.py makes docs/parity.md
"""

from __future__ import annotations

import csv
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from sadari.models import alexnet, resnet, vgg, vit

GOAL = 1e-5
PICTURES = 4
RESULTS = Path(__file__).parent / "results" / "images_parity.csv"
CASES: list[tuple[str, str, Any, Any]] = [  # torchvision's name, ours, network, module
    ("alexnet", "alexnet", alexnet.AlexNet, alexnet),
    *(
        (f"vgg{layers}{'_bn' * norm}", f"vgg{layers}{'-bn' * norm}", vgg.VGG, vgg)
        for norm in (0, 1)
        for layers in (11, 13, 16, 19)
    ),
    *((f"resnet{layers}", f"resnet{layers}", resnet.ResNet, resnet) for layers in (18, 34, 50, 101, 152)),
    ("vit_b_16", "vit-b16", vit.ViT, vit),
    ("vit_b_32", "vit-b32", vit.ViT, vit),
    ("vit_l_16", "vit-l16", vit.ViT, vit),
]


def peers() -> Any:
    """torchvision, or a clear end: what cannot be compared misses no goal."""
    try:
        try:
            import torchvision
        except RuntimeError:  # PyPI's is built for CUDA: beside a torch for CPUs its own operators are absent
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
            rules = "torchvision._meta_registrations"  # of those operators, which no network here has
            sys.modules[rules] = ModuleType(rules)
            import torchvision
    except (ImportError, RuntimeError, OSError) as error:
        print(
            f"left out: no torchvision ({error}); pip install the version made for torch {torch.__version__}"
        )
        raise SystemExit(0) from error
    return torchvision


def stir(model: nn.Module) -> nn.Module:
    """Norms and biases that do something, as after training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
        if getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias, std=0.1)
    for parameter in model.parameters():  # a ViT's last layer and its class token begin at zero
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


@torch.inference_mode()
def compare(torchvision: Any, case: tuple[str, str, Any, Any]) -> dict[str, object]:
    """One network, as a row of the table."""
    name, variant, network, module = case
    torch.manual_seed(0)
    theirs = stir(getattr(torchvision.models, name)())
    inputs, outputs = (3, 224, 224), 1000
    config = network.Config(variant=variant)
    ours = network(config, inputs, outputs).eval()
    state = theirs.state_dict()
    known = (state,) if module is vit else (state, ours)  # a ViT's is checked by its names alone
    ours.load_state_dict(module.import_torchvision(*known))
    pictures = torch.randn(PICTURES, *inputs)
    expected, found = theirs(pictures), ours(pictures)
    gap = ((found - expected).abs().max() / expected.abs().max()).item()
    weights = torchvision.models.get_model_weights(name).DEFAULT.meta
    return {
        "network": name, "gap": f"{gap:.1e}", "spread": round(expected.std().item(), 4),
        "parameters": network.parameter_count(config, inputs, outputs),
        "their_parameters": weights["num_params"],
        "gigamacs": round(network.macs(config, inputs, outputs) / 1e9, 3), "their_gigamacs": weights["_ops"],
        "torch": torch.__version__, "torchvision": torchvision.__version__, "machine": platform.machine(),
    }  # fmt: skip


def main() -> None:
    torchvision = peers()
    table = []
    for case in CASES:
        row = compare(torchvision, case)
        table.append(row)
        print(
            "{network:9} gap {gap}; parameters {parameters:,} ({their_parameters:,}); "
            "10^9 multiply-adds {gigamacs} ({their_gigamacs})".format(**row),
            flush=True,
        )
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    for row in table:
        assert float(str(row["gap"])) <= GOAL and row["parameters"] == row["their_parameters"], row
        assert abs(float(str(row["gigamacs"])) - float(str(row["their_gigamacs"]))) < 0.0011, row


if __name__ == "__main__":
    main()

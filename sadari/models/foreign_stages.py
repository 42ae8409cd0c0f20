"""The stages of any network: found by how its modules are arranged, since other libraries tell nothing else.

Most networks are a row of like parts between a beginning and an end:

    patch_embed, pos_embed | blocks.0 | blocks.1 | ... | blocks.11 | norm              a ViT of timm's
    conv1, bn1             | layer1   | layer2   | layer3 | layer4                     a ResNet of timm's
    embeddings             | encoder.stages.0 | ... | encoder.stages.3 | layernorm     transformers' ConvNeXt

The row is a list of modules, or siblings that are numbered, that holds most of the layers. What stands before
it is the first stage, what stands behind it the last; what stands between two of its parts goes with the one
before. Without a row each module of what holds most of the layers is a stage.
"""

from __future__ import annotations

import re

from torch import nn

MOST = 0.5  # of a network's layers are in its row


def stage_names(network: nn.Module) -> list[list[str]]:
    """The stages from the picture on, each as the names of its modules and of parameters beside modules.

    The name of every parameter and buffer is one of these, or begins with exactly one of them and a dot.
    """
    parts, row = _arranged(network, "", MOST * _layers(network))
    stages: list[list[str]] = [[]]
    for name in parts:
        if name in row or not row:
            stages.append([name])
        elif len(stages) > 1 and stages[-1][0] == row[-1]:
            stages.append([name])  # the end, which gathers all that follows
        else:
            stages[-1].append(name)
    found: list[list[str]] = []
    for stage in stages:
        if found and not any(_holds(network, name) for name in stage):
            found[-1] += stage
        elif found and not any(_holds(network, name) for name in found[0]):
            found[0] += stage  # nothing learns before it
        elif stage:
            found.append(stage)
    return found


def _arranged(module: nn.Module, path: str, most: float) -> tuple[list[str], list[str]]:
    """The names of a module's parts in order, as deep as its row is found; and those of the row."""
    beside = [path + name for name, _ in module.named_parameters(recurse=False)]
    beside += [path + name for name, _ in module.named_buffers(recurse=False)]
    children = dict(module.named_children())
    series: dict[str, list[str]] = {}
    for name in children:
        series.setdefault(re.sub(r"\d+$", "", name), []).append(name)
    for names in series.values():
        if len(names) > 1 and sum(_layers(children[name]) for name in names) >= most:
            return beside + [path + name for name in children], [path + name for name in names]
    for trunk, child in children.items():
        if _layers(child) >= most:
            inner, row = _arranged(child, f"{path}{trunk}.", most)
            row = row or [f"{path}{trunk}.{name}" for name, _ in child.named_children()]
            if len(row) > 1:
                names = list(children)
                at = names.index(trunk)
                before, after = ([path + name for name in some] for some in (names[:at], names[at + 1 :]))
                return beside + before + inner + after, row
    return beside + [path + name for name in children], []


def _layers(module: nn.Module) -> int:
    """How many modules in it have parameters of their own."""
    return sum(next(part.parameters(recurse=False), None) is not None for part in module.modules())


def _holds(network: nn.Module, name: str) -> bool:
    """Whether there is anything to learn under a name."""
    return any(own == name or own.startswith(f"{name}.") for own, _ in network.named_parameters())

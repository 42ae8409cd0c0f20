"""A folded network says what the network says, follows its weights, and leaves it as it was."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.data.spec_images import ImageSpec
from sadari.layers import folded as module
from sadari.layers.calls import Unlisted, calls_of
from sadari.layers.folded import Folded, can_fold, folded
from sadari.layers.program import Asis, Laid
from sadari.losses import make_loss
from sadari.models.alexnet import AlexNet, AlexNetConfig
from sadari.models.efficientnet import EfficientNet
from sadari.models.pixels import PixelLogistic, PixelLogisticConfig
from sadari.models.resnet import ResNet, ResNetConfig
from sadari.models.vgg import VGG, VGGConfig
from sadari.models.vit import ViT, ViTConfig
from sadari.tasks_images import ImageTask

pytestmark = pytest.mark.skipif(not can_fold(), reason="this torch brings no oneDNN")

NETWORKS: dict[str, tuple[Any, Any, tuple[int, int, int]]] = {
    "alexnet": (AlexNet, AlexNetConfig("alexnet", width=0.1), (3, 71, 65)),
    "two-tower": (AlexNet, AlexNetConfig("two-tower", width=0.1), (3, 65, 71)),  # in groups, with other norms
    "vgg11-bn": (VGG, VGGConfig("vgg11-bn", width=0.1), (3, 33, 47)),
    "vgg11-64": (VGG, VGGConfig("vgg11-64", width=0.2), (1, 28, 28)),
    "resnet18": (ResNet, ResNetConfig("resnet18", width=0.2), (3, 67, 61)),
    "resnet50": (ResNet, ResNetConfig("resnet50", width=0.1), (3, 64, 33)),
    "resnet20": (ResNet, ResNetConfig("resnet20", width=0.5), (3, 31, 33)),  # shortcuts without weights
    "plain20": (ResNet, ResNetConfig("plain20", width=0.5), (3, 32, 32)),
    "efficientnet": (EfficientNet, EfficientNet.TINY, (3, 37, 35)),  # filters a channel, uneven edges
    "vit": (ViT, ViTConfig("vit-32", width=32, layers=2, heads=2), (3, 33, 30)),
    "vit-map": (ViT, ViTConfig("vit-32", width=32, layers=2, heads=2, pooling="map"), (3, 32, 32)),
}


def stirred(model: nn.Module) -> Any:
    """Norms and biases that do something, as after training."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(std=0.3)
            part.running_var.uniform_(0.3, 2.0)
            if part.affine:
                nn.init.uniform_(part.weight, 0.5, 1.5)
        if isinstance(getattr(part, "bias", None), Tensor):
            nn.init.normal_(part.bias, std=0.2)
    return model.eval()


def network(name: str) -> tuple[Any, tuple[int, int, int]]:
    torch.manual_seed(0)
    kind, config, inputs = NETWORKS[name]
    model = stirred(kind(config, inputs, 7)).to(memory_format=torch.channels_last)
    return model, inputs


def pictures_of(count: int, inputs: tuple[int, int, int]) -> Tensor:
    return torch.randn(count, *inputs).contiguous(memory_format=torch.channels_last)


def gap(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def steps_of(twin: Folded, pictures: Tensor) -> list[Laid | Asis]:
    program = twin.program(pictures)
    assert program is not None, "the network was not written down"
    return [run.__self__ for run, _ in program.steps]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NETWORKS)
def test_says_what_the_network_says(name: str) -> None:
    model, inputs = network(name)
    products = sum(isinstance(part, nn.Conv2d | nn.Linear) for part in model.modules())
    for count in (1, 3):
        pictures = pictures_of(count, inputs)
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                twin = folded(model)
                assert gap(twin(pictures), model(pictures)) < 1e-5
                assert gap(twin(pictures.contiguous()), model(pictures)) < 1e-5
        with torch.no_grad():
            steps = steps_of(twin, pictures)
        left = {step.call.name for step in steps if isinstance(step, Asis)}
        assert not left & {"batch_norm", "relu", "hardtanh", "gelu", "conv2d"}
        if not name.startswith("vit"):
            assert sum(isinstance(step, Laid) for step in steps) == products


@pytest.mark.parametrize("name", NETWORKS)
def test_bf16_is_near(name: str) -> None:
    model, inputs = network(name)
    pictures = pictures_of(2, inputs)
    with torch.inference_mode():
        found, expected = folded(model, "bf16")(pictures), model(pictures)
    assert found.dtype == torch.float32 and 0 < gap(found, expected) < 0.05


class Layers(nn.Module):
    """A convolution, and what may follow it, written as one likes."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.Module | None, bend: Callable | None, sums: bool):
        super().__init__()
        self.convolution, self.norm, self.sums = convolution, norm, sums
        self.bend = bend

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolution(x)
        y = y if self.norm is None else self.norm(y)
        y = self.convolution(x) + y if self.sums else y
        return y if self.bend is None else self.bend(y)


@settings(deadline=None, max_examples=80)
@given(
    groups=st.sampled_from([1, 2, 4]),
    inputs=st.sampled_from([1, 3, 8]),
    outputs=st.sampled_from([1, 5, 16]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    window=st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 2)),
    size=st.tuples(st.integers(5, 13), st.integers(5, 13)),
    count=st.integers(1, 3),
    bias=st.booleans(),
    norm=st.sampled_from([None, True, False]),
    bend=st.sampled_from([None, F.relu, F.relu6, torch.relu, nn.ReLU6(), F.silu, torch.tanh]),
    sums=st.booleans(),
)
def test_any_convolution(
    groups, inputs, outputs, kernel, window, size, count, bias, norm, bend, sums
) -> None:
    """Of any window, with a norm that scales or does not, bent in a way that can be taken in or not."""
    padding, stride, dilation = window
    torch.manual_seed(0)
    inputs, outputs = inputs * groups, outputs * groups
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias)
    layers = None if norm is None else nn.BatchNorm2d(outputs, eps=0.1, affine=norm)
    model = stirred(Layers(convolution, layers, bend, sums))
    pictures = torch.randn(count, inputs, *size)
    with torch.no_grad():
        twin = folded(model)
        assert isinstance(steps_of(twin, pictures)[0], Laid)
        torch.testing.assert_close(twin(pictures), model(pictures), rtol=1e-4, atol=1e-5)


class Sums(nn.Module):
    """Sums, some of which must not be written over what is added."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.one = nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z = self.second(F.relu(self.second(y)))
        if self.way == "alone":
            return F.relu(z + y)
        if self.way == "read later":
            return F.relu(z + y) * 2 + y
        if self.way == "seen through another name":
            part = y[:, :, 1:]
            return (z + y)[:, :, 1:] * part
        if self.way == "of the pictures":
            return self.second(x) + x
        if self.way == "broadcast":
            return self.second(x) + self.one(x)
        if self.way == "twice the same":
            return y + y
        if self.way == "returned":
            F.relu(z + y)
            return y
        return self.second(F.relu(z + y)) + F.relu(self.first(z) + y)


@pytest.mark.parametrize(
    "way",
    ["alone", "read later", "seen through another name", "of the pictures", "broadcast", "twice the same",
     "returned", "two sums"],
)  # fmt: skip
def test_sums(way: str) -> None:
    torch.manual_seed(0)
    model, pictures = Sums(way).eval(), torch.randn(2, 3, 6, 5)
    before = pictures.clone()
    with torch.no_grad():
        twin = folded(model)
        torch.testing.assert_close(twin(pictures), model(pictures), rtol=1e-4, atol=1e-5)
        over = [step for step in steps_of(twin, pictures) if isinstance(step, Laid) and step.over]
    assert bool(over) == (way in ("alone", "two sums"))
    assert torch.equal(pictures, before)


def test_a_network_is_left_as_it_was() -> None:
    model, inputs = network("resnet18")
    state, parts = copy.deepcopy(model.state_dict()), list(model.modules())
    pictures = pictures_of(2, inputs)
    with torch.inference_mode():
        folded(model)(pictures)
        folded(model, "bf16")(pictures)
    assert list(model.modules()) == parts and not model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])
    twin = folded(model)
    assert torch.equal(twin(pictures), model(pictures))  # under autograd it is the network itself
    twin(pictures).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_follows_the_weights() -> None:
    """However they change: a step, another tensor, statistics alone."""
    model, inputs = network("resnet20")
    pictures = pictures_of(2, inputs)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)

    def step() -> None:
        model(pictures).square().mean().backward()
        optimizer.step()

    def another() -> None:
        model.fc.weight = nn.Parameter(torch.randn_like(model.fc.weight))

    def statistics() -> None:
        model.train()
        with torch.no_grad():
            model(3 * pictures + 1)
        model.eval()

    def state() -> None:
        model.load_state_dict({name: value / 2 for name, value in model.state_dict().items()})

    for change in (step, another, statistics, state):
        with torch.no_grad():
            before = folded(model)(pictures)
        change()
        with torch.no_grad():
            assert gap(folded(model)(pictures), model(pictures)) < 1e-5
            assert gap(before, model(pictures)) > 1e-3, f"{change.__name__} changed nothing"


def test_weights_are_laid_out_once() -> None:
    model, inputs = network("vgg11-bn")
    with torch.no_grad():
        first, again, four = (
            [
                step.weight
                for step in steps_of(folded(model), pictures_of(count, inputs))
                if isinstance(step, Laid)
            ]
            for count in (2, 2, 4)
        )
    assert all(a is b for a, b in zip(first, again, strict=True))
    assert all(a is b for a, b in zip(first, four, strict=True))  # whatever the number of pictures


def test_steps_are_kept_for_some_shapes_only() -> None:
    model, inputs = network("alexnet")
    with torch.no_grad():
        for count in range(1, module.SHAPES + 4):
            folded(model)(pictures_of(count, inputs))
    assert len(module.KEPT[model].programs) == module.SHAPES


def test_goes_with_the_network() -> None:
    model, inputs = network("resnet20")
    with torch.no_grad():
        folded(model)(pictures_of(1, inputs))
    gone = weakref.ref(model)
    before = len(module.KEPT)
    del model
    gc.collect()
    assert gone() is None and len(module.KEPT) < before


def test_threads_side_by_side() -> None:
    model, inputs = network("resnet18")
    pictures = pictures_of(8, inputs)

    def answer(row: int) -> Tensor:
        with torch.inference_mode():
            return folded(model)(pictures[row : row + 1])

    with ThreadPoolExecutor(4) as pool:
        found = torch.cat([*pool.map(answer, range(8))])
    with torch.inference_mode():
        assert gap(found, model(pictures)) < 1e-5


class Own(nn.Module):
    """Does something that has no place in a list."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.convolution = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)
        self.seen = torch.ones(4, 1, 1)  # no weight that is known to the network

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolution(x)
        if self.way == "in place":
            return F.relu(y, inplace=True).add_(1)
        if self.way == "relu in place":
            z = nn.ReLU(inplace=True)(y)
            return z + y
        if self.way == "reads a number":
            return y * 2 if y.max() > 0 else y
        if self.way == "reads numbers":
            return y + torch.from_numpy(y.float().numpy())
        if self.way == "statistics of the batch":
            return self.norm(y)
        if self.way == "chance":
            return y * torch.rand(()) * 0
        if self.way == "a tensor of its own":
            return y * self.seen
        return y[y > 0].sum().reshape(1)


@pytest.mark.parametrize(
    "way",
    ["in place", "relu in place", "reads a number", "reads numbers", "statistics of the batch", "chance",
     "a tensor of its own", "chooses by numbers"],
)  # fmt: skip
def test_what_has_no_list_is_done_by_the_network(way: str) -> None:
    torch.manual_seed(0)
    model, pictures = Own(way).eval(), torch.randn(2, 3, 8, 8)
    with pytest.raises(Unlisted):
        calls_of(model, pictures.shape)
    with torch.no_grad():
        twin = folded(model)
        assert twin.program(pictures) is None and twin.blocks(5, (3, 8, 8)) == 0
        assert torch.equal(twin(pictures), model(pictures))
        assert gap(folded(model, "bf16")(pictures) + 1, model(pictures) + 1) < 0.05


def test_is_left_out_where_it_cannot_serve() -> None:
    model, inputs = network("resnet20")
    pictures = pictures_of(2, inputs)

    def used(model: nn.Module, pictures: Tensor = pictures) -> bool:
        return folded(model).program(pictures) is not None

    assert not used(model)  # gradients may be wanted
    with torch.no_grad():
        assert used(model) and not used(model, pictures.double()) and not used(model, pictures[:0])
        assert not used(PixelLogistic(PixelLogisticConfig(), inputs, 7).eval())  # no convolution in it
        assert not used(copy.deepcopy(model).double()) and not used(copy.deepcopy(model).train())
        with torch.autocast("cpu", torch.bfloat16):
            assert not used(model)
        heard: list[int] = []
        handle = model.layer1[0].register_forward_hook(lambda *_: heard.append(1))
        assert not used(model)
        folded(model)(pictures)
        handle.remove()
        assert heard == [1] and used(model)
    with torch.inference_mode():
        assert not used(network("resnet20")[0])  # such weights have no versions


def test_a_task_answers_by_it() -> None:
    """Any number of pictures, in blocks of like size, as the network answers them one by one."""
    spec = ImageSpec("thing", "photo", tuple("abcdefg"), 33)
    task = ImageTask("classify", make_loss("cross-entropy", classes=7), spec)
    torch.manual_seed(0)
    model = stirred(ResNet(ResNetConfig("resnet18", width=0.2), task.inputs, 7))
    pixels = torch.randint(256, (11, 33, 33, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = torch.cat([model(task.tensors(one[None])) for one in pixels])
        hungriest = calls_of(model, (1, *task.inputs)).hungriest * 4
        for at_hand, room, blocks in (
            (11 * hungriest, hungriest, 1),
            (hungriest, 4 * hungriest, 3),
            (0, 99 * hungriest, 2),
            (0, 1, 11),
        ):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, "AT_HAND", at_hand)
                patch.setattr(module, "ROOM", room)
                assert folded(model).blocks(11, task.inputs) == blocks
                for count in (0, 1, 2, 11):
                    found = task.outputs(model, pixels[:count])
                    assert found.shape == (count, 7)
                    torch.testing.assert_close(found, expected[:count], rtol=1e-4, atol=1e-5)
        assert 0 < gap(task.outputs(model, pixels, "bf16"), expected) < 0.05

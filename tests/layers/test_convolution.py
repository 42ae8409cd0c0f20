"""Convolution: sizes as torch's, fields of view as gradients show them, costs as counted on real layers."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from sadari.errors import SadariError
from sadari.layers.convolution import Norm, Window, checked, fields, laws, share, window_costs
from sadari.models import alexnet, resnet, vgg
from sadari.models.alexnet import AlexNet
from sadari.models.resnet import ResNet, ResNetConfig
from sadari.models.vgg import VGG, VGGConfig

FAMILIES: list[tuple[Any, Any]] = [(AlexNet, alexnet), (VGG, vgg), (ResNet, resnet)]
VARIANTS_OF = {family: module.VARIANTS for family, module in FAMILIES}
VARIANTS = [(family, name) for family, module in FAMILIES for name in module.VARIANTS]
EVERY_FAMILY = pytest.mark.parametrize("family", [family for family, _ in FAMILIES])
EVERY_VARIANT = pytest.mark.parametrize(("family", "variant"), VARIANTS, ids=[name for _, name in VARIANTS])

windows = st.builds(
    Window,
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    inputs=st.just(1),
    outputs=st.integers(0, 1),
)


def narrow(family: Any, variant: str) -> Any:
    """A variant's config with few channels, and nothing left to chance."""
    settings = {"dropout": 0.0} if hasattr(family.Config(), "dropout") else {}
    return family.Config(variant=variant, width=1 / 16, **settings)


def side(family: Any, variant: str) -> int:
    """Pixels of a side that every variant takes."""
    return 64 if family is AlexNet and variant != "alexnet-64" else 32


def seen(model: nn.Module, pictures: Tensor) -> dict[str, Tensor]:
    """What a recorder is given."""
    values: dict[str, Tensor] = {}
    model(pictures, lambda name, value: values.setdefault(name, value))
    return values


@given(
    window=st.builds(
        Window, kernel=st.integers(1, 7), stride=st.integers(1, 4), padding=st.integers(0, 3),
        inputs=st.just(1), outputs=st.integers(0, 1), ceil=st.booleans(),
    ),
    n=st.integers(1, 40),
)  # fmt: skip
def test_sizes_are_torchs(window: Window, n: int) -> None:
    assume(2 * window.padding <= window.kernel and window.size(n) >= 1)
    assume(window.outputs == 0 or not window.ceil)
    if not window.outputs and window.ceil:  # torch lets no window begin beyond the picture
        assume((window.size(n) - 1) * window.stride < n + window.padding)
    layer = window.layer() if window.outputs else window.pool()
    assert layer.to("meta")(torch.empty(1, 1, n, n, device="meta")).shape[-1] == window.size(n)


@given(chain=st.lists(windows, min_size=1, max_size=4))
def test_fields_of_view_are_where_gradients_reach(chain: list[Window]) -> None:
    """The middle place's gradient towards a picture covers `reach` pixels round `start + place * jump`."""
    n = 700
    picture = torch.ones(1, 1, 1, n, requires_grad=True)
    x: Tensor = picture
    for window in chain:
        weight = torch.ones(1, 1, 1, window.kernel)
        x = nn.functional.conv2d(x, weight, stride=(1, window.stride), padding=(0, window.padding))
    place = x.shape[-1] // 2
    x[0, 0, 0, place].backward()
    assert picture.grad is not None
    touched = picture.grad[0, 0, 0].nonzero()[:, 0]
    first, last = int(touched[0]), int(touched[-1])
    (field,) = fields([("all", chain)], (1, n, n))
    assert field.size[1] == x.shape[-1] and field.jump == math.prod(window.stride for window in chain)
    assert last - first + 1 == field.reach
    assert (first + last + 1) / 2 == field.start + place * field.jump


def test_padding_moves_the_first_field_out_of_the_picture() -> None:
    same, valid = (fields([("a", [Window(3, 1, padding)])], (1, 9, 9))[0] for padding in (1, 0))
    assert (same.start, same.size) == (0.5, (9, 9)) and (valid.start, valid.size) == (1.5, (7, 7))


@EVERY_VARIANT
def test_formulas_count_real_parameters_and_multiply_adds(family: Any, variant: str) -> None:
    """At full width, on shapes alone: each weight of a filter multiplies once a place, a dense one once."""
    size = 32 if getattr(VARIANTS_OF[family][variant], "small", False) or variant.endswith("64") else 224
    config, inputs = family.Config(variant=variant), (3, size, size)
    with torch.device("meta"):
        model = family(config, inputs, 10)
    counted: list[int] = []

    def count(module: Any, _: Any, answer: Tensor) -> None:
        places = answer.shape[-2:].numel() if isinstance(module, nn.Conv2d) else 1
        counted.append(module.weight.numel() * places)

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    model(torch.empty(1, *inputs, device="meta"))
    assert sum(counted) == family.macs(config, inputs, 10)
    assert sum(p.numel() for p in model.parameters()) == family.parameter_count(config, inputs, 10)


@EVERY_VARIANT
def test_stages_are_as_large_as_their_fields_say(family: Any, variant: str) -> None:
    torch.manual_seed(0)
    height = side(family, variant)
    inputs = (1, height, height + 7)  # an odd width, and grey
    model = family(narrow(family, variant), inputs, 3).eval()
    pictures = torch.randn(2, *inputs)
    values = seen(model, pictures)
    named = {field.stage: (field.channels, *field.size) for field in model.fields()}
    assert named == {name: tuple(values[name].shape[1:]) for name in named}
    assert [name for name, _ in model.stages] == list(named)
    assert torch.equal(values["features"], model.features(pictures))
    assert torch.equal(values["output"], model(pictures))
    assert values["features"].shape[1] == list(model.parameters())[-2].shape[1]


@EVERY_VARIANT
def test_every_parameter_gets_a_gradient(family: Any, variant: str) -> None:
    torch.manual_seed(1)
    size = side(family, variant)
    model = family(narrow(family, variant), (3, size, size), 4)
    loss = nn.functional.cross_entropy(model(torch.randn(8, 3, size, size)), torch.arange(8) % 4)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@EVERY_FAMILY
@pytest.mark.parametrize("inputs", [(3, 160, 200), (3, 200, 159), (1, 28, 28), (3, 24, 24), (3, 96, 96)])
def test_auto_is_the_papers_net_for_photographs_only(family: Any, inputs: Any) -> None:
    with torch.device("meta"):
        model = family(family.Config(), inputs, 5)
    small = {AlexNet: "alexnet-64", VGG: "vgg11-64", ResNet: "resnet20"}
    large = {AlexNet: "alexnet", VGG: "vgg11-bn", ResNet: "resnet18"}
    assert model.variant == (large if min(inputs[1:]) >= 160 else small)[family]
    assert sum(p.numel() for p in model.parameters()) == family.parameter_count(family.Config(), inputs, 5)


@EVERY_FAMILY
@pytest.mark.parametrize("size", [8, 16, 24, 28, 33, 64, 96])
def test_small_presets_take_small_pictures(family: Any, size: int) -> None:
    model = family(family.TINY, (3, size, size), 4)
    assert model(torch.randn(2, 3, size, size)).shape == (2, 4)


@pytest.mark.parametrize(
    ("family", "variant", "least", "remedy"),
    [
        (AlexNet, "alexnet", 63, "variant=alexnet-64"),
        (AlexNet, "two-tower", 63, "variant=alexnet-64"),
        (VGG, "vgg16", 32, "variant=vgg11-64"),
    ],
)
def test_too_small_a_picture_is_refused(family: Any, variant: str, least: int, remedy: str) -> None:
    config = family.Config(variant=variant, width=1 / 16)
    family(config, (3, least, least), 2)(torch.randn(1, 3, least, least))
    told = f"{least + 9} x {least - 1} pixels are too small for {variant}, .* --size {least} .*{remedy}"
    with pytest.raises(SadariError, match=told):
        family(config, (3, least - 1, least + 9), 2)
    with pytest.raises(SadariError, match=r"\(3, 0, 5\) channels, height and width"):
        family(config, (3, 0, 5), 2)


@EVERY_FAMILY
def test_settings_out_of_range_are_refused(family: Any) -> None:
    with pytest.raises(SadariError, match=r"variant 'vgg-16' is unknown; use one of: auto, "):
        family.Config(variant="vgg-16")
    with pytest.raises(SadariError, match=r"width 0: .* use width=1.0"):
        family.Config(width=0)
    if family is not ResNet:
        with pytest.raises(SadariError, match=r"dropout 1.0: .* use dropout=0.5"):
            family.Config(dropout=1.0)


@EVERY_FAMILY
@pytest.mark.parametrize("width", [1.0, 0.25])
def test_first_weights_follow_their_table(family: Any, width: float) -> None:
    torch.manual_seed(0)
    model = family(family.Config(width=width), (3, 32, 32), 10)
    table = laws(model)
    assert set(table) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        law, value = table[name]
        if law == "constant":
            assert (parameter == value).all(), name
        else:
            spread = 6 / math.sqrt(2 * parameter.numel())  # six standard errors of a standard deviation
            assert parameter.std().item() == pytest.approx(value, rel=spread), name
    again = family(family.Config(width=width), (3, 32, 32), 10)
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    torch.manual_seed(0)
    same = family(family.Config(width=width), (3, 32, 32), 10)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


@EVERY_FAMILY
def test_first_answers_are_near_zero_and_values_stay_level(family: Any) -> None:
    torch.manual_seed(0)
    model = family(family.Config(), (3, 64, 64), 10)
    pictures = torch.randn(16, 3, 64, 64)
    values = seen(model.train(), pictures)
    loss = nn.functional.cross_entropy(values["output"], torch.arange(16) % 10)
    assert loss.item() == pytest.approx(math.log(10), abs=0.25)
    for name, value in values.items():
        if value.ndim == 4:
            assert 0.2 < value.square().mean().sqrt() < 6, name


@EVERY_FAMILY
def test_learns_eight_pictures_by_heart(family: Any) -> None:
    torch.manual_seed(0)
    model, pictures, targets = (
        family(family.TINY, (1, 16, 16), 4),
        torch.randn(8, 1, 16, 16),
        torch.arange(8) % 4,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(pictures), targets).backward()
        optimizer.step()
    model.eval()
    assert (model(pictures).argmax(1) == targets).all()


@pytest.mark.parametrize(
    "config", [VGGConfig(variant="vgg11-64", width=0.1), ResNetConfig(variant="resnet20")]
)
def test_norms_use_the_batch_in_training_and_what_they_kept_after_it(config: Any) -> None:
    torch.manual_seed(0)
    family = VGG if isinstance(config, VGGConfig) else ResNet
    model = family(config, (1, 16, 16), 3)
    pictures = torch.randn(12, 1, 16, 16) + 3
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and all((norm.running_mean == 0).all() for norm in norms)
    for _ in range(100):
        model(pictures)
    assert not any((norm.running_mean == 0).all() for norm in norms)
    model.eval()
    kept = copy.deepcopy(model.state_dict())
    together, alone = model(pictures), torch.cat([model(one[None]) for one in pictures])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    other = model.train()(torch.cat((pictures, pictures[:3] * 5)))[:12]
    assert (other - together).abs().max() > 1e-3  # in training the others of a batch matter


def test_a_norm_takes_a_single_value_a_channel() -> None:
    norm = Norm(4)
    norm.running_mean.fill_(2.0)
    torch.testing.assert_close(norm.train()(torch.full((1, 4, 1, 1), 3.0)), torch.full((1, 4, 1, 1), 1.0))
    model = VGG(VGGConfig(variant="vgg11-64", width=0.1), (3, 16, 16), 2).train()
    assert model(torch.randn(1, 3, 16, 16)).isfinite().all()


@pytest.mark.parametrize("family", [AlexNet, VGG])
def test_the_way_through_the_dense_layers_follows_copies_and_replacements(family: Any) -> None:
    """The trunk passes through layers that it does not own: its network's, whatever they are now."""
    torch.manual_seed(0)
    model = family(family.TINY, (1, 16, 16), 3).eval()
    pictures = torch.randn(2, 1, 16, 16)
    before = model(pictures)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert torch.equal(model(pictures), before) and not copied(pictures).any()
    state = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    assert not functional_call(model, state, (pictures,)).any()
    place = next(i for i, part in enumerate(model.classifier) if isinstance(part, nn.Linear))
    model.classifier[place] = nn.Linear(
        model.classifier[place].in_features, model.classifier[place].out_features
    )
    assert not torch.equal(model(pictures), before)
    assert len(model.features[:3](pictures).shape) == 4  # a part of the trunk is a plain sequence


@EVERY_FAMILY
def test_foreign_weights_are_refused(family: Any) -> None:
    model = family(family.TINY, (1, 16, 16), 3)
    state = model.state_dict()
    assert checked(state, model).keys() == state.keys()
    model.load_state_dict(checked({n: v for n, v in state.items() if "num_batches" not in n}, model))
    first, last = next(iter(state)), list(state)[-1]
    with pytest.raises(SadariError, match=f"the weights hold no {last!r}; they are of another network"):
        checked({name: value for name, value in state.items() if name != last}, model)
    with pytest.raises(SadariError, match=f"{first} is .*7,.* in the weights, .* number of classes"):
        checked({**state, first: torch.zeros(7, 1)}, model)
    with pytest.raises(SadariError, match=r"the weights hold 'extra', which this network lacks"):
        checked({**state, "extra": torch.zeros(1)}, model)


@given(channels=st.integers(1, 2048), width=st.floats(1 / 64, 4))
def test_shares_of_channels_are_even(channels: int, width: float) -> None:
    found = share(channels, width)
    assert found == channels if width == 1 else found % 2 == 0 and found >= 2
    assert found == channels or abs(found - channels * width) <= 2


@pytest.mark.proof("alexnet", "claim")
def test_a_convolution_is_a_dense_layer_whose_weights_are_shared_and_mostly_zero() -> None:
    torch.manual_seed(0)
    window = Window(3, 1, 1, 2, 4)
    layer = window.layer()
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    n = 6
    basis = torch.eye(2 * n * n).view(-1, 2, n, n)
    dense = (nn.functional.conv2d(basis, layer.weight, padding=1)).flatten(1).T  # (4 n n, 2 n n)
    picture = torch.randn(5, 2, n, n)
    expected = picture.flatten(1) @ dense.T + layer.bias.repeat_interleave(n * n)
    torch.testing.assert_close(layer(picture).flatten(1), expected, rtol=0, atol=1e-5)
    assert len(dense[dense != 0].unique()) == layer.weight.numel()
    assert (dense != 0).sum() < window.macs(n, n) < dense.numel() / 3
    assert window_costs([("a", [window])], (2, n, n)) == (4 * (9 * 2 + 1), window.macs(n, n))
    moved = layer(picture.roll(1, -1))[
        ..., 2:-1
    ]  # what is seen one pixel further is answered one place further
    torch.testing.assert_close(moved, layer(picture)[..., 1:-2], rtol=0, atol=1e-5)


@pytest.mark.proof("vgg", "claim")
@pytest.mark.parametrize("depth", [2, 3])
def test_small_windows_one_after_another_see_as_far_as_a_large_one_for_less(depth: int) -> None:
    channels = 64
    small = [("a", [Window(3, 1, 1, channels, channels)] * depth)]
    large = [("a", [Window(2 * depth + 1, 1, depth, channels, channels)])]
    inputs = (channels, 28, 28)
    (several,), (one,) = fields(small, inputs), fields(large, inputs)
    assert several == one
    for less, more in zip(window_costs(small, inputs), window_costs(large, inputs), strict=True):
        assert less < 0.75 * more

"""Eyes of timm and of transformers: their features, what a run keeps, what learns, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars.testing
import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sadari.data.prepare_images import prepare_images
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.losses import make_loss
from sadari.methods.lora import merge
from sadari.models import backbone, seeing
from sadari.models.backbone import FineTune, FineTuneConfig, Probe, ProbeConfig
from sadari.models.eye import described, make_eye, read_words, stages_of
from sadari.models.foreign_eye import TimmConfig, TimmEye
from sadari.models.foreign_stages import stage_names
from sadari.models.foreign_weights import state_of
from sadari.models.retrieval import Retrieval, RetrievalConfig
from sadari.optim import make_optimizer
from sadari.pretrained_foreign import encoded
from sadari.pretrained_images import PretrainedEye, find_eye
from sadari.runs import Run
from sadari.train import TrainConfig
from tests.models.test_backbone import drawings, only_a_pickle, pictures, save, spoil, weights, write

try:
    import timm
except Exception:  # torchvision, which it brings, raises what it likes where it was built for another torch
    timm = None

LOSS = make_loss("cross-entropy", classes=3)
TARGETS = torch.arange(6) % 3
SIDE = 32
NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {  # by our name: config, class, and its settings
    "convnext": (
        "ConvNextConfig",
        "ConvNextForImageClassification",
        {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 2, 1], "layer_scale_init_value": 0.5},
    ),
    "dinov2": (
        "Dinov2Config",
        "Dinov2Model",
        {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 8},
    ),
    "swin": (
        "SwinConfig",
        "SwinForImageClassification",
        {"embed_dim": 12, "depths": [1, 2], "num_heads": [2, 3], "window_size": 4, "patch_size": 2},
    ),
    "deit": (
        "DeiTConfig",
        "DeiTForImageClassification",
        {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 8},
    ),
    "clip": (
        "CLIPVisionConfig",
        "CLIPVisionModel",
        {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 8},
    ),
    "poolformer": (
        "PoolFormerConfig",
        "PoolFormerModel",
        {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1], "strides": [4, 2, 2, 1]},
    ),
}
POOLED = {"deit": "token", "poolformer": "mean"}
LISTED = ("test_vit", "test_resnet", "test_convnext")
EYES = [
    *NETWORKS,
    *(pytest.param(name, marks=pytest.mark.skipif(timm is None, reason="no timm")) for name in LISTED),
]
NEEDS_TIMM = pytest.mark.skipif(
    timm is None, reason="timm is not installed, or its torchvision is of another torch"
)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own, single precision, and nothing that another test has looked at."""
    monkeypatch.setenv("SADARI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(backbone, "has_bf16", lambda: False)
    seeing.LAST.clear()
    yield


def shaken(model: nn.Module) -> Any:
    """Weights and statistics far from where they begin, so that a mix-up shows."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=draw))
        for name, value in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                value.add_(torch.rand(value.shape, generator=draw))
    return model.eval()


def saved(name: str, path: Path) -> Path:
    """A folder as a library saves it, with first weights."""
    torch.manual_seed(0)
    if name in NETWORKS:
        import transformers

        config, kind, settings = NETWORKS[name]
        made = getattr(transformers, config)(**settings, image_size=SIDE)
        shaken(getattr(transformers, kind)(made)).save_pretrained(path)
        about = {
            "size": {"height": SIDE, "width": SIDE},
            "image_mean": [0.5, 0.4, 0.3],
            "image_std": [0.5] * 3,
        }
        (path / "preprocessor_config.json").write_text(json.dumps(about))
    else:
        from timm.models import save_for_hf

        sized = {"img_size": SIDE} if name == "test_vit" else {}
        cfg = {"input_size": (3, SIDE, SIDE), "mean": (0.5, 0.4, 0.3), "std": (0.5, 0.5, 0.5)}
        made = shaken(timm.create_model(name, num_classes=7, pretrained_cfg_overlay=cfg, **sized))
        save_for_hf(made, path, safe_serialization=True)
    return path


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an eye, made once."""
    folder = tmp_path_factory.mktemp("eyes")

    def place(name: str) -> Path:
        path = folder / name
        return path if path.exists() else saved(name, path)

    return place


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawings(tmp_path_factory.mktemp("drawings") / "무늬")


@torch.no_grad()
def reference(name: str, path: Path, x: Tensor) -> Tensor:
    """What the library's own loader and network make of pictures."""
    if name not in NETWORKS:
        return timm.create_model(f"local-dir:{path}", pretrained=True, num_classes=0).eval()(x)
    from transformers import AutoModel

    answer = AutoModel.from_pretrained(path).eval()(pixel_values=x)
    if name == "deit":
        return answer.last_hidden_state[:, 0]
    return answer.last_hidden_state.mean((2, 3)) if name == "poolformer" else answer.pooler_output


def a_step(model: FineTune) -> dict[str, Tensor]:
    """How far each weight and statistic moves in one step of training."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = TrainConfig(learning_rate=1e-2, weight_decay=0.1)
    optimizer = make_optimizer(model.train(), settings, 1e-2, per_epoch=1)
    model.zero_grad(set_to_none=True)
    LOSS(model(pictures(9)), torch.arange(9) % 3).mean().backward()
    optimizer.step(1.0)
    return {name: (value - before[name]).double().abs() for name, value in model.state_dict().items()}


# What they see


@pytest.mark.parametrize("name", EYES)
def test_gives_the_librarys_own_features(name: str, places: Callable[[str], Path]) -> None:
    path = places(name)
    wanted = reference(name, path, pictures())
    assert wanted.std() > 1e-3
    for rung in (Probe, FineTune, Retrieval):
        model = rung(rung.Config(weights=str(path)), (3, SIDE, SIDE), 3).eval()
        model.fill()
        with torch.no_grad():
            torch.testing.assert_close(model.features(pictures()), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", EYES)
def test_what_the_places_say_of_themselves(name: str, places: Callable[[str], Path]) -> None:
    text = described(str(places(name)))
    words = read_words(text)
    assert words["network"] == ("transformers" if name in NETWORKS else "timm")
    assert (words["size"], words["mean"]) == (str(SIDE), "0.5,0.4,0.3")
    assert words.get("pooled", "pooler") == POOLED.get(name, "pooler")
    assert len(text) < 1500
    shown = Probe.pictures(ProbeConfig(weights=str(places(name))), 10)
    assert shown == {"size": SIDE, "channels": 3, "mean": (0.5, 0.4, 0.3), "std": (0.5, 0.5, 0.5)}


@pytest.mark.parametrize("name", EYES)
def test_counts_and_multiply_adds_are_those_of_the_network(name: str, places: Callable[[str], Path]) -> None:
    for settings in ({}, {"lora": 2}):
        config = FineTuneConfig(weights=str(places(name)), **settings)
        model = FineTune(config, (3, SIDE, SIDE), 5)
        count = sum(parameter.numel() for parameter in model.parameters())
        assert FineTune.parameter_count(config, (3, SIDE, SIDE), 5) == count
    counter = FlopCounterMode(display=False)
    merge(model).eval()
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # the others are not counted
        model(pictures(1))
    assert 2 * FineTune.macs(config, (3, SIDE, SIDE), 5) == counter.get_total_flops()


@pytest.mark.parametrize("name", EYES)
def test_stages_hold_every_part_once(name: str, places: Callable[[str], Path]) -> None:
    words = read_words(described(str(places(name))))
    network, width = make_eye(words, 3)
    stages = stages_of(network, words)
    found = [[i for i, stage in enumerate(stages) if stage.match(part)] for part in network.state_dict()]
    assert all(len(places) == 1 for places in found)
    assert {places[0] for places in found} == set(range(len(stages)))
    assert len(stages) >= 3 and width > 1


class Rows(nn.Module):
    """Networks as libraries arrange them."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            kind, _, count = name.partition("*")
            inner: Any = nn.Linear(2, 2)
            if count:
                inner = nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(int(count))])
            self.add_module(kind, inner)


def test_stages_are_a_row_with_a_beginning_and_an_end() -> None:
    net = Rows("embed", "blocks*3", "norm")
    net.token = nn.Parameter(torch.zeros(1))
    assert stage_names(net) == [["token", "embed"], ["blocks.0"], ["blocks.1"], ["blocks.2"], ["norm"]]
    net.add_module("pool", nn.Identity())
    assert stage_names(net)[-1] == ["norm", "pool"]
    net = Rows("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "pool5")
    net.pool5 = nn.Identity()
    assert stage_names(net) == [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4", "pool5"]]
    whole = nn.Module()
    whole.stem, whole.encoder = nn.Conv2d(1, 1, 1), Rows("patch", "layer*4", "between*2")
    assert stage_names(whole)[0] == ["stem", "encoder.patch"]
    assert stage_names(whole)[-1] == ["encoder.between"] and len(stage_names(whole)) == 6
    assert stage_names(Rows("a", "b")) == [["a"], ["b"]]


# Runs, and what learns


@pytest.mark.parametrize("name", EYES)
@pytest.mark.parametrize("rung", ["probe", "fine-tune", "retrieval"])
def test_a_run_answers_from_its_folder_alone(
    name: str, rung: str, places: Callable[[str], Path], shown: Path, tmp_path: Path
) -> None:
    """The run holds the eye in words and weights: it answers where the eye's own folder is gone."""
    path = Path(shutil.copytree(places(name), tmp_path / "eye"))
    given: dict[str, Any] = {"model": {"weights": str(path)}, "out": tmp_path / "run"}
    if rung == "fine-tune":
        given |= {"budget": "3steps"}
    run = fit(rung, shown, **given)
    rows = prepare_images(shown).table.frame.collect()
    answers = run.predict(rows, probabilities=True)
    shutil.rmtree(path)
    again = Run.load((tmp_path / "run").rename(tmp_path / "옮긴 곳"))
    polars.testing.assert_frame_equal(again.predict(rows, probabilities=True), answers)
    if rung != "retrieval":  # whose run is no eye yet
        third = Probe(ProbeConfig(weights=str(tmp_path / "옮긴 곳")), (3, SIDE, SIDE), 3).eval()
        third.fill()
        with torch.no_grad():
            torch.testing.assert_close(third.features(pictures()), again.model.eval().features(pictures()))


@pytest.mark.parametrize("name", EYES)
def test_fine_tuning_moves_all_stages_but_frozen_ones(name: str, places: Callable[[str], Path]) -> None:
    for frozen in (0, 2):
        config = FineTuneConfig(weights=str(places(name)), frozen=frozen, dropout=0.0)
        model = FineTune(config, (3, SIDE, SIDE), 3)
        model.begin(pictures(), TARGETS, LOSS)
        moved = a_step(model)
        for part, change in moved.items():
            stage = model._stage(part.removeprefix("backbone.")) if part.startswith("backbone.") else 99
            still = stage < frozen or part.endswith(("running_mean", "running_var", "num_batches_tracked"))
            unused = part.endswith(("mask_token", "relative_position_index", "position_ids"))
            if still or not unused:
                assert bool(change.any()) != still, part


@pytest.mark.parametrize("name", EYES)
def test_adapters_learn_alone_and_merge_into_the_same_answers(
    name: str, places: Callable[[str], Path]
) -> None:
    model = FineTune(FineTuneConfig(weights=str(places(name)), lora=2, dropout=0.0), (3, SIDE, SIDE), 3)
    model.begin(pictures(), TARGETS, LOSS)
    moved = a_step(model)
    assert all("lora_" in part or part.startswith("output") for part, change in moved.items() if change.any())
    assert any("lora_B" in part and change.any() for part, change in moved.items())
    with torch.no_grad():
        before = model.eval()(pictures())
        torch.testing.assert_close(merge(model).eval()(pictures()), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["convnext", pytest.param("test_resnet", marks=NEEDS_TIMM)])
def test_a_run_goes_out_as_safetensors_and_not_as_onnx(
    name: str, places: Callable[[str], Path], shown: Path, tmp_path: Path
) -> None:
    run = fit("probe", shown, model={"weights": str(places(name))}, out=tmp_path / "run")
    with pytest.raises(SadariError, match=r"cannot be exported to ONNX: its eye is a network of t\w+, which"):
        run.export("onnx", tmp_path / "run.onnx")
    assert run.export("safetensors", tmp_path / "run.safetensors").is_file()


# Faults


GIANT = "are believed"
FAULTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "no pictures": (
        "convnext",
        spoil(model_type="bert"),
        "of transformers' networks those that read pictures",
    ),
    "unheard of": (
        "convnext",
        spoil(model_type="x"),
        "model_type is 'x'; only resnet and vit are known here, and",
    ),
    "no name": ("convnext", spoil(model_type=["x"]), r"model_type is \['x'\], which is no name"),
    "no type": ("convnext", spoil(model_type=None), "model_type is None, which is no name"),
    "random": ("dinov2", spoil(model_type="vit_mae"), "which hides most of each picture at random"),
    "inside": ("convnext", spoil(model_type="detr"), "it has another network inside"),
    "code": (
        "convnext",
        spoil(auto_map={"AutoModel": "evil.Model"}),
        "auto_map asks for code that came with the weights, which is never run",
    ),
    "deep": ("dinov2", spoil(num_hidden_layers=10**9), f"num_hidden_layers is 1000000000, and .* {GIANT}"),
    "deep in all": ("convnext", spoil(depths=[900, 900, 900, 900]), f"depths is .900, .* in all {GIANT}"),
    "wide": ("dinov2", spoil(hidden_size=10**9), f"hidden_size is 1000000000, and .* 1,000,000 {GIANT}"),
    "long": ("convnext", spoil(hidden_act="x" * 10_000), r"settings take .* at most 8,192 are kept"),
    "no such bend": ("convnext", spoil(hidden_act="x"), "cannot be made of its settings|does not describe"),
    "odd": ("dinov2", spoil(num_attention_heads=7), "of its settings|does not describe|no features"),
    "flipped": (
        "convnext",
        spoil("preprocessor_config.json", do_flip_channel_order=True),
        "do_flip_channel_or",
    ),
    "a pickle": ("convnext", only_a_pickle, r"no model.safetensors \(pytorch_model.bin is not opened: such"),
    "nothing": ("convnext", write("model.safetensors", b"\xff" * 64), "cannot be read as safetensors"),
    "no number": ("dinov2", weights(lambda t: next(iter(t.values())).fill_(torch.nan)), "are not finite"),
    "larger": ("dinov2", spoil(num_hidden_layers=3), "the two do not belong together"),
    "smaller": ("dinov2", spoil(num_hidden_layers=1), r"encoder.layer.1.\S+ has no place in it\); fetch it"),
    "other sizes": ("dinov2", spoil(mlp_ratio=2), "its weights are not those of a dinov2 of its settings"),
    "renamed": (
        "dinov2",
        weights(lambda t: t.update({"x": t.pop("layernorm.weight")})),
        r"not those of a dinov2 of its settings \(layernorm.weight is absent\)",
    ),
}


@pytest.mark.parametrize(("name", "fault", "message"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_folder_is_refused_with_its_fault(
    places: Callable[[str], Path], tmp_path: Path, name: str, fault: Callable[[Path], None], message: str
) -> None:
    path = Path(shutil.copytree(places(name), tmp_path / "copy"))
    fault(path)
    with pytest.raises(SadariError, match=message) as caught:
        Probe(ProbeConfig(weights=str(path)), (3, SIDE, SIDE), 3).fill()
    assert "\n" not in str(caught.value)


def test_what_a_config_says_beside_its_sizes_is_left_out(
    places: Callable[[str], Path], tmp_path: Path
) -> None:
    """Half precision, an attention from the hub, quantisation: the network is made as it always is."""
    path = Path(shutil.copytree(places("dinov2"), tmp_path / "copy"))
    wanted = described(str(path))
    spoil(
        dtype="float16", attn_implementation="evil/kernel", _attn_implementation="evil/kernel",
        quantization_config={"load_in_8bit": True}, id2label={str(i): "x" * 99 for i in range(999)},
        return_dict=False, output_hidden_states=True,
    )(path)  # fmt: skip
    assert described(str(path)) == wanted
    model = Probe(ProbeConfig(weights=str(path)), (3, SIDE, SIDE), 3)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_missing_package_is_named_with_what_brings_it(
    places: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = described(str(places("convnext")))
    for name in ("timm", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        SadariError, match=r"are known here without transformers: pip install 'sadari\[hub\]'"
    ):
        find_eye(str(places("convnext")))
    with pytest.raises(SadariError, match=r"an eye of timm needs the package timm .* 'sadari\[timm\]'"):
        find_eye("timm:resnet18")
    config = ProbeConfig(weights="", backbone=text)
    with pytest.raises(SadariError, match="an eye of transformers needs the package transformers"):
        Probe(config, (3, SIDE, SIDE), 3)


def test_a_side_that_the_network_does_not_take_is_refused(places: Callable[[str], Path]) -> None:
    with pytest.raises(
        SadariError, match="side 40: the eye learnt on pictures of 32 a side and does not take"
    ):
        ProbeConfig(weights=str(places("deit")), side=40)
    config = ProbeConfig(weights=str(places("convnext")), side=64)
    assert Probe.pictures(config, 10)["size"] == 64


SEEN = "size=32 channels=3 mean=0,0,0 deviation=1,1,1"


@pytest.mark.parametrize(
    "words",
    [
        "network=timm architecture=hf-hub:evil/x width=8",
        "network=timm architecture=resnet18 pool=a/b width=8",
        "network=timm architecture=resnet18 width=0",
        "network=timm architecture=resnet18 width=8 depth=3",
        "network=transformers config={} width=8",
        "network=transformers config=x width=8",
        "network=transformers config={%22model_type%22:%22convnext%22} width=8 pooled=all",
        "network=transformers width=8 config=" + encoded({"model_type": "vit", "num_hidden_layers": 5000}),
        "network=transformers width=8 config=" + "x" * 9000,
    ],
)
def test_words_that_ask_for_something_else_are_refused(words: str) -> None:
    with pytest.raises(SadariError, match="leave it empty to have it read from the weights"):
        read_words(f"{words} {SEEN}")


def test_words_of_another_width_are_refused_when_they_are_used(places: Callable[[str], Path]) -> None:
    text = described(str(places("convnext"))).replace("width=24", "width=25")
    model = Probe(ProbeConfig(weights="", backbone=text), (3, SIDE, SIDE), 3)
    with pytest.raises(
        SadariError, match="the eye gives 24 features for pictures of 32 a side, 25 are needed"
    ):
        model.features(pictures())


class Tabled(nn.Module):
    """A network with something to learn, a table, and a parameter that no picture passes."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 2)
        self.register_buffer("table", torch.arange(3.0))
        self.mask = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.line(x.mean((2, 3)) * self.table)


def test_a_run_keeps_what_is_learnt_and_no_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that is made of the settings need not be kept; one that came with the weights would be lost."""
    monkeypatch.setattr(TimmConfig, "make", lambda self, inputs: Tabled())
    eye = TimmEye(TimmConfig("tabled", width=2), (3, 8, 8), 1)
    assert set(eye.state_dict()) == {f"{n}.{v}" for n in ("network.line", "head") for v in ("weight", "bias")}
    assert TimmEye.parameter_count(eye.config, (3, 8, 8), 0) == 8
    state = shaken(Tabled()).state_dict()
    save(state, tmp_path / "model.safetensors")
    place = PretrainedEye({"network": "timm"}, tmp_path / "model.safetensors", "timm")
    found = state_of(place, eye)
    assert set(found) == {"network.line.weight", "network.line.bias"}
    assert torch.equal(found["network.line.weight"], state["line.weight"])
    save(state | {"table": torch.ones(3)}, tmp_path / "model.safetensors")
    with pytest.raises(
        SadariError, match="table is a table with values of its own, which a run does not keep"
    ):
        state_of(place, eye)


# timm's list


@NEEDS_TIMM
def test_a_name_of_timms_list_is_fetched_as_safetensors_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, ...]] = []
    torch.manual_seed(0)
    made = shaken(timm.create_model("test_resnet", num_classes=1000))
    save(made.state_dict(), tmp_path / "cache" / "model.safetensors")

    def download(*given: str) -> str:
        asked.append(given)
        return str(tmp_path / "cache" / "model.safetensors")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    model = Probe(ProbeConfig(weights="timm:test_resnet.r160_in1k"), (3, 160, 160), 3).eval()
    model.fill()
    assert set(asked) == {("timm/test_resnet.r160_in1k", "model.safetensors")}
    assert model.words["size"] == "160" and model.words["architecture"] == "test_resnet"
    with torch.no_grad():
        wanted = made.forward_head(made.forward_features(pictures(2, 160)), pre_logits=True)
        torch.testing.assert_close(model.features(pictures(2, 160)), wanted, rtol=1e-5, atol=1e-5)


@NEEDS_TIMM
def test_no_way_to_the_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: str) -> str:
        raise OSError("no connection\nand more")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(
        SadariError, match=r"'timm:resnet50.a1_in1k': model.safetensors .* \(no connection\)"
    ) as e:
        find_eye("timm:resnet50.a1_in1k")
    assert "\n" not in str(e.value) and "go online once" in str(e.value)


@NEEDS_TIMM
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet51", "timm knows no network of that name; give one of: resnet"),
        ("resnet50.a1_in2k", "timm knows no network of that name; give one of: resnet50.a1"),
        ("zzzzzzzzzzzz", r"of that name; see timm.list_pretrained\(\)"),
        ("hf-hub:evil/resnet18", "timm knows no network of that name"),
        ("local-dir:.", "timm knows no network of that name"),
        ("", "timm knows no network of that name"),
    ],
)
def test_a_name_that_timm_does_not_know_is_refused(name: str, message: str) -> None:
    with pytest.raises(SadariError, match=message):
        find_eye(f"timm:{name}")


TIMM_FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "unknown": (spoil(architecture="no_such_net"), "architecture is 'no_such_net', which this timm does not"),
    "elsewhere": (spoil(architecture="hf-hub:a/b"), "architecture is 'hf-hub:a/b', which this timm does not"),
    "arguments": (spoil(model_args={"depth": 3}), "was made with depth=3, and only timm's own sizes"),
    "oblong": (spoil(model_args={"img_size": [32, 64]}), r"img_size \[32, 64\].* a square picture is needed"),
    "no settings": (spoil(pretrained_cfg=3), "pretrained_cfg and model_args are settings by name"),
    "a pickle": (
        only_a_pickle,
        r"no model.safetensors \(pytorch_model.bin is not opened: such files can run",
    ),
    "another net": (spoil(architecture="test_resnet"), "cannot be made of its settings .ResNet"),
    "fewer": (
        weights(lambda t: t.pop("norm.weight")),
        r"network.norm.weight is absent|do not belong together",
    ),
    "more": (
        weights(lambda t: t.update({"blocks.77.norm1.weight": torch.zeros(3)})),
        "has network.blocks.77.norm1.weight, which a timm has not",
    ),
}


@NEEDS_TIMM
@pytest.mark.parametrize(("fault", "message"), TIMM_FAULTS.values(), ids=TIMM_FAULTS)
def test_a_faulty_folder_of_timms_is_refused_with_its_fault(
    places: Callable[[str], Path], tmp_path: Path, fault: Callable[[Path], None], message: str
) -> None:
    path = Path(shutil.copytree(places("test_vit"), tmp_path / "copy"))
    fault(path)
    with pytest.raises(SadariError, match=message):
        Probe(ProbeConfig(weights=str(path)), (3, SIDE, SIDE), 3).fill()


def test_retrieval_looks_through_any_eye(places: Callable[[str], Path]) -> None:
    model = Retrieval(RetrievalConfig(weights=str(places("convnext")), neighbours=1), (3, SIDE, SIDE), 3)
    model.solve(pictures(), TARGETS, LOSS)
    assert model.eval()(pictures()).argmax(1).tolist() == TARGETS.tolist()

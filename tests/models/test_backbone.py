"""Probe and fine-tune of pictures: eyes in each layout, the reference's features, what stays, what moves."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars.testing
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sadari.climbing import choose
from sadari.data.fetch import cached
from sadari.data.prepare_images import prepare_images
from sadari.errors import SadariError
from sadari.fitting import fit, missing, suits
from sadari.ladder import find_rung, ladder_for
from sadari.loop import SadariInterrupted
from sadari.losses import make_loss
from sadari.models import backbone, seeing
from sadari.models.backbone import FineTune, FineTuneConfig, Probe, ProbeConfig
from sadari.models.efficientnet import EfficientNet
from sadari.models.eye import KINDS, SMALLEST, described, make_eye, read_words, stages_of
from sadari.models.nearest import Nearest, NearestConfig
from sadari.models.resnet import ResNet, ResNetConfig
from sadari.models.retrieval import Retrieval, RetrievalConfig
from sadari.optim import make_optimizer
from sadari.pretrained_images import find_eye
from sadari.runs import Run
from sadari.train import TrainConfig

LOSS = make_loss("cross-entropy", classes=3)
CLASSES = ("dots", "rows", "stripes")


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own, single precision, and nothing that another test has looked at."""
    monkeypatch.setenv("SADARI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(backbone, "has_bf16", lambda: False)
    seeing.LAST.clear()
    yield


def shaken(model: nn.Module) -> nn.Module:
    """Weights and norms far from where they begin, so that a mix-up shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(0.0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0.0, 0.2, generator=generator)
    return model.eval()


def pictures(count: int = 6, side: int = 32, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def drawings(folder: Path, each: int = 20, side: int = 16, seed: int = 0) -> Path:
    """Pictures of three patterns, a folder a class."""
    draw = np.random.default_rng(seed)
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(drawn(label, draw, side)).save(folder / label / f"{i}.png")
    return folder


def drawn(label: str, draw: np.random.Generator, side: int = 16) -> np.ndarray:
    """One picture of a pattern in noise, light on dark."""
    pixels = draw.integers(0, 90, (side, side, 3), dtype=np.uint8)
    phase = int(draw.integers(0, 4))
    pattern = np.zeros((side, side), bool)
    pattern[phase::4] |= label in ("rows", "dots")
    down = np.zeros((side, side), bool)
    down[:, phase::4] |= label in ("stripes", "dots")
    pattern = pattern & down if label == "dots" else pattern | down
    pixels[pattern] += 120
    return pixels


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawings(tmp_path_factory.mktemp("drawings") / "무늬")


def save(state: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()}, path)


def hub_resnet(path: Path, **changes: Any) -> nn.Module:
    from transformers import ResNetConfig as HubConfig
    from transformers import ResNetForImageClassification

    torch.manual_seed(0)
    sizes = {"embedding_size": 16, "hidden_sizes": [16, 32, 64, 128], "depths": [2, 2, 2, 2]}
    made = ResNetForImageClassification(HubConfig(**{**sizes, "layer_type": "basic", **changes}))
    shaken(made)
    made.save_pretrained(path)
    return made


def hub_vit(path: Path) -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
    made = ViTForImageClassification(ViTConfig(**sizes, image_size=32, patch_size=8)).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # far from the small first weights
            parameter.copy_(0.3 * torch.randn_like(parameter) + (parameter == 1))
    made.save_pretrained(path)
    about = {"size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.5, 0.2]}
    (path / "preprocessor_config.json").write_text(json.dumps(about))
    return made


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Callable[[Tensor], Tensor]]]:
    """A place of each layout, and what its own library makes of pictures."""
    folder = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    lite = shaken(EfficientNet(EfficientNet.TINY, (3, 32, 32), 7))
    save(lite.state_dict(), folder / "lite.safetensors")
    resnet, bottleneck, vit = (
        hub_resnet(folder / "resnet"),
        hub_resnet(
            folder / "v1",
            layer_type="bottleneck",
            depths=[3, 4, 6, 3],
            hidden_sizes=[16, 32, 64, 128],
            embedding_size=4,
            downsample_in_bottleneck=True,
        ),
        hub_vit(folder / "vit"),
    )

    def of_resnet(net: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: net.resnet(x).pooler_output.flatten(1)

    net: Any = vit
    return {
        "efficientnet": (folder / "lite.safetensors", lite.features),
        "resnet": (folder / "resnet", of_resnet(resnet)),
        "resnet v1": (folder / "v1", of_resnet(bottleneck)),
        "vit": (folder / "vit", lambda x: net.vit(x).last_hidden_state[:, 0]),
    }


@pytest.mark.proof("probe", "parity")
@pytest.mark.proof("fine-tune", "parity")
@pytest.mark.parametrize("layout", ["efficientnet", "resnet", "resnet v1", "vit"])
def test_gives_the_references_features(hub: dict[str, Any], layout: str) -> None:
    path, reference = hub[layout]
    targets = torch.arange(6) % 3
    for rung in (Probe, FineTune):
        model = rung(rung.Config(weights=str(path)), (3, 32, 32), 3).eval()
        model.fit_line(pictures(), targets, LOSS)
        with torch.no_grad():
            torch.testing.assert_close(
                model.features(pictures()), reference(pictures()), rtol=1e-5, atol=1e-5
            )


def test_what_the_places_say_of_themselves(hub: dict[str, Any]) -> None:
    words = {layout: read_words(described(str(path))) for layout, (path, _) in hub.items()}
    assert words["efficientnet"]["variant"] == "tiny" and words["efficientnet"]["size"] == "224"
    assert (words["resnet"]["variant"], words["resnet"]["width"]) == ("resnet18", "0.25")
    assert words["resnet v1"]["variant"] == "resnet50-v1"
    assert words["resnet"]["mean"] == "0.485,0.456,0.406"  # of ImageNet, where nothing else is said
    assert (words["vit"]["size"], words["vit"]["mean"]) == ("32", "0.5,0.4,0.3")
    shown = FineTune.pictures(FineTuneConfig(weights=str(hub["vit"][0])), 10)
    assert shown == {"size": 32, "channels": 3, "mean": (0.5, 0.4, 0.3), "std": (0.5, 0.5, 0.2)}


@pytest.mark.parametrize(
    ("own", "side", "size"), [(8, 0, 96), (28, 0, 98), (64, 0, 224), (300, 0, 224), (64, 160, 160)]
)
def test_small_pictures_are_shown_smaller(hub: dict[str, Any], own: int, side: int, size: int) -> None:
    config = ProbeConfig(weights=str(hub["efficientnet"][0]), side=side)
    asked = Probe.pictures(config, own)
    assert asked["size"] == size
    assert asked["mean"] == (127 / 255,) * 3 and asked["std"] == (128 / 255,) * 3


def test_the_built_in_is_read_as_its_authors_wrote_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SADARI_CACHE")
    try:
        cached("efficientnet-lite0")
    except SadariError as error:
        pytest.skip(f"the eye is not fetched: {error}")
    model = Probe(ProbeConfig(), (3, 64, 64), 3)
    model.fit_line(pictures(6, 64), torch.arange(6) % 3, LOSS)
    assert model.backbone.get_parameter("_conv_stem.weight").std() > 0.1
    assert Probe.parameter_count(ProbeConfig(), (3, 64, 64), 1000) == 4_652_008


def test_a_missing_built_in_names_the_command_and_is_left_out_of_a_climb(shown: Path) -> None:
    with pytest.raises(SadariError, match=r"efficientnet-lite0 is not on .* with: sadari data get eff"):
        ProbeConfig()
    ladder, prepared = ladder_for("classify", "images"), prepare_images(shown)
    assert not {"probe", "fine-tune"} & set(choose(ladder, None, prepared))
    rung = find_rung("probe", "classify", "images")
    assert not suits(rung, prepared)
    note = missing(rung)
    assert note and "rung probe is left out: efficientnet-lite0 is not on this machine" in note.english
    assert missing(find_rung("resnet", "classify", "images")) is None


@pytest.mark.parametrize("kind", KINDS)
def test_stages_hold_every_part_once_and_in_order(kind: str) -> None:
    settings = {"vit": "width=24 layers=3 heads=2", "shallow": "width=8", "efficientnet": "variant=tiny"}
    own = settings.get(kind, "width=0.1")
    words = read_words(f"network={kind} size=32 channels=3 mean=0,0,0 deviation=1,1,1 {own}")
    network, width = make_eye(words, 3)
    stages = stages_of(network, words)
    places = [[i for i, stage in enumerate(stages) if stage.match(name)] for name in network.state_dict()]
    assert all(len(found) == 1 for found in places)
    assert {found[0] for found in places} == set(range(len(stages)))
    assert (
        len(stages) == {"shallow": 1, "alexnet": 7, "vgg": 10, "resnet": 4, "vit": 5, "efficientnet": 5}[kind]
    )
    features = network.eval().features(pictures(2))  # type: ignore[operator]
    assert features.shape == (2, width)
    order = [found[0] for found in places]
    assert kind == "vit" or order == sorted(order)


def test_counts_are_those_of_its_tensors(hub: dict[str, Any]) -> None:
    for path, _ in hub.values():
        for settings in ({}, {"lora": 2}):
            config = FineTuneConfig(weights=str(path), **settings)
            model = FineTune(config, (3, 32, 32), 5)
            count = sum(parameter.numel() for parameter in model.parameters())
            assert FineTune.parameter_count(config, (3, 32, 32), 5) == count
    small = read_words(SMALLEST)
    assert Probe.macs(ProbeConfig(weights=""), (3, 16, 16), 3) == ResNet.macs(
        ResNetConfig(small["variant"], 0.25), (3, 16, 16), 3
    )


@pytest.mark.proof("probe", "parity")
def test_a_probe_is_logistic_regression_on_frozen_features(hub: dict[str, Any]) -> None:
    from sklearn.linear_model import LogisticRegression

    path, reference = hub["resnet"]
    x, y = pictures(60, seed=3), torch.arange(60) % 3
    model = Probe(ProbeConfig(weights=str(path), penalty=0.1), (3, 32, 32), 3)
    assert model.can_solve(LOSS)
    facts = model.solve(x, y, LOSS)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model.train()
    model(x)  # in training, too, it stays as it is
    assert all(torch.equal(before[name], value) for name, value in model.backbone.state_dict().items())
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        "output.weight",
        "output.bias",
    ]
    features = reference(x).detach().double().numpy()
    penalty = 0.1 * features.var(0).sum()
    known = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(features, y.numpy())
    np.testing.assert_allclose(model.output.weight.detach(), known.coef_, rtol=0, atol=1e-4)
    with torch.no_grad():
        probabilities = model.eval()(x).softmax(-1)
    np.testing.assert_allclose(probabilities, known.predict_proba(features), rtol=0, atol=1e-4)
    assert facts["converged"] and facts["encoding"] == "fp32" and facts["pictures_per_second"] > 0


def test_the_same_pictures_are_looked_at_once(hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = Probe.encode
    monkeypatch.setattr(
        backbone.PictureClassifier, "encode", lambda self, *given: asked.append(1) or real(self, *given)
    )
    y = torch.arange(6) % 3
    config: dict[str, Any] = {"weights": str(hub["resnet"][0])}
    Probe(ProbeConfig(**config), (3, 32, 32), 3).solve(pictures(), y, LOSS)
    FineTune(FineTuneConfig(**config), (3, 32, 32), 3).begin(pictures(), y, LOSS)
    assert len(asked) == 1
    Probe(ProbeConfig(**config), (3, 32, 32), 3).solve(pictures(seed=1), y, LOSS)
    assert len(asked) == 2


def test_many_pictures_are_looked_at_in_blocks(hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = Probe(ProbeConfig(weights=""), (3, 32, 32), 3).eval()
    with torch.no_grad():
        whole = model.features(pictures(7))
    monkeypatch.setattr(seeing, "BLOCK", 3 * 32 * 32)
    torch.testing.assert_close(model.encode(pictures(7)), whole, rtol=1e-5, atol=1e-6)
    shallow = model.encode(pictures(7), bf16=True)
    torch.testing.assert_close(shallow, whole, rtol=0.1, atol=0.1)
    assert not torch.equal(shallow, whole)


# Fine-tuning


def tuned(**settings: Any) -> FineTune:
    torch.manual_seed(0)
    return FineTune(FineTuneConfig(**{"weights": "", "dropout": 0.0, **settings}), (3, 16, 16), 3)


def a_step(model: FineTune, **config: Any) -> dict[str, Tensor]:
    """How far each weight and statistic moves in one step of training."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = TrainConfig(learning_rate=1e-3, weight_decay=0.1, **config)
    optimizer = make_optimizer(model.train(), settings, 1e-3, per_epoch=1)
    model.zero_grad(set_to_none=True)
    LOSS(model(pictures(9, 16)), torch.arange(9) % 3).mean().backward()
    optimizer.step(1.0)
    return {name: (value - before[name]).double().abs() for name, value in model.state_dict().items()}


def stage(name: str) -> int:
    """Of the resnet in SMALLEST."""
    inside = re.match(r"backbone\.(?:(conv1|bn1)|layer(\d))", name)
    return 4 if inside is None else int(inside[2] or 0)


@pytest.mark.proof("fine-tune", "parity")
def test_fine_tuning_begins_where_the_probe_ends_and_moves_everything(hub: dict[str, Any]) -> None:
    y = torch.arange(6) % 3
    config: dict[str, Any] = {"weights": str(hub["resnet"][0])}
    probe = Probe(ProbeConfig(**config), (3, 32, 32), 3)
    model = FineTune(FineTuneConfig(**config), (3, 32, 32), 3)
    probe.solve(pictures(), y, LOSS)
    model.begin(pictures(), y, LOSS)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(pictures()), probe.eval()(pictures()), rtol=0, atol=1e-6)
    assert not hasattr(model, "can_solve")
    LOSS(model.train()(pictures()), y).mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_each_stage_moves_at_its_pace() -> None:
    """AdamW's first step is the rate, up or down, whatever the gradient; its decay takes a share of it."""
    moved = a_step(tuned(pace=0.5))
    for name, change in moved.items():
        if name.endswith(("bias", "bn1.weight", "bn2.weight")):  # which do not decay
            rate = 1e-3 * 0.5 ** (4 - stage(name))
            assert change.max().item() == pytest.approx(rate, rel=0.02), name


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize("frozen", [0, 1, 3, 4])
def test_a_frozen_stage_and_all_statistics_stay_bit_for_bit(frozen: int) -> None:
    moved = a_step(tuned(frozen=frozen))
    for name, change in moved.items():
        assert bool(change.any()) == (stage(name) >= frozen and not name.endswith(STATISTICS)), name


def test_stages_thaw_one_after_another() -> None:
    model = tuned(unfreeze=0.5)
    seen = []
    for step in range(10):
        model.at(step, 10)
        seen.append(model.resting)
    assert seen == [4, 4, 3, 2, 1, 0, 0, 0, 0, 0]
    model = tuned(unfreeze=0.5, frozen=1)
    model.at(9, 10)
    assert model.resting == 1 and a_step(model)["backbone.conv1.weight"].max() == 0


def test_what_has_not_thawed_when_training_ends_is_as_it_was(shown: Path) -> None:
    """Of 4 steps, 90 % thaw: the first stage never does, the others do, and all that in the one loop."""
    run = fit(
        "fine-tune",
        shown,
        model={"weights": "", "unfreeze": 0.9, "pace": 1.0},
        train={"epochs": 0, "evaluate_every": 4, "warmup": 0.0},
        budget="4steps",
        out="run",
    )
    began = tuned(unfreeze=0.9, pace=1.0).state_dict()
    for name, value in run.model.state_dict().items():
        if name.startswith("backbone."):
            still = stage(name) == 0 or name.endswith(STATISTICS)
            assert torch.equal(value, began[name]) == still, name


class StopAt:
    """A watcher that presses Ctrl-C at one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, record: dict[str, Any]) -> None:
        if record["step"] == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("settings", [{"lora": 2}, {"unfreeze": 0.8, "frozen": 1}])
def test_an_interrupted_fine_tuning_ends_as_one_that_was_not(shown: Path, settings: dict[str, Any]) -> None:
    given: dict[str, Any] = {
        "model": {"weights": "", "dropout": 0.2, **settings},
        "train": {"evaluate_every": 3, "log_every": 1, "batch_size": 8, "threads": 1},
        "budget": "12steps",
    }
    whole = fit("fine-tune", shown, out="whole", **given)
    with pytest.raises(SadariInterrupted):
        fit("fine-tune", shown, out="cut", watchers=[StopAt(5)], **given)
    again = fit("fine-tune", shown, out="cut", **given)
    for (name, one), other in zip(
        whole.model.state_dict().items(), again.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert whole.result["weights"] == again.result["weights"]


def test_adapters_learn_in_place_of_the_eye(shown: Path) -> None:
    given: dict[str, Any] = {"budget": "10steps", "train": {"evaluate_every": 5}}
    run = fit("fine-tune", shown, model={"weights": "", "lora": 2}, out="run", **given)
    began = tuned(lora=2).state_dict()
    frozen = {
        n: v for n, v in run.model.state_dict().items() if n.startswith("backbone") and "lora_" not in n
    }
    assert frozen and all(torch.equal(value, began[name]) for name, value in frozen.items())
    learnt = [value for name, value in run.model.state_dict().items() if "lora_B" in name]
    assert learnt and all(value.any() for value in learnt)
    with pytest.raises(
        SadariError, match=r"run run was tuned by adapters \(lora 2\), which no other run can"
    ):
        ProbeConfig(weights="run")


# Runs


@pytest.mark.parametrize(
    "rung",
    [pytest.param(rung, marks=pytest.mark.proof(rung, "trains")) for rung in ("probe", "fine-tune")],
)
def test_fits_pictures_and_answers_from_its_folder_alone(
    hub: dict[str, Any], shown: Path, rung: str, tmp_path: Path
) -> None:
    """The run holds the eye: it answers raw pictures where the eye's own folder is gone."""
    path = Path(shutil.copytree(hub["resnet"][0], tmp_path / "eye"))
    given: dict[str, Any] = {"model": {"weights": str(path), "side": 32}}
    if rung == "fine-tune":
        given |= {"budget": "20steps"}
    run = fit(rung, shown, out=tmp_path / "run", **given)
    rows = prepare_images(shown).table.frame.collect()
    answers = run.predict(rows, probabilities=True)
    assert (answers["prediction"] == rows["label"]).mean() > 0.9
    shutil.rmtree(path)
    again = Run.load((tmp_path / "run").rename(tmp_path / "옮긴 곳"))
    polars.testing.assert_frame_equal(again.predict(rows, probabilities=True), answers)
    assert again.spec.size == 32 and again.spec.mean == (0.485, 0.456, 0.406)


def test_a_run_of_pictures_is_the_eye_of_another(shown: Path) -> None:
    """Trained here, probed here: a ResNet's run, then the fine-tuned eye of that."""
    first = fit("resnet", shown, model={"width": 0.25}, budget="30steps", out="first")
    words = read_words(described("first"))
    assert (words["variant"], words["size"], words["channels"]) == ("resnet20", "16", "3")
    probe = fit("probe", shown, model={"weights": "first"}, out="second")
    ours = {n.removeprefix("backbone."): v for n, v in probe.model.state_dict().items() if "output" not in n}
    theirs = {name: v for name, v in first.model.state_dict().items() if not name.startswith("fc.")}
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert probe.spec.mean == first.spec.mean
    third = fit("fine-tune", shown, model={"weights": "second"}, budget="3steps", out="third")
    assert third.model.config.backbone == probe.model.config.backbone  # type: ignore[union-attr]
    shutil.rmtree("first")
    assert Run.load("third").rung == "fine-tune"


def test_a_network_that_was_changed_since_it_was_planned_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save(EfficientNet(EfficientNet.TINY, (3, 32, 32), 7).state_dict(), tmp_path / "eye.safetensors")
    model = Probe(ProbeConfig(weights=str(tmp_path / "eye.safetensors")), (3, 32, 32), 3)
    hub_resnet(tmp_path / "other")
    shutil.move(tmp_path / "eye.safetensors", tmp_path / "gone")
    (tmp_path / "eye.safetensors").mkdir()
    for file in (tmp_path / "other").iterdir():
        shutil.move(file, tmp_path / "eye.safetensors")
    with pytest.raises(SadariError, match="holds another network than the one that was planned"):
        model.solve(pictures(), torch.arange(6) % 3, LOSS)


# What they are for


def negatives(each: int, seed: int) -> tuple[Tensor, Tensor]:
    """The patterns dark on light, as nobody has shown them to the eye: (N, 3, 16, 16), and their classes."""
    draw = np.random.default_rng(seed)
    pixels = np.stack([255 - drawn(label, draw) for label in CLASSES for _ in range(each)])
    shown = torch.from_numpy(pixels).float().permute(0, 3, 1, 2) / 255
    return (shown - 0.7) / 0.25, torch.arange(3).repeat_interleave(each)


def descend(model: nn.Module, x: Tensor, y: Tensor, steps: int, rate: float) -> None:
    optimizer = torch.optim.Adam(model.train().parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        LOSS(model(x), y).mean().backward()
        optimizer.step()


def right(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return (model.eval()(x).argmax(1) == y).double().mean().item()


@pytest.mark.proof("probe", "claim")
def test_an_eye_that_has_seen_others_needs_few_labels(tmp_path: Path) -> None:
    """Three labelled pictures a class: a line on learnt features against a network that begins at nothing,
    and against a line on features that nobody has taught. Means of three draws of the pictures.
    """
    others = drawings(tmp_path / "others", each=40)
    fit("resnet", others, model={"width": 0.25}, budget="150steps", out="eye")
    asked, scores = negatives(60, seed=99), []
    for seed in range(3):
        few = negatives(3, seed)
        probe, blind = (Probe(ProbeConfig(weights=weights), (3, 16, 16), 3) for weights in ("eye", ""))
        torch.manual_seed(seed)
        fresh = ResNet(ResNetConfig(variant="resnet20", width=0.25), (3, 16, 16), 3)
        probe.solve(*few, LOSS)
        blind.solve(*few, LOSS)
        descend(fresh, *few, steps=60, rate=0.01)
        scores.append([right(model, *asked) for model in (probe, fresh, blind)])
    learnt, begun, untaught = np.mean(scores, axis=0)  # 0.86, 0.70 and 0.66 when this was written
    assert learnt > max(begun, untaught) + 0.08, scores


@pytest.mark.proof("retrieval", "claim")
def test_the_nearest_in_an_eyes_features_is_right_more_often_than_the_nearest_in_pixels(
    tmp_path: Path,
) -> None:
    """Of three labelled pictures a class, which may lie anywhere; with forty, pixels know all places."""
    others = drawings(tmp_path / "others", each=40)
    fit("resnet", others, model={"width": 0.25}, budget="150steps", out="eye")
    asked, scores = negatives(60, seed=99), []
    for seed in range(3):
        few = negatives(3, seed)
        seen = Retrieval(RetrievalConfig(weights="eye", neighbours=1), (3, 16, 16), 3)
        stored = Nearest(NearestConfig(neighbours=1), (3, 16, 16), 3)
        seen.solve(*few, LOSS)
        stored.solve(*few, LOSS)
        scores.append([right(model, *asked) for model in (seen, stored)])
    features, raw = np.mean(scores, axis=0)  # 0.85 and 0.63 when this was written
    assert features > raw + 0.12, scores


@pytest.mark.proof("fine-tune", "claim")
def test_fine_tuning_sees_what_the_eye_was_never_asked_to_see() -> None:
    """An eye from a world without blue answers nothing to it. A line on its features stays blind, however
    many labels there are; fine-tuning from that very line learns to see it.
    """
    eye = "network=shallow width=16 size=8 channels=3 mean=0,0,0 deviation=1,1,1"

    def blues(count: int, seed: int) -> tuple[Tensor, Tensor]:
        x, y = pictures(count, 8, seed), torch.arange(count) % 3
        x[:, 2] += 2 * (y - 1.0).view(-1, 1, 1)
        return x, y

    learn, asked = blues(300, 0), blues(150, 1)
    torch.manual_seed(0)
    probe = Probe(ProbeConfig(weights="", backbone=eye), (3, 8, 8), 3)
    model = FineTune(FineTuneConfig(weights="", backbone=eye, dropout=0.0), (3, 8, 8), 3)
    with torch.no_grad():
        probe.backbone.get_parameter("hidden.weight").view(16, 3, 64)[:, 2] = 0
    model.backbone.load_state_dict(probe.backbone.state_dict())
    probe.solve(*learn, LOSS)
    model.begin(*learn, LOSS)
    assert right(model, *asked) == right(probe, *asked) < 0.5
    descend(model, *learn, steps=60, rate=0.01)
    assert right(model, *asked) > 0.9


# Faults


def spoil(name: str = "config.json", **changes: Any) -> Callable[[Path], None]:
    """Change a settings file; None takes an entry away."""

    def apply(path: Path) -> None:
        config = json.loads((path / name).read_text()) | changes
        (path / name).write_text(json.dumps({k: v for k, v in config.items() if v is not None}))

    return apply


def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        (path / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return apply


def weights(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        from safetensors.torch import load_file

        tensors = {name: value.clone() for name, value in load_file(path / "model.safetensors").items()}
        change(tensors)
        save(tensors, path / "model.safetensors")

    return apply


def only_a_pickle(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


STEM = "resnet.embedder.embedder.convolution.weight"
NORM = "resnet.embedder.embedder.normalization.weight"
HUGE = "preprocessor_config.json"
FAULTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "no config": (
        "resnet",
        lambda path: (path / "config.json").unlink(),
        "has no config.json; give a finished",
    ),
    "broken config": ("resnet", write("config.json", "{"), "config.json cannot be read as JSON"),
    "another kind": (
        "resnet",
        write("config.json", "[]"),
        "config.json holds list, not dict; fetch it again",
    ),
    "huge config": (
        "resnet",
        write("config.json", " " * (1 << 21)),
        "is larger than 1,048,576 bytes, no sett",
    ),
    "another model": (
        "resnet",
        spoil(model_type="bert"),
        "model_type is 'bert'; only resnet and vit are known",
    ),
    "another bend": (
        "resnet",
        spoil(hidden_act="gelu"),
        "hidden_act is 'gelu', and only 'relu' is known here",
    ),
    "layers": (
        "resnet",
        spoil(layer_type="x"),
        "layer_type is 'x'; only bottleneck and basic are known here",
    ),
    "depths": ("resnet", spoil(depths=3), "depths is 3, a list of whole numbers is needed"),
    "a depth": (
        "resnet",
        spoil(depths=[2, 2, 2, 0]),
        "depths is 0, a whole number from 1 to 65,536 is needed",
    ),
    "no such net": (
        "resnet",
        spoil(depths=[2, 2, 2, 3]),
        "depths 2,2,2,3 of sizes .* are no ResNet of those",
    ),
    "ratio": (
        "vit",
        spoil(intermediate_size=72),
        "intermediate_size of 72 is not 2 or 4 times the hidden_size",
    ),
    "absurd": ("vit", spoil(hidden_size=10**9), "hidden_size is 1000000000, a whole number from 1 to 65,536"),
    "eps": ("vit", spoil(layer_norm_eps=0), "layer_norm_eps is 0, a number between 0 and 1 is needed"),
    "side": ("vit", spoil(HUGE, size=10**6), "size is 1000000, a number of pixels up to 4,096 is needed"),
    "mean": (
        "vit",
        spoil(HUGE, image_mean=[1]),
        r"image_mean and image_std are not usable \(size 32, channels",
    ),
    "spread": ("vit", spoil(HUGE, image_std=["x"] * 3), "image_mean and image_std are not usable"),
    "deviation": ("vit", spoil(HUGE, image_std=[0, 0, 0]), "image_mean and image_std are not usable"),
    "no weights": (
        "vit",
        lambda p: (p / "model.safetensors").unlink(),
        "has no model.safetensors; save it as",
    ),
    "a pickle": ("vit", only_a_pickle, r"no model.safetensors \(pytorch_model.bin is not opened: such files"),
    "nothing": ("vit", write("model.safetensors", b"\xff" * 64), "cannot be read as safetensors"),
    "other sizes": ("vit", spoil(hidden_size=48, intermediate_size=96), "numbers, a vit of its settings has"),
    "a tensor too few": ("resnet", weights(lambda t: t.pop(STEM)), "the two do not belong together"),
    "whole numbers": (
        "resnet",
        weights(lambda t: t.update({STEM: t[STEM].long()})),
        "is I64, numbers are need",
    ),
    "another shape": (
        "resnet",
        weights(lambda t: t.update({STEM: t[STEM].flatten()})),
        r"conv1.weight is of shape \(2352,\), shape \(16, 3, 7, 7\) is needed",
    ),
    "a statistic": (
        "resnet",
        weights(lambda t: t.pop(NORM.replace("weight", "running_mean"))),
        r"bn1.running_mean is absent, shape \(16,\) is needed",
    ),
    "a foreign name": (
        "resnet",
        weights(lambda t: t.update({"resnet.x.running_mean": t.pop(NORM.replace("weight", "running_mean"))})),
        "which is no part of transformers' ResNet",
    ),
    "not finite": ("resnet", weights(lambda t: t[NORM].fill_(torch.nan)), "holds values that are not finite"),
}


@pytest.mark.parametrize(("layout", "fault", "message"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_place_is_refused_with_its_fault(
    hub: dict[str, Any], tmp_path: Path, layout: str, fault: Callable[[Path], None], message: str
) -> None:
    path = Path(shutil.copytree(hub[layout][0], tmp_path / "copy"))
    fault(path)
    with pytest.raises(SadariError, match=message):
        model = Probe(ProbeConfig(weights=str(path)), (3, 32, 32), 3)
        model.solve(pictures(), torch.arange(6) % 3, LOSS)


def test_a_faulty_file_or_run_is_refused_with_its_fault(shown: Path, tmp_path: Path) -> None:
    save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(SadariError, match=r"has no _conv_stem.weight, so it holds no EfficientNet-lite"):
        find_eye(str(tmp_path / "other.safetensors"))
    state = EfficientNet(EfficientNet.TINY, (3, 32, 32), 7).state_dict()
    state["_blocks.0.more.running_mean"] = torch.zeros(3)
    save(state, tmp_path / "more.safetensors")
    with pytest.raises(SadariError, match=r"has _blocks.0.more.running_mean, which a efficientnet has not"):
        Probe(ProbeConfig(weights=str(tmp_path / "more.safetensors")), (3, 32, 32), 3).solve(
            pictures(), torch.arange(6) % 3, LOSS
        )
    with pytest.raises(SadariError, match="weights 'no/where': neither a run, nor a folder of the hub"):
        find_eye("no/where")
    fit("prior", shown, out="prior")
    with pytest.raises(SadariError, match="run prior is of rung 'prior' on images, which has learnt no feat"):
        find_eye("prior")
    fit("resnet", shown, model={"width": 0.25}, budget="1steps", out="run")
    whole = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    for change, message in (
        (write("weights.safetensors", b"x"), "weights.safetensors is not the file this run was saved with"),
        (spoil("spec.json", mean=None), r"spec.json is no spec of pictures \('mean'\)"),
        (spoil(model=3), "config.json has no settings of a model; fit the run again"),
        (spoil("spec.json", channels=2), "is no spec of pictures"),
    ):
        change(Path("run"))
        with pytest.raises(SadariError, match=message):
            find_eye("run")
        for name, content in whole.items():
            Path("run", name).write_bytes(content)
    assert find_eye("run").words["network"] == "resnet"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"penalty": -1.0}, r"penalty -1.0: a penalty is 0 or more; use penalty=0.1"),
        ({"side": -1}, r"side -1: give up to 4,096 pixels, or side=0 to have it chosen"),
        ({"backbone": "network=resnet"}, "backbone 'network=resnet': leave it empty to have it read"),
        ({"backbone": SMALLEST.replace("resnet ", "x ")}, "or write all of 'network=resnet variant"),
        ({"backbone": SMALLEST + " depth=3"}, "leave it empty to have it read from the weights"),
        (
            {"backbone": SMALLEST.replace("resnet variant=resnet20 width=0.25", "vit layers=1000000")},
            "layers=1000000 .*: leave it empty to have it read from the weights",
        ),
        ({"backbone": SMALLEST.replace("deviation=1,1,1", "deviation=1,0,1")}, "leave it empty"),
        ({"dropout": 1.0}, r"dropout 1.0: the share dropped lies in \[0, 1\); use dropout=0.1"),
        ({"pace": 0.0}, r"pace 0.0: the share of a rate lies in \(0, 1\]; use pace=0.7"),
        ({"unfreeze": 1.0}, r"unfreeze 1.0: a share of the steps lies in \[0, 1\); use 0.3"),
        ({"frozen": 5}, "frozen 5: the eye has 4 stages; use frozen=0 to 4"),
        ({"lora": -1}, "lora -1: a rank is at least 1; use lora=8, or 0 for none"),
        ({"lora": 4, "frozen": 1}, "lora 4 leaves the whole eye as it is; leave frozen and unfreeze at 0"),
        (
            {"side": 20, "backbone": SMALLEST.replace("resnet variant=resnet20 width=0.25", "shallow")},
            "side 20: the eye has a weight for each pixel of 16 a side; use side=0",
        ),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SadariError, match=message):
        FineTuneConfig(**{"weights": "", **settings})

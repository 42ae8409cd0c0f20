"""Exports of pictures: another engine gives the same answers, from files, with nothing of ours."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

import sadari
from sadari.data.prepare import Prepared, prepare
from sadari.data.spec_images import ImageSpec
from sadari.errors import SadariError
from sadari.export import export, pictures
from sadari.export.graph import Graph
from sadari.export.network import convert
from sadari.export.pixel_code import preprocess
from sadari.ladder import ladder_for
from sadari.losses import make_loss
from sadari.models.alexnet import AlexNet
from sadari.models.backbone import FineTune, FineTuneConfig
from sadari.models.efficientnet import EfficientNet
from sadari.models.nearest import Nearest, NearestConfig
from sadari.models.pixels import PixelLogistic, PixelShallow, PixelShallowConfig
from sadari.models.resnet import ResNet
from sadari.models.vgg import VGG
from sadari.models.vit import ViT
from sadari.runs import Run
from sadari.tasks_images import normalised
from tests.drawings import captioned

SIDE = 16
VIT = "network=vit size=16 channels=3 mean=0.5,0.5,0.5 deviation=0.5,0.5,0.5 variant=vit-32 width=16 "


def of(classes: int, side: int, channels: int) -> ImageSpec:
    names = tuple("abcde"[:classes])
    mean, deviation = (0.4, 0.5, 0.6)[:channels], (0.2, 0.3, 0.25)[:channels]
    return ImageSpec("label", "image", names, side, "crop", channels, mean, deviation)


def born(model: Any, config: Any, shape: tuple[int, int, int], outputs: int) -> Any:
    """A network far from where it begins, so that each of its numbers matters to the answer."""
    torch.manual_seed(0)
    made = model(config, shape, outputs).eval()
    norms = [layer for layer in made.modules() if isinstance(layer, nn.BatchNorm2d)]
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, (2 / parameter[0].numel()) ** 0.5)
            else:
                parameter.add_(0.3 * torch.randn_like(parameter))
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        made(2 * torch.randn(8, *shape))  # whose statistics become the running ones
    return made.eval()


def session(graph: Graph) -> onnxruntime.InferenceSession:
    made = graph.model("test", "")
    onnx.checker.check_model(made, full_check=True)
    return onnxruntime.InferenceSession(made.SerializeToString())


def assert_same(made: Any, spec: ImageSpec, loss: Any, alike: bool = False) -> None:
    """Logits and probabilities as torch has them, for one picture and for several."""
    graph = Graph()
    output = convert(graph, made, loss, pictures.pixels(graph, spec), spec.width)
    graph.output("probabilities", output, "float", ["N", len(spec.classes)])
    engine = session(graph)
    draw = np.random.default_rng(0)
    for count in (1, 5):
        pixels = draw.integers(0, 256, (count, spec.size, spec.size, spec.channels), np.uint8)
        pixels //= np.arange(1, count + 1).reshape(-1, 1, 1, 1).astype(np.uint8)  # each darker than the last
        pixels[0] = 255  # of one colour
        with torch.inference_mode():
            logits = made(normalised(torch.from_numpy(pixels), spec))
            made_of = loss.predict(logits).numpy()
        found = engine.run(None, {"pictures": pixels})[0]
        np.testing.assert_allclose(found, made_of, atol=1e-5)
        told = np.ptp(made_of, axis=0).max()
        assert count == 1 or alike or told > 1e-3, "all answers are alike: nothing is tested"


NETWORKS: dict[str, tuple[Any, Any, int]] = {
    "logistic": (PixelLogistic, PixelLogistic.TINY, 9),
    "shallow": (PixelShallow, PixelShallowConfig(width=7, activation="gelu"), 9),
    "alexnet-64": (AlexNet, AlexNet.TINY, 23),
    "alexnet": (AlexNet, replace(AlexNet.TINY, variant="alexnet", width=0.05), 200),
    "two-tower": (AlexNet, replace(AlexNet.TINY, variant="two-tower", width=0.05), 224),
    "vgg": (VGG, VGG.TINY, 29),
    "resnet20": (ResNet, ResNet.TINY, 15),
    "plain20": (ResNet, replace(ResNet.TINY, variant="plain20"), 16),
    "resnet18": (ResNet, replace(ResNet.TINY, variant="resnet18", width=0.1), 40),
    "resnet50": (ResNet, replace(ResNet.TINY, variant="resnet50", width=0.1), 40),
    "vit": (ViT, ViT.TINY, 20),
    "vit, patches over the edge": (ViT, replace(ViT.TINY, patch=3), 20),
    "vit, attention pooled": (ViT, replace(ViT.TINY, pooling="map"), 20),
    "efficientnet": (EfficientNet, EfficientNet.TINY, 33),
    "tuned": (FineTune, FineTune.TINY, 32),
    "tuned by adapters": (FineTune, replace(FineTune.TINY, lora=2), 32),
    "tuned vit": (FineTune, FineTuneConfig(weights="", backbone=VIT + "layers=2 heads=2"), SIDE),
    "tuned vit by adapters": (
        FineTune,
        FineTuneConfig(weights="", backbone=VIT + "layers=2 heads=2", lora=2),
        SIDE,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (4, 3)])
def test_each_network_answers_as_torch_does(name: str, classes: int, channels: int) -> None:
    model, config, side = NETWORKS[name]
    channels = 3 if "tuned" in name else channels
    spec = of(classes, side, channels)
    loss = make_loss("binary" if classes == 2 else "cross-entropy", classes=classes)
    made = born(model, config, spec.width, loss.outputs)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    assert_same(made, spec, loss)
    after = made.state_dict()
    assert list(before) == list(after) and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("neighbours", [1, 3, 40])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_nearest_pictures_are_in_the_file_and_are_found(neighbours: int, classes: int) -> None:
    """Each is kept twice, under two labels: which of two equals comes first decides."""
    spec = of(classes, 20, 3)
    loss = make_loss("binary" if classes == 2 else "cross-entropy", classes=classes)
    made = Nearest(NearestConfig(neighbours=neighbours, side=9), spec.width, loss.outputs).eval()
    draw = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (15, 20, 20, 3), generator=draw, dtype=torch.uint8)
    stored = normalised(torch.cat([pixels, pixels]), spec)
    made.solve(stored, torch.arange(30) % classes, loss)
    assert_same(made, spec, loss, alike=neighbours > 30)


def test_an_operation_without_a_translation_is_named() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft(x).real

    with pytest.raises(SadariError, match=r"cannot be exported to ONNX: its model uses .*no translation yet"):
        convert(Graph(), Odd(), make_loss("binary", classes=2), "pictures")


# ---------------------------------------------------------------------- whole runs


def photo(kind: int, draw: np.random.Generator, size: tuple[int, int] = (30, 22)) -> Image.Image:
    """A red, green or blue ramp with some noise."""
    width, height = size
    pixels = draw.integers(0, 60, (height, width, 3))
    pixels[..., kind] += np.linspace(40, 190, width).astype(int)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="module")
def photos() -> Prepared:
    draw, files = np.random.default_rng(0), []
    for number in range(90):
        file = io.BytesIO()
        photo(number % 3, draw).save(file, "JPEG")
        files.append(file.getvalue())
    frame = pl.DataFrame({"image": files, "label": [("red", "초록", "blue")[n % 3] for n in range(90)]})
    return prepare(frame, kind="images", reading={"size": SIDE})


@pytest.fixture(scope="module")
def eye(photos: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has seen something."""
    out = tmp_path_factory.mktemp("eye") / "run"
    model = {"variant": "resnet20", "width": 0.25}
    return sadari.fit("resnet", "photos", prepared=photos, out=out, budget="3steps", model=model).path


def fitted(rung: str, photos: Prepared, eye: Path, out: Path) -> Run:
    small: dict[str, dict[str, Any]] = {
        "alexnet": {"width": 0.1},
        "vgg": {"width": 0.1},
        "resnet": {"width": 0.25},
        "vit": {"layers": 1, "width": 16, "heads": 2},
        "distilled": {"width": 0.25},
        **{name: {"weights": str(eye)} for name in ("probe", "fine-tune")},
    }
    teacher = {"teacher": eye} if rung == "distilled" else {}
    if rung == "zero-shot":
        drawings = captioned(out.parent / "drawings", 2)
        towers = sadari.fit("bag-of-words", drawings, out=out.parent / "towers", budget="2steps").path
        small[rung] = {"towers": str(towers)}
    model = small.get(rung, {})
    return sadari.fit(rung, "photos", prepared=photos, out=out, budget="3steps", model=model, **teacher)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photos as people have them: turned, in grey, with a palette, see-through, deep, large."""
    folder, draw = tmp_path_factory.mktemp("files"), np.random.default_rng(7)
    one = photo(0, draw, (300, 200))
    turned = Image.Exif()
    turned[0x0112] = 6
    one.save(folder / "turned.jpg", exif=turned)
    photo(1, draw, (64, 400)).convert("L").save(folder / "회색.png")
    photo(2, draw, (40, 40)).quantize(16).save(folder / "palette.gif")
    clear = photo(1, draw, (50, 33))
    clear.putalpha(Image.linear_gradient("L").resize((50, 33)))
    clear.save(folder / "clear.png")
    deep = (np.arange(900).reshape(30, 30) * 70).astype(np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    photo(0, draw, (200, 90)).convert("CMYK").save(folder / "print.tif")
    photo(2, draw, (5, 3)).save(folder / "tiny.webp", lossless=True)
    return sorted(folder.iterdir())


@pytest.mark.parametrize(
    "rung",
    [
        pytest.param(rung.name, marks=pytest.mark.proof(rung.name, "exchanged"))
        for rung in ladder_for("classify", "images").here
    ],
)
def test_a_run_answers_photos_with_its_files_alone(
    rung: str, photos: Prepared, eye: Path, files: list[Path], tmp_path: Path
) -> None:
    run = fitted(rung, photos, eye, tmp_path / "run")
    path = run.export("onnx", tmp_path / "shipped.onnx")
    names: dict[str, Any] = {}
    exec((tmp_path / "shipped_preprocess.py").read_text(encoding="utf-8"), names)
    pixels = np.concatenate([names["pixels"](file) for file in files])
    assert np.array_equal(pixels, np.stack([run.spec.decode(file) for file in files]))
    label, shares = onnxruntime.InferenceSession(path).run(["label", "probabilities"], {"pictures": pixels})
    told = run.predict(files, probabilities=True)
    expected = told.drop("prediction").to_numpy()
    np.testing.assert_allclose(shares, expected, atol=1e-4)
    clear = np.ptp(np.sort(expected, axis=1)[:, -2:], axis=1) > 2e-4
    assert (label[clear] == told["prediction"].to_numpy()[clear]).all()


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_code_beside_the_file_makes_the_very_pixels(fit: str, channels: int, files: list[Path]) -> None:
    spec = replace(of(2, 24, channels), fit=fit)
    names: dict[str, Any] = {}
    exec(preprocess(spec), names)
    for file in files:
        assert np.array_equal(names["pixels"](file)[0], spec.decode(file)), file.name


def test_the_code_beside_the_file_imports_nothing_of_ours(
    photos: Prepared, eye: Path, files: list[Path], tmp_path: Path
) -> None:
    run = fitted("logistic", photos, eye, tmp_path / "run")
    path = run.export()
    assert path == run.path / "model.onnx"
    script = (
        "import sys, onnxruntime\nfrom model_preprocess import pixels\n"
        'label, shares = onnxruntime.InferenceSession("model.onnx").run(\n'
        '    ["label", "probabilities"], {"pictures": pixels(sys.argv[1])})\n'
        'print(label[0]); assert not {m for m in sys.modules if m.split(".")[0] in ("sadari", "torch")}'
    )
    command = [sys.executable, "-X", "utf8", "-c", script, str(files[0])]
    told = subprocess.run(command, cwd=run.path, capture_output=True, text=True, encoding="utf-8", check=True)
    assert told.stdout.strip() == run.predict(files[0])["prediction"].item()


def test_the_file_says_how_to_use_it(photos: Prepared, eye: Path, tmp_path: Path) -> None:
    run = fitted("resnet", photos, eye, tmp_path / "run")
    made = onnx.load(run.export("onnx", tmp_path))
    facts = {entry.key: entry.value for entry in made.metadata_props}
    assert json.loads(facts["classes"]) == ["blue", "red", "초록"]
    assert (json.loads(facts["size"]), facts["fit"], json.loads(facts["channels"])) == (SIDE, "crop", 3)
    assert json.loads(facts["mean"]) == list(run.spec.mean)
    assert facts["preprocess"] == (tmp_path / "model_preprocess.py").read_text(encoding="utf-8")
    said = made.doc_string
    assert f"pictures, uint8 [N, {SIDE}, {SIDE}, 3], red, green and blue" in said
    assert "from model_preprocess import pixels" in said and "the middle of the longer one is kept" in said
    assert [entry.name for entry in made.graph.input] == ["pictures"]


def test_bare_weights_say_what_they_are(photos: Prepared, eye: Path, tmp_path: Path) -> None:
    run = fitted("vgg", photos, eye, tmp_path / "run")
    path = export(run, "safetensors", tmp_path)
    with safe_open(path, "pt") as file:
        facts = file.metadata()
        for name, value in run.model.state_dict().items():
            assert torch.equal(file.get_tensor(name), value)
    assert ImageSpec.from_json(json.loads(facts["spec"])) == run.spec
    assert json.loads(facts["config"])["rung"] == "vgg" and not (tmp_path / "model_preprocess.py").exists()


def test_a_file_that_the_format_cannot_hold_is_refused(
    photos: Prepared, eye: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fitted("nearest", photos, eye, tmp_path / "run")
    monkeypatch.setattr("sadari.export.MOST", 10_000)
    with pytest.raises(SadariError, match=r"an ONNX file ends at 2 GB, and this run takes .* use --to safet"):
        run.export()
    assert not (run.path / "model.onnx").exists()


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("arpa", "n-gram"),
        ("marian", "--to marian is for a transformer of pairs, and this run is logistic"),
        ("coreml", "--to 'coreml' is no format; choose one of: onnx"),
    ],
)
def test_what_cannot_be_is_refused(
    to: str, message: str, photos: Prepared, eye: Path, tmp_path: Path
) -> None:
    run = fitted("logistic", photos, eye, tmp_path / "run")
    with pytest.raises(SadariError, match=message):
        export(run, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()

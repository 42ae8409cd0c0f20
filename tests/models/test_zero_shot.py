"""Zero-shot: the towers' own logits, by hand and by transformers; names, temperature, reopening, refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn import functional as F

from sadari import files
from sadari.charts import draw, svg
from sadari.cli import run as command
from sadari.climbing import choose, climb
from sadari.data.prepare_images import prepare_images
from sadari.data.spec_captions import CaptionSpec
from sadari.data.spec_images import ImageSpec
from sadari.data.tokenizers import train_tokenizer
from sadari.errors import SadariError
from sadari.export import pictures as export_pictures
from sadari.export.graph import Graph
from sadari.export.network import convert
from sadari.fitting import fit, missing, suits
from sadari.ladder import find_rung, ladder_for
from sadari.losses import make_loss
from sadari.models.bag_of_words import BagOfWords, BagOfWordsConfig
from sadari.models.clip import CLIP, CLIPConfig
from sadari.models.locked import Locked
from sadari.models.picture_tower import described, make_tower, open_towers, read_words
from sadari.models.prompts import joined, prompts_of, split, spoken
from sadari.models.siglip import SigLIP
from sadari.models.zero_shot import SCALES, ZeroShot, ZeroShotConfig, fitted_scale
from sadari.pretrained_match import find_towers
from sadari.runs import Run, save_result, save_spec, save_weights
from sadari.tasks_images import normalised

LOSS = make_loss("cross-entropy", classes=3)
SIDE, CONTEXT = 16, 40
NAMES = ("강아지", "고양이", "bird")
COLOURS = {"red": (220, 40, 30), "green": (30, 200, 60), "blue": (40, 60, 220)}
START, END = "<|startoftext|>", "<|endoftext|>"
SAID = ["red square", "green square", "blue square", "a photo of a red square.", "강아지 고양이 bird"]


# --------------------------------------------------------------------- towers that have learnt something


def shaken(model: nn.Module, seed: int = 0) -> Any:
    """Every weight far from where it begins, so that a mix-up shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("logit_"):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + (parameter == 1))
    return model.eval()


def caption_spec(channels: int = 3) -> CaptionSpec:
    tokenizer = train_tokenizer(SAID * 3, "words")
    looks = ImageSpec("", "image", (), SIDE, "pad", channels, (0.4,) * channels, (0.3,) * channels)
    return CaptionSpec(looks, ("caption.en", "caption.ko"), tokenizer, 12)


def as_run(folder: Path, rung: str, model: Any, spec: CaptionSpec) -> Path:
    """A run's folder, as a fit leaves it."""
    folder.mkdir(parents=True)
    save_spec(folder, spec)
    about = {"format": 1, "rung": rung, "kind": "captions", "task": "match", "model": asdict(model.config)}
    files.write_json(folder / "config.json", about)
    save_result(folder, save_weights(model, folder / "weights.safetensors"), [])
    return folder


MAKERS: dict[str, Callable[[int], Any]] = {
    "bag-of-words": lambda words: BagOfWords(BagOfWords.TINY, (3, SIDE, SIDE), words),
    "clip": lambda words: CLIP(CLIP.TINY, (3, SIDE, SIDE), words),
    "siglip": lambda words: SigLIP(SigLIP.TINY, (3, SIDE, SIDE), words),
    "locked": lambda words: Locked(Locked.TINY, (3, SIDE, SIDE), words),
}


def small_run(folder: Path, rung: str = "bag-of-words") -> Path:
    spec = caption_spec()
    return as_run(folder, rung, shaken(MAKERS[rung](spec.vocabulary)), spec)


def byte_tokenizer(start: str, end: str, most: int) -> Library:
    """Each byte a token, so that any language is read; start and end as CLIP writes them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {letter: place + 3 for place, letter in enumerate(letters)}
    library = Library(models.BPE({"<unk>": 0, start: 1, **words, end: most}, []))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([start, end])
    pair = [(start, library.token_to_id(start)), (end, library.token_to_id(end))]
    library.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=pair)
    return library


def hub_clip(folder: Path, gelu: str = "quick_gelu", old: bool = False) -> Any:
    """transformers' CLIP in two layers, saved as on the hub; the model."""
    from transformers import CLIPConfig as TheirConfig
    from transformers import CLIPModel

    vision = {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96,
        "image_size": SIDE, "patch_size": 4, "hidden_act": gelu,
    }  # fmt: skip
    text = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "vocab_size": 300, "max_position_embeddings": CONTEXT, "eos_token_id": 2 if old else 299,
        "bos_token_id": 1, "pad_token_id": 299, "hidden_act": gelu,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        model = shaken(CLIPModel(TheirConfig(text_config=text, vision_config=vision, projection_dim=12)))
    model.save_pretrained(folder)
    byte_tokenizer(START, END, 299).save(str(folder / "tokenizer.json"))
    about = {"crop_size": {"height": SIDE}, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    return model


def hub_siglip(folder: Path) -> Any:
    """transformers' SigLIP likewise; 2 fills captions up, which only its tokenizer says."""
    from transformers import SiglipConfig as TheirConfig
    from transformers import SiglipModel

    vision = {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
        "image_size": SIDE, "patch_size": 4,
    }  # fmt: skip
    text = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 36,
        "vocab_size": 300, "max_position_embeddings": CONTEXT, "projection_size": 24,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        model = shaken(SiglipModel(TheirConfig(text_config=text, vision_config=vision)))
    model.save_pretrained(folder)
    library = byte_tokenizer("<s>", "</s>", 299)
    library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "</s>"}}))
    return model


def asked(towers: Path, outputs: int = 3, **given: Any) -> ZeroShot:
    """A filled model for classes called as `NAMES`, without temperature."""
    config = ZeroShotConfig(towers=str(towers), calibrate=False, **given)
    config = ZeroShot.named(config, NAMES[: max(outputs, 2)])
    shape = ZeroShot.pictures(config, 40)
    torch.manual_seed(0)
    model = ZeroShot(config, (shape["channels"], shape["size"], shape["size"]), outputs)
    model.fill()
    return model


def noise(rows: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(rows, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------- the same, another way


@pytest.mark.proof("zero-shot", "parity")
@pytest.mark.parametrize(("gelu", "old"), [("quick_gelu", False), ("gelu", False), ("quick_gelu", True)])
def test_logits_are_those_of_transformers_clip(tmp_path: Path, gelu: str, old: bool) -> None:
    """Old folders say that a caption's end is 2 and mean its highest token."""
    theirs, x = hub_clip(tmp_path, gelu, old), noise()
    ours = asked(tmp_path, prompts="plain")
    library = Library.from_file(str(tmp_path / "tokenizer.json"))
    library.enable_padding(pad_id=299, pad_token=END)
    ids = torch.tensor([found.ids for found in library.encode_batch(list(NAMES))])
    with torch.no_grad():
        wanted = theirs(input_ids=ids, pixel_values=x, attention_mask=None).logits_per_image
        torch.testing.assert_close(ours(x), wanted, rtol=0, atol=1e-4)
    assert wanted.std() > 0.1
    shown = ZeroShot.pictures(ours.config, 64)
    assert shown == {
        "size": SIDE, "fit": "crop", "channels": 3, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)
    }  # fmt: skip


@pytest.mark.proof("zero-shot", "parity")
def test_logits_are_those_of_transformers_siglip(tmp_path: Path) -> None:
    """But for the bias, the same for each class, of which a choice among them knows nothing."""
    theirs, x = hub_siglip(tmp_path), noise()
    ours = asked(tmp_path, prompts="plain")
    assert find_towers(str(tmp_path)).settings["pad"] == 299
    library = Library.from_file(str(tmp_path / "tokenizer.json"))
    library.enable_padding(length=CONTEXT, pad_id=299, pad_token="</s>")
    ids = torch.tensor([found.ids for found in library.encode_batch(list(NAMES))])
    with torch.no_grad():
        wanted = theirs(input_ids=ids, pixel_values=x).logits_per_image - theirs.logit_bias
        torch.testing.assert_close(ours(x), wanted, rtol=0, atol=1e-4)
    assert wanted.std() > 0.1 and ZeroShot.pictures(ours.config, 64)["fit"] == "squash"


def test_a_classs_vector_is_the_mean_of_unit_vectors_by_hand(tmp_path: Path) -> None:
    """All of it in NumPy, from the weights of the towers' file: words, pixels, ensemble, cosines, scale."""
    towers, x = small_run(tmp_path / "run"), noise()
    model = asked(
        towers, classes="red square|강아지, green square, blue", templates='"{}, a photo",{} square'
    )
    weights = {name: value.numpy() for name, value in load_file(towers / "weights.safetensors").items()}
    tokenizer = caption_spec().tokenizer

    def unit(vectors: np.ndarray) -> np.ndarray:
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    said = [
        ["red square, a photo", "red square square", "강아지, a photo", "강아지 square"],
        ["green square, a photo", "green square square"],
        ["blue, a photo", "blue square"],
    ]
    names = []
    for prompts in said:
        read = [weights["words.weight"][ids].mean(0) for ids in tokenizer.encode(prompts, special=True)]
        names.append(unit(unit(np.array(read)).mean(0)))
    np.testing.assert_allclose(model.names.numpy(), np.array(names), atol=1e-6)
    shrunk = x.numpy().reshape(4, 3, 4, 4, 4, 4).mean((3, 5)).reshape(4, -1)
    seen = unit(shrunk @ weights["picture.weight"].T + weights["picture.bias"])
    logits = np.exp(weights["logit_scale"]) * seen @ np.array(names).T
    np.testing.assert_allclose(model(x).detach().numpy(), logits, atol=1e-4)


@pytest.mark.parametrize("rung", MAKERS)
def test_the_picture_s_tower_alone_sees_what_it_saw_beside_the_other(rung: str, tmp_path: Path) -> None:
    towers, x = small_run(tmp_path / "run", rung), noise()
    words = read_words(described(str(towers)))
    network, _ = open_towers(str(towers), words)
    model = asked(towers)
    with torch.no_grad():
        both = F.normalize(network.encode_image(x), dim=-1)
        torch.testing.assert_close(model.features(x), both, rtol=0, atol=1e-6)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == ZeroShot.parameter_count(model.config, (3, SIDE, SIDE), 3)
    assert counted < sum(parameter.numel() for parameter in network.parameters())
    assert ZeroShot.pictures(model.config, 64)["fit"] == "pad"
    tower: Any = make_tower(words)[0].train()  # as any module may be told
    assert tower.encode_image(x).shape == (4, model.width)


def test_one_logit_for_two_classes_is_how_much_nearer_the_second_is(tmp_path: Path) -> None:
    towers, x = small_run(tmp_path / "run"), noise()
    two, one = asked(towers, 2), asked(towers, 1)
    torch.testing.assert_close(one(x), two(x)[:, 1:] - two(x)[:, :1])
    binary, cross = make_loss("binary", classes=2), make_loss("cross-entropy", classes=2)
    torch.testing.assert_close(binary.predict(one(x)), cross.predict(two(x)))


EYES = "channels=3 mean=0.5,0.5,0.5 deviation=1,1,1"
VIT = "network=vit;variant=vit-32;width=16;layers=1;heads=2;size=16;channels=3;mean=0,0,0;deviation=1,1,1"
EXPORTED = {
    "bag-of-words": "size=18 pixels=4 dimension=8",
    "clip": "size=18 variant=clip-64 patch=4 width=16 layers=2 heads=2 dimension=8 quick_gelu=True",
    "clip exact": "size=16 variant=clip-64 patch=4 width=16 layers=2 heads=2 dimension=8",
    "clip resnet": "size=64 variant=rn50 width=4 heads=2 dimension=8",
    "siglip": "size=18 variant=siglip-64 patch=4 width=16 layers=2 heads=2 inner=24",
    "siglip exact": "size=16 variant=siglip-64 patch=4 width=16 layers=2 heads=2 inner=24 gelu=exact",
    "locked": f"size=16 dimension=8 backbone={Locked.TINY.backbone.replace(' ', ';')}",
    "locked vit": f"size=16 dimension=8 backbone={VIT}",
}


@pytest.mark.proof("zero-shot", "exchanged")
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("kind", EXPORTED)
def test_another_engine_gives_the_same_answers(kind: str, outputs: int) -> None:
    words = f"network={kind.split(' ')[0]} fit=crop {EYES} {EXPORTED[kind]}"
    config = ZeroShotConfig(backbone=words)
    given = ZeroShot.pictures(config, 40)
    spec = ImageSpec("label", "image", ("a", "b", "c")[: max(outputs, 2)], given["size"])
    model = shaken(ZeroShot(config, spec.width, outputs))
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            value.fill_(0.1)
    graph, loss = Graph(), LOSS if outputs == 3 else make_loss("binary", classes=2)
    output = convert(graph, model, loss, export_pictures.pixels(graph, spec), spec.width)
    graph.output("probabilities", output, "float", ["N", len(spec.classes)])
    engine = onnxruntime.InferenceSession(graph.model("test", "").SerializeToString())
    pixels = np.random.default_rng(0).integers(0, 256, (4, spec.size, spec.size, 3), np.uint8)
    pixels //= np.arange(1, 5, dtype=np.uint8).reshape(-1, 1, 1, 1)
    with torch.inference_mode():
        wanted = loss.predict(model(normalised(torch.from_numpy(pixels), spec))).numpy()
    np.testing.assert_allclose(engine.run(None, {"pictures": pixels})[0], wanted, atol=1e-5)
    assert np.ptp(wanted, axis=0).max() > 1e-4


# --------------------------------------------------------------------- names and temperature


def test_names_are_put_into_sentences_of_their_own_language() -> None:
    assert split('a, "b, c",강아지|개') == ["a", "b, c", "강아지|개"]
    assert split(joined(["a", "b, c", 'say "d"', "강아지"])) == ["a", "b, c", 'say "d"', "강아지"]
    assert spoken("ice_cream--cone") == "ice cream cone" and spoken("-") == "-" and spoken("7") == "7"
    assert prompts_of(["cat"], "plain") == [["cat"]]
    dog, cat = prompts_of(["강아지|개", "cat"], "auto")
    assert dog[0] == "강아지" and "강아지 사진" in dog and "개 사진" in dog and len(dog) == 18
    assert cat[:2] == ["cat", "a photo of a cat."] and len(cat) == 9
    assert prompts_of(["cat"], "ko", ["{} {0.real}"]) == [["cat {0.real}"]]  # never a format's field


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(0, 1000), st.floats(0.2, 30.0))
def test_the_fitted_scale_is_the_likeliest(classes: int, seed: int, true: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    nearness = torch.rand(300, classes, generator=draw) - 0.5
    targets = torch.multinomial((true * nearness).softmax(-1), 1, generator=draw).squeeze(1)

    def loss(scale: float) -> float:
        return float(F.cross_entropy(scale * nearness.double(), targets))

    found = fitted_scale(nearness, targets)
    assert SCALES[0] <= found <= SCALES[1]
    low, high = max(0.97 * found, SCALES[0]), min(1.03 * found, SCALES[1])
    assert loss(found) <= min(loss(low), loss(high)) + 1e-12


def test_the_temperature_changes_no_answer_and_is_all_that_labels_do(tmp_path: Path) -> None:
    towers, x = small_run(tmp_path / "run"), noise(60)
    targets = torch.arange(60) % 3
    fixed, warm = asked(towers), asked(towers)
    warm.config = ZeroShotConfig(**{**asdict(warm.config), "calibrate": True})
    facts = warm.solve(x, targets, LOSS)
    assert facts["labels"] == 60 and facts["scale"] != facts["own_scale"]
    assert facts["notes"][0].english.startswith("classes were told by their names alone; only the temper")
    assert torch.equal(fixed(x).argmax(1), warm(x).argmax(1)) and torch.equal(fixed.names, warm.names)
    assert F.cross_entropy(warm(x), targets) < F.cross_entropy(fixed(x), targets)


def test_without_calibration_no_picture_and_no_label_is_looked_at(tmp_path: Path) -> None:
    class Closed:
        def __len__(self) -> int:
            raise AssertionError("looked at")

        __getitem__ = __len__

    model = asked(small_run(tmp_path / "run"))
    facts = model.solve(Closed(), Closed(), LOSS)  # type: ignore[arg-type]
    assert facts["labels"] == 0 and facts["scale"] == facts["own_scale"] and facts["notes"] == []
    assert facts["prompts"] == 27


def test_names_that_say_nothing_are_told(tmp_path: Path) -> None:
    towers = small_run(tmp_path / "run")
    same = asked(towers, classes="red square,square red,blue").solve(noise(), torch.zeros(4), LOSS)  # type: ignore[arg-type]
    assert "red square and square red are the same words" in same["notes"][0].english
    model = asked(towers)
    wrong = model(noise(60)).argmin(1)
    notes = model.calibrate(model.features(noise(60)), wrong)
    assert "the right name is no nearer than the others" in notes[1].english
    assert model.log_scale.exp().item() == pytest.approx(SCALES[0])


# --------------------------------------------------------------------- whole fits


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    """Squares of three colours, a folder each."""
    draw = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (tmp_path / "shown" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.array(colour) + draw.integers(-30, 30, (SIDE, SIDE, 3))
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            picture.save(tmp_path / "shown" / name / f"{number}.png")
    return tmp_path / "shown"


@pytest.fixture
def learnt(shown: Path, tmp_path: Path) -> Path:
    """Towers that have read what such squares are called, in two languages."""
    korean = {"red": "빨강", "green": "초록", "blue": "파랑"}
    rows = [
        {
            "image": str(path),
            "caption.en": f"a {path.parent.name} square",
            "caption.ko": korean[path.parent.name],
        }
        for path in sorted(shown.rglob("*.png"))
    ]
    table = tmp_path / "captions.csv"
    pl.DataFrame(rows).write_csv(table)
    given: dict[str, Any] = {"model": {"dimension": 8}, "train": {"batch_size": 16, "learning_rate": 0.03}}
    reading = {"tokenizer": "words"}
    made = fit(
        "bag-of-words",
        table,
        kind="captions",
        reading=reading,
        budget="80steps",
        out=tmp_path / "towers",
        **given,
    )
    return made.path


@pytest.mark.proof("zero-shot", "trains")
@pytest.mark.proof("zero-shot", "claim")
@pytest.mark.parametrize("classes", ["", "파랑,초록,빨강"])
def test_a_run_answers_without_its_towers(classes: str, shown: Path, learnt: Path, tmp_path: Path) -> None:
    """By the data's own names and by Korean ones: right, and the same once the towers are gone."""
    model = {"towers": str(learnt), "classes": classes, "prompts": "plain"}
    run = fit("zero-shot", shown, model=model, out=tmp_path / "run")
    prepared: Any = prepare_images(shown)
    right = (run.answers(prepared.test).argmax(1) == prepared.test.targets).mean()
    assert right > 0.9
    assert run.config["model"]["classes"] == (classes or "blue,green,red")
    again = fit("zero-shot", shown, model=model, out=tmp_path / "run")  # which is finished
    assert again.result == run.result
    shutil.rmtree(learnt)
    opened = Run.load((tmp_path / "run").rename(tmp_path / "moved"))
    assert np.array_equal(opened.answers(prepared.test), run.answers(prepared.test))
    assert opened.predict(shown / "red" / "0.png")["prediction"].to_list() == ["red"]
    assert opened.result["solved"] and opened.result["labels"] == len(prepared.train.targets)


def test_the_command_line_takes_from_and_names(
    shown: Path, learnt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", "zero-shot", str(shown), "--from", str(learnt), "--out", str(tmp_path / "run")]
    assert command([*words, "--classes", "파랑,초록"]) == 2
    assert "--classes names 2, the data has 3 classes (blue, green, red)" in capsys.readouterr().err
    words += ["--classes", "파랑,초록,빨강", "--no-calibrate", "--templates", "{}"]
    assert command([*words, "--plan"]) == 0
    assert not (tmp_path / "run").exists()
    capsys.readouterr()
    assert command(words) == 0
    assert "zero-shot: accuracy" in capsys.readouterr().err
    assert command(["predict", str(tmp_path / "run"), str(shown / "green" / "1.png")]) == 0
    assert "green" in capsys.readouterr().out


@pytest.mark.proof("zero-shot", "inside")
@pytest.mark.parametrize("view", ["confusion", "calibration", "mistakes"])
def test_it_opens_up_like_other_rungs(view: str, shown: Path, learnt: Path, tmp_path: Path) -> None:
    run = fit("zero-shot", shown, model={"towers": str(learnt)}, out=tmp_path / "run")
    seen = run.look(view)
    assert svg(draw(seen, "ko")).startswith("<svg") and "zero-shot" in seen.say("title", "en")


@pytest.mark.proof("zero-shot", "climbed")
def test_a_climb_asks_the_towers_that_it_is_given(
    shown: Path, learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SADARI_CACHE", str(tmp_path / "empty"))
    ladder, prepared = ladder_for("classify", "images"), prepare_images(shown)
    rung = find_rung("zero-shot", "classify", "images")
    assert "zero-shot" not in choose(ladder, None, prepared) and not suits(rung, prepared)
    note = missing(rung)
    assert note and "rung zero-shot is left out: zero-shot needs towers" in note.english
    assert "--from" in note.english
    models = {"zero-shot": {"towers": str(learnt)}}
    assert "zero-shot" in choose(ladder, None, prepared, models)
    done = climb(shown, rungs=["zero-shot"], towers=learnt, out=tmp_path / "climb", lang="en", starts=2)
    assert [rung["name"] for rung in done.rungs] == ["prior", "zero-shot"]
    assert done.rungs[1]["score"] > 0.9
    assert f"--from {learnt}" in done.content["command"] and done.content["settings"]["from"] == str(learnt)
    with pytest.raises(SadariError, match=r"--from .* is for rung zero-shot, which the ladder .* has not"):
        climb("toy-wave", towers=learnt, out=tmp_path / "other")
    with pytest.raises(SadariError, match="--from nowhere: no such folder"):
        climb(shown, towers="nowhere", out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


# --------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "zero-shot needs towers that learnt from captions; give a run of them .* with --from"),
        ({"towers": "nowhere"}, "--from nowhere: no such folder; give a run of pictures with captions"),
        ({"prompts": "de"}, "prompts 'de': there are auto, plain, en, ko; use prompts=auto"),
        ({"templates": "a photo"}, r"templates: 'a photo' has no \{\}, where the name stands"),
        ({"classes": "a,|"}, "classes: '|' is no name; write at least one word for each class"),
        ({"classes": "a,b,a"}, "classes: 'a' names two classes; give each a name of its own"),
        ({"backbone": "network=gpt"}, "backbone 'network=gpt': leave it empty to have it read"),
        ({"backbone": "network=clip size=16 fit=crop channels=3 mean=0,0,0 deviation=1,1,1 layers=99999"},
         "leave it empty to have it read"),
    ],
)  # fmt: skip
def test_a_setting_that_makes_no_sense_is_said(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SadariError, match=message.replace("'|'", r"'\|'")):
        ZeroShotConfig(**given)


def change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text())
    for name, value in values.items():
        inner = content
        *where, last = name.split("__")
        for part in where:
            inner = inner[part]
        inner[last] = value
    path.write_text(json.dumps(content))


HUB_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "blip"}, "model_type is 'blip'; only clip and siglip are known here"),
    (
        {"text_config__vocab_size": 100, "text_config__eos_token_id": 2},
        "the tokenizer has 300 tokens and the text tower knows 100",
    ),
    ({"text_config__vocab_size": "many"}, "vocab_size is 'many', a whole number from 1 to 10,000,000"),
    ({"text_config__vocab_size": 400}, "holds .* numbers, a clip of its settings has .*; the two do not"),
    ({"vision_config__num_hidden_layers": 10**6}, "num_hidden_layers is 1000000, a whole number from 1 to"),
    ({"vision_config__hidden_act": "relu"}, "hidden_act is 'quick_gelu' for texts and 'relu' for pictures"),
    ({"vision_config__intermediate_size": 48}, "intermediate_size of vision_config is 48, 4 times"),
    ({"text_config__layer_norm_eps": 1e-3}, "layer_norm_eps is 0.001; only 1e-05 is known here"),
    ({"text_config__eos_token_id": 1}, "the text tower reads a caption at its end token 1, and the tok"),
    ({"text_config__eos_token_id": 1000}, "eos_token_id is 1000, a token of the vocabulary is needed"),
    ({"text_config": [1]}, r"text_config is \[1\], settings are needed"),
    ({"vision_config__num_attention_heads": 5}, "24 is not divisible by 5 heads"),
]


@pytest.mark.parametrize(("changed", "message"), HUB_FAULTS, ids=[fault[1][:30] for fault in HUB_FAULTS])
def test_a_folder_of_the_hub_that_is_not_what_it_says(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    hub_clip(tmp_path)
    change(tmp_path / "config.json", **changed)
    with pytest.raises(SadariError, match=message) as told:
        described(str(tmp_path))
    assert "\n" not in str(told.value)


def test_files_that_are_missing_or_hostile_are_one_line(tmp_path: Path) -> None:
    hub_clip(tmp_path / "hub")

    def refused(message: str, spoil: Callable[[Path], Any]) -> None:
        folder = tmp_path / "spoilt"
        shutil.copytree(tmp_path / "hub", folder)
        spoil(folder)
        with pytest.raises(SadariError, match=message) as told:
            described(str(folder))
        assert "\n" not in str(told.value)
        shutil.rmtree(folder)

    def rename(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    def swap(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        state["other.weight"] = state.pop("text_model.final_layer_norm.weight")
        save_file(state, folder / "model.safetensors")

    def cut(folder: Path) -> None:
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])

    refused("has no config.json; give a finished run, or a folder", lambda f: (f / "config.json").unlink())
    refused("has no tokenizer.json, by which the names", lambda f: (f / "tokenizer.json").unlink())
    refused("tokenizer.json is no tokenizer", lambda f: (f / "tokenizer.json").write_text("[]"))
    refused(r"pytorch_model.bin is not opened: such files can run code", rename)
    refused("cannot be read as safetensors", cut)
    refused("no CLIP has such a weight", swap)
    refused("cannot be read as JSON", lambda f: (f / "config.json").write_text("{"))
    broken = {"image_mean": "white"}
    refused(
        "image_mean and image_std are not usable",
        lambda f: (f / "preprocessor_config.json").write_text(json.dumps(broken)),
    )


def test_a_run_that_has_no_towers_or_is_not_as_it_was_saved(tmp_path: Path) -> None:
    towers = small_run(tmp_path / "run")
    change(towers / "config.json", rung="resnet", kind="images")
    with pytest.raises(SadariError, match="is of rung 'resnet' on images, which has no two towers; give"):
        described(str(towers))
    change(towers / "config.json", rung="bag-of-words", kind="captions")
    change(towers / "config.json", model__dimension=10**9)
    with pytest.raises(SadariError, match=r"holds .* numbers, a bag-of-words of its settings has"):
        described(str(towers))
    change(towers / "config.json", model__dimension="8")
    with pytest.raises(SadariError, match=r"config.json does not describe two towers"):
        described(str(towers))
    change(towers / "config.json", model=3)
    with pytest.raises(SadariError, match="has no settings of a model; fit the run again"):
        described(str(towers))
    with open(towers / "weights.safetensors", "ab") as file:
        file.write(b"more")
    change(towers / "config.json", model=asdict(BagOfWordsConfig(dimension=8, pixels=4)))
    with pytest.raises(SadariError, match="is not the file this run was saved with; fit the run again"):
        described(str(towers))


def test_towers_that_change_between_plan_and_fit_are_refused(tmp_path: Path) -> None:
    model = asked(small_run(tmp_path / "run"))
    shutil.rmtree(tmp_path / "run")
    small_run(tmp_path / "run", "siglip")
    with pytest.raises(SadariError, match="holds other towers than those that were planned"):
        model.fill()


def test_ids_beyond_the_vocabulary_are_refused(tmp_path: Path) -> None:
    """A reading tower that knows fewer tokens than the tokenizer beside it."""
    spec = caption_spec()
    few = CLIP(CLIPConfig(**{**asdict(CLIP.TINY)}), (3, SIDE, SIDE), spec.vocabulary - 2)
    towers = as_run(tmp_path / "run", "clip", shaken(few), spec)
    with pytest.raises(SadariError, match=r"holds .* numbers, a clip of its settings has .*; the two do not"):
        described(str(towers))

"""Exports of pictures with captions: other programs give the same vectors, from the folder alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file
from tokenizers import models, normalizers, pre_tokenizers, processors
from torch import nn
from torch.nn import functional as F

import sadari
from sadari.data.spec_text import padded
from sadari.errors import SadariError
from sadari.export import captions, formats
from sadari.export.captions_tokens import exchanged, highest_end, shipped
from sadari.files import read_json
from sadari.models.bag_of_words import BagOfWords
from sadari.models.clip import CLIP, HIGHEST
from sadari.models.eye import SMALLEST
from sadari.models.picture_tower import described, open_towers, read_words
from sadari.models.siglip import SigLIP
from sadari.runs import Run
from tests.drawings import WORDS, captioned
from tests.models.test_encoder import plant

RUNGS = ("bag-of-words", "clip", "siglip", "locked")
PROOFS = [pytest.param(rung, marks=pytest.mark.proof(rung, "exchanged")) for rung in RUNGS]
NAMES = (
    "variant",
    "width",
    "layers",
    "heads",
    "inner",
    "text_width",
    "text_layers",
    "text_heads",
    "text_inner",
)
TINY: dict[str, dict[str, Any]] = {
    "bag-of-words": {"dimension": BagOfWords.TINY.dimension, "pixels": BagOfWords.TINY.pixels},
    "clip": {name: getattr(CLIP.TINY, name) for name in (*NAMES, "dimension") if hasattr(CLIP.TINY, name)},
    "siglip": {name: getattr(SigLIP.TINY, name) for name in NAMES},
}
TEXTS = [
    "a red square",
    "파랑 줄무늬",
    "",
    "<|end|> a frame <|start|>",
    "nothing 모르는 말 \U0001f6f7",
    "a yellow stripe and a black frame and a white square and a red one " * 3,
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captioned(tmp_path_factory.mktemp("drawings"), each=3)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = torch.Generator().manual_seed(0)
    vectors = {word: torch.randn(16, generator=draw) for word in WORDS}
    return plant(tmp_path_factory.mktemp("hub") / "reader", vectors)


def fitted(rung: str, data: Path, reader: Path, out: Path, reading: Any = None, **model: Any) -> Run:
    """A run whose numbers are far from where they begin, so that each of them matters to the answer."""
    own = {"weights": "", "backbone": SMALLEST, "texts": str(reader), "dimension": 8}
    settings = {**TINY.get(rung, own), **model}
    run = sadari.fit(rung, data, kind="captions", out=out, budget="3steps", reading=reading, model=settings)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in run.model.named_parameters():
            if not name.startswith("logit_"):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
        for layer in run.model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0.0, 0.2, generator=draw)
                layer.running_var.uniform_(0.5, 2.0, generator=draw)
    run.model.eval()
    return run


@pytest.fixture(scope="module")
def runs(data: Path, reader: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    out = tmp_path_factory.mktemp("runs")
    return {rung: fitted(rung, data, reader, out / rung) for rung in RUNGS}


def vectors(run: Run, pixels: np.ndarray, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ours, of length 1."""
    image = run.task.images(run.model, torch.from_numpy(pixels.copy()))
    text = run.task.captions(run.model, torch.from_numpy(run.spec.encode_captions(texts)))
    return image.numpy(), text.numpy()


def files(data: Path, count: int = 5) -> list[Path]:
    return sorted(data.parent.glob("*.png"))[:: 54 // count]


def pixels_of(folder: Path, paths: list[Path]) -> np.ndarray:
    """By the code that lies in the folder."""
    names: dict[str, Any] = {}
    exec((folder / "image_preprocess.py").read_text(encoding="utf-8"), names)
    return np.concatenate([names["pixels"](path) for path in paths])


def assert_told_apart(*sides: np.ndarray) -> None:
    assert all(np.ptp(side, axis=0).max() > 0.05 for side in sides), (
        "all answers are alike: nothing is tested"
    )


# ---------------------------------------------------------------------- onnx


@pytest.mark.parametrize("rung", PROOFS)
def test_onnxruntime_gives_the_same_vectors(
    rung: str, runs: dict[str, Run], data: Path, tmp_path: Path
) -> None:
    engine = pytest.importorskip("onnxruntime")
    run = runs[rung]
    folder = run.export("onnx", tmp_path / "towers")
    paths = files(data)
    seen = pixels_of(folder, paths)
    assert np.array_equal(seen, np.stack([run.spec.pictures.decode(path) for path in paths]))
    image, text = vectors(run, seen, TEXTS)
    assert_told_apart(image, text)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    read = [np.array(found.ids) for found in tokenizer.encode_batch(TEXTS)]
    assert np.array_equal(padded(read), run.spec.encode_captions(TEXTS))
    eye, mind = (engine.InferenceSession(folder / f"{name}.onnx") for name in ("image", "text"))
    for rows in (slice(None), slice(0, 1), slice(1, 3)):  # any number of them, filled up as it comes
        found = eye.run(["vectors"], {"pictures": seen[rows]})[0]
        np.testing.assert_allclose(found, image[rows], atol=1e-4)
        for extra in (0, 3):
            tokens = padded(read[rows], max(map(len, read[rows])) + extra).astype(np.int64)
            if rung != "clip" or tokens.shape[1] <= run.spec.length:
                found = mind.run(["vectors"], {"tokens": tokens})[0]
                np.testing.assert_allclose(found, text[rows], atol=1e-4)
    about = read_json(folder / "about.json", "an export")
    assert about["scale"] == pytest.approx(float(run.model.scale().detach()))
    assert about["bias"] == pytest.approx(-10.0 if rung == "siglip" else 0.0, abs=0.1)
    assert (about["length"], about["pad"], about["size"]) == (run.spec.length, -1, 16)


@pytest.mark.parametrize(
    ("rung", "model"),
    [
        ("clip", {"variant": "rn50", "width": 8, "heads": 4, "layers": 0}),
        ("clip", {"quick_gelu": True, "end": HIGHEST, "contrast": "sigmoid"}),
        ("clip", {"end": 2}),
        ("siglip", {"gelu": "exact", "contrast": "softmax"}),
    ],
    ids=["resnet", "openai's ways", "an end by number", "exact gelu"],
)
def test_other_settings_too(
    rung: str, model: dict[str, Any], data: Path, reader: Path, tmp_path: Path
) -> None:
    engine = pytest.importorskip("onnxruntime")
    reading = {"size": 32} if "variant" in model else None
    run = fitted(rung, data, reader, tmp_path / "run", reading, **model)
    folder = run.export("onnx")
    assert folder == run.path / "onnx"
    seen, tokens = pixels_of(folder, files(data)), run.spec.encode_captions(TEXTS).astype(np.int64)
    expected = vectors(run, seen, TEXTS)
    assert_told_apart(*expected)
    inputs = {"image": {"pictures": seen}, "text": {"tokens": tokens}}
    for (name, given), ours in zip(inputs.items(), expected, strict=True):
        found = engine.InferenceSession(folder / f"{name}.onnx").run(None, given)[0]
        np.testing.assert_allclose(found, ours, atol=1e-4)


# ---------------------------------------------------------------------- transformers


def theirs(folder: Path, kind: str, seen: np.ndarray, texts: list[str]) -> Any:
    """What transformers makes of pixels and of texts, with its own tokenizer and processor."""
    import transformers

    transformers.logging.disable_progress_bar()
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    padding = "max_length" if kind == "SiglipModel" else True
    read = tokenizer(texts, padding=padding, truncation=True, return_tensors="pt")
    given = processor(list(seen), return_tensors="pt", input_data_format="channels_last")
    with torch.inference_mode():
        return model(**given, **read)


HUGGINGFACE = [
    ("clip", {}, None),
    ("clip", {"quick_gelu": True, "patch": 5}, {"fit": "squash"}),
    ("clip", {"end": 2}, None),
    ("clip", {"end": HIGHEST}, {"tokenizer": "words"}),
    ("clip", {}, {"tokenizer": "unigram", "fit": "pad"}),
    ("siglip", {}, None),
    ("siglip", {"gelu": "exact", "contrast": "softmax"}, {"tokenizer": "characters"}),
]


@pytest.mark.parametrize(
    ("rung", "model", "reading"),
    [pytest.param(*case, marks=pytest.mark.proof(case[0], "exchanged")) for case in HUGGINGFACE],
)
def test_transformers_gives_the_same_vectors(
    rung: str, model: dict[str, Any], reading: Any, data: Path, reader: Path, tmp_path: Path
) -> None:
    run = fitted(rung, data, reader, tmp_path / "run", reading, **model)
    folder = run.export("huggingface", tmp_path / "hub")
    seen = pixels_of(folder, files(data))
    found = theirs(folder, {"clip": "CLIPModel", "siglip": "SiglipModel"}[rung], seen, TEXTS)
    image, text = vectors(run, seen, TEXTS)
    assert_told_apart(image, text)
    np.testing.assert_allclose(F.normalize(found.image_embeds).numpy(), image, atol=1e-5)
    np.testing.assert_allclose(F.normalize(found.text_embeds).numpy(), text, atol=1e-5)
    bias = 0.0 if run.model.logit_bias is None else float(run.model.logit_bias.detach())
    logits = float(run.model.scale().detach()) * image @ text.T + bias
    np.testing.assert_allclose(found.logits_per_image.numpy(), logits, atol=1e-3)


@pytest.mark.parametrize("rung", ["clip", "siglip"])
def test_what_is_written_for_the_hub_is_read_back(
    rung: str, runs: dict[str, Run], data: Path, tmp_path: Path
) -> None:
    run = runs[rung]
    folder = str(run.export("huggingface", tmp_path / "hub"))
    network, found = open_towers(folder, read_words(described(folder)))
    read = network.encode_text(torch.from_numpy(found.tokens(TEXTS)))
    seen = np.stack([run.spec.pictures.decode(path) for path in files(data)])
    np.testing.assert_allclose(F.normalize(read).numpy(), vectors(run, seen, TEXTS)[1], atol=1e-6)


def test_a_bare_fast_tokenizer_reads_the_same_tokens(runs: dict[str, Run], tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    run = runs["siglip"]
    folder = run.export("huggingface", tmp_path / "hub")
    bare = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    for text in (TEXTS[0], TEXTS[1], TEXTS[5]):
        ids = bare(text, truncation=True, max_length=run.spec.length).input_ids
        assert ids == run.spec.encode_captions([text])[0].tolist()


# ---------------------------------------------------------------------- open_clip


def test_open_clips_weights_have_openais_names_and_its_rule_finds_the_end(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    run = runs["clip"]
    folder = run.export("open_clip", tmp_path / "open")
    found, own = load_file(folder / "open_clip_model.safetensors"), run.model.state_dict()
    assert {name: value.shape for name, value in found.items()} == {n: v.shape for n, v in own.items()}
    assert all(torch.equal(found[name], own[name]) for name in own if name != "token_embedding.weight")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    read = torch.from_numpy(
        padded([np.array(one.ids) for one in tokenizer.encode_batch(TEXTS)], 0).astype(int)
    )
    again = CLIP.from_weights(found, quick_gelu=False, end=HIGHEST)  # which reads the highest, as they do
    again.transformer.resblocks.apply(
        lambda part: setattr(part, "heads", 2) if hasattr(part, "heads") else None
    )
    text = run.task.captions(run.model, torch.from_numpy(run.spec.encode_captions(TEXTS)))
    torch.testing.assert_close(F.normalize(again.encode_text(read)), text)
    about = read_json(folder / "open_clip_config.json", "an export")
    assert about["model_cfg"]["vision_cfg"] == {
        "image_size": 16, "width": 16, "layers": 2, "head_width": 8, "patch_size": 4,
    }  # fmt: skip
    assert about["preprocess_cfg"]["resize_mode"] == "shortest"


def test_open_clip_itself_gives_the_same_vectors(runs: dict[str, Run], data: Path, tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    run = runs["clip"]
    place = f"local-dir:{run.export('open_clip', tmp_path / 'open')}"
    model, _, prepare = open_clip.create_model_and_transforms(place)
    from PIL import Image

    seen = np.stack([run.spec.pictures.decode(path) for path in files(data)])
    given = torch.stack([prepare(Image.fromarray(pixels)) for pixels in seen])
    with torch.inference_mode():
        image = model.eval().encode_image(given, normalize=True).numpy()
        text = model.encode_text(open_clip.get_tokenizer(place)(TEXTS[:2]), normalize=True).numpy()
    ours = vectors(run, seen, TEXTS[:2])
    np.testing.assert_allclose(image, ours[0], atol=1e-5)
    np.testing.assert_allclose(text, ours[1], atol=1e-5)


# ---------------------------------------------------------------------- tokens


def given_tokenizer(path: Path, kind: str, words: list[str]) -> Path:
    """Tokenizers as others have them, whose token 2 ends a text, or also begins it."""
    vocabulary = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *words]
    if kind == "one for both":
        vocabulary = ["<|endoftext|>", "[UNK]", "x", *words]
    library = tokenizers.Tokenizer(
        models.WordLevel({word: id for id, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.normalizer = normalizers.Lowercase()
    library.add_special_tokens([word for word in vocabulary if word[0] in "[<"])
    if kind == "bert":
        library.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    if kind == "template":
        library.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    library.save(str(path))
    return path


@pytest.mark.parametrize("kind", ["bpe", "unigram", "words", "characters", "bert", "template", "bare"])
def test_end_becomes_the_highest_and_nothing_else_changes(
    kind: str, data: Path, reader: Path, tmp_path: Path
) -> None:
    named: Any = kind
    if kind in ("bert", "template", "bare"):
        named = str(given_tokenizer(tmp_path / "tokenizer.json", kind, list(WORDS)))
    run = fitted("clip", data, reader, tmp_path / "run", {"tokenizer": named})
    assert run.spec.end == 2
    last = run.spec.vocabulary - 1
    moved = highest_end(run.spec, run.model)
    assert moved.end == last
    moved.tokenizer.encode_special_tokens = True
    texts = [*TEXTS, *WORDS]
    there = run.spec.encode_captions(texts)
    found = padded([np.array(one.ids) for one in moved.tokenizer.encode_batch(texts)])
    swapped = there.copy()
    swapped[there == 2], swapped[there == last] = last, 2
    assert np.array_equal(found, swapped) and (found.max(-1) == last).all()
    table = run.model.token_embedding.weight
    at = there >= 0
    assert torch.equal(moved.state["token_embedding.weight"][found[at]], table[there[at]])
    back = exchanged(moved.tokenizer, last, 2)
    assert json.loads(back.to_str()) == json.loads(shipped(run.spec).to_str())


# ---------------------------------------------------------------------- what is said, and what is refused


ASKED = ["a red square", "초록 테두리", "a blue stripe"]


def code_in(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]


def nearest(run: Run, picture: Path) -> str:
    image, text = vectors(run, run.spec.pictures.decode(picture)[None], ASKED)
    return ASKED[int((image @ text.T).argmax())]


def test_the_readme_runs_as_it_stands_with_nothing_of_ours(
    runs: dict[str, Run], data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    folder, picture = runs["clip"].export("onnx", tmp_path / "folder"), files(data)[1]
    code = code_in(folder) + 'assert not {"sadari", "torch"} & set(sys.modules)\n'
    told = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code, str(picture), *ASKED],
        cwd=folder, capture_output=True, text=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert told.stdout.strip() == nearest(runs["clip"], picture)


@pytest.mark.parametrize("rung", ["clip", "siglip"])
def test_the_readme_for_transformers_runs_as_it_stands(
    rung: str,
    runs: dict[str, Run],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Here, since to import transformers takes longer than all the rest."""
    folder, picture = runs[rung].export("huggingface", tmp_path / "folder"), files(data)[1]
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "argv", ["use.py", str(picture), *ASKED])
    monkeypatch.delitem(sys.modules, "image_preprocess", raising=False)
    exec(code_in(folder), {})
    monkeypatch.delitem(sys.modules, "image_preprocess")
    assert capsys.readouterr().out.strip().splitlines()[-1] == nearest(runs[rung], picture)


def test_each_run_says_what_it_can_be(runs: dict[str, Run]) -> None:
    known = {
        "bag-of-words": ("onnx", "safetensors"),
        "clip": ("onnx", "huggingface", "open_clip", "safetensors"),
        "siglip": ("onnx", "huggingface", "safetensors"),
        "locked": ("onnx", "safetensors"),
    }
    for rung, run in runs.items():
        assert formats(run) == known[rung]
        with pytest.raises(
            SadariError, match=f"^--to 'coreml' is no format; choose one of: {', '.join(known[rung])}$"
        ):
            run.export("coreml")


def test_what_cannot_be_is_refused(
    runs: dict[str, Run], data: Path, reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    for rung, to, message in (
        (
            "bag-of-words",
            "huggingface",
            "is for clip and siglip, and this run is bag-of-words; use --to onnx or",
        ),
        (
            "locked",
            "huggingface",
            "is for clip and siglip, and this run is locked; use --to onnx or safetensors",
        ),
        ("siglip", "open_clip", "is for clip, and this run is siglip; use --to onnx or huggingface or"),
        ("clip", "marian", "is for a transformer of pairs, and this run is clip of task match"),
    ):
        with pytest.raises(SadariError, match=f"^--to {to} {message}"):
            runs[rung].export(to, out)
    resnet = {"variant": "rn50", "width": 8, "heads": 4, "layers": 0}
    run = fitted("clip", data, reader, tmp_path / "resnet", {"size": 32}, **resnet)
    with pytest.raises(
        SadariError, match="has no ResNet for pictures, which this clip has; use --to onnx or open"
    ):
        run.export("huggingface", out)
    run = fitted("clip", data, reader, tmp_path / "sigmoid", contrast="sigmoid")
    with pytest.raises(
        SadariError, match="knows no clip with a bias, which contrast=sigmoid has learnt; use"
    ):
        run.export("huggingface", out)
    config = read_json(run.export("open_clip", tmp_path / "biased") / "open_clip_config.json", "an export")
    assert config["model_cfg"]["init_logit_bias"] == pytest.approx(-10.0, abs=0.1)
    both = str(given_tokenizer(tmp_path / "both.json", "one for both", list(WORDS)))
    run = fitted("clip", data, reader, tmp_path / "both", {"tokenizer": both})
    for to in ("huggingface", "open_clip"):
        with pytest.raises(
            SadariError, match="at its first token, since token 0 both starts and ends it; use --to"
        ):
            run.export(to, out)
    grey = fitted("clip", data, reader, tmp_path / "grey", {"channels": 1})
    with pytest.raises(
        SadariError, match="knows no pictures in grey, which these are; use --to onnx or hugging"
    ):
        grey.export("open_clip", out)
    run = runs["clip"]
    with pytest.raises(SadariError, match="two towers are two files; give a folder with --out, not a file"):
        run.export("onnx", tmp_path / "model.onnx")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(
        SadariError, match="full is there already; give another folder with --out, or remove it"
    ):
        run.export("onnx", tmp_path / "full")
    with pytest.raises(SadariError, match=r"cannot be written .*; give another place with --out"):
        run.export("open_clip", tmp_path / "full" / "x" / "below")
    assert not out.exists()
    from sadari.export import captions_onnx

    monkeypatch.setattr(captions_onnx, "MOST", 1000)
    with pytest.raises(
        SadariError, match=r"ends at 2 GB, and a tower of this run takes .* use --to safetensors"
    ):
        run.export("onnx", out)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SadariError, match="the export needs the package onnx; install it with"):
        run.export("onnx", out)
    assert not out.exists() and sorted(captions.WRITERS) == ["huggingface", "onnx", "open_clip"]


def test_other_runs_have_no_towers(data: Path, tmp_path: Path) -> None:
    run = sadari.fit("mean", "diabetes", out=tmp_path / "run")
    with pytest.raises(
        SadariError,
        match=r"^--to huggingface is for pictures with captions, and this run is mean of task regress; use",
    ):
        run.export("huggingface")

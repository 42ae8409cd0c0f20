"""Locked towers: they are the probe's eye and reader to the number, what is locked stays, the lines learn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from sadari.errors import SadariError
from sadari.layers.contrast import sigmoid_loss, softmax_loss
from sadari.models import backbone, encoder, locked
from sadari.models.eye import SMALLEST
from sadari.models.locked import Locked, LockedConfig
from sadari.optim import groups_of
from tests.models.test_backbone import hub_resnet, shaken
from tests.models.test_clip import keeper
from tests.models.test_encoder import plant, read

SHAPE, VOCABULARY = (3, 16, 16), 30
TINY = Locked.TINY
TOKENS = torch.tensor([[2, 5, 7, 3, -1, -1], [2, 9, 3, -1, -1, -1], [2, 4, 4, 8, 6, 3]])
NAMES = ("red", "green", "blue")


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own."""
    monkeypatch.setenv("SADARI_CACHE", str(tmp_path / "cache"))
    yield


@pytest.fixture(scope="module")
def eye(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "eye"
    hub_resnet(path)
    return path


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vectors = {name: 2 * torch.eye(16)[place] for place, name in enumerate((*NAMES, "a", "thing"))}
    return plant(tmp_path_factory.mktemp("hub") / "reader", vectors)


def made(config: LockedConfig = TINY, vocabulary: int = VOCABULARY) -> Locked:
    torch.manual_seed(0)
    return Locked(config, SHAPE, vocabulary)


def moved(model: Locked) -> set[str]:
    """The parameters and buffers that a step of training changes."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(
        [{"params": group.parameters, "lr": group.pace} for group in groups_of(model, 0.0)]
    )
    model.train()
    image, text = model(torch.randn(3, *SHAPE), TOKENS)
    softmax_loss(image, text, model.scale()).backward()
    optimizer.step()
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.proof("locked", "parity")
def test_the_towers_are_those_of_the_probes_that_read_the_same_weights(eye: Path, reader: Path) -> None:
    """Two ways, one answer: features and vectors are the probes', and the lines act on them made level."""
    model = made(LockedConfig(str(eye), texts=str(reader), dimension=6), 9)
    notes = model.begin(None, read([*NAMES, "a", "thing"], ["a red thing"]))["notes"]
    assert notes == []
    picture = backbone.Probe(backbone.ProbeConfig(str(eye)), SHAPE, 2)
    picture.fill()
    text = encoder.Probe(encoder.ProbeConfig(str(reader)), 9, 2)
    pictures, tokens = torch.randn(2, 3, 40, 32), read([*NAMES, "a", "thing"], ["red thing", "a blue thing"])
    for network in (model, picture, text):
        network.eval()
    kept: dict[str, Tensor] = {}
    image, words = model(pictures, tokens, keeper(kept))
    features, vectors = picture.features(pictures), text.vectors(tokens)
    assert torch.equal(kept["image.features"], features)
    torch.testing.assert_close(kept["text.pooled"], vectors)
    level = (features - features.mean(1, keepdim=True)) / (
        features.var(1, keepdim=True, correction=0) + 1e-5
    ).sqrt()
    expected = F.normalize(model.image_projection(level))
    torch.testing.assert_close(image, expected)
    torch.testing.assert_close(words, F.normalize(model.encode_text(tokens)))
    torch.testing.assert_close(model.project_image(features), model.encode_image(pictures))  # kept features
    torch.testing.assert_close(model.project_text(vectors), model.encode_text(tokens))
    torch.testing.assert_close(words.norm(dim=-1), torch.ones(2))


def test_padding_changes_no_caption_and_an_empty_one_is_finite() -> None:
    model = made().eval()
    found = model.encode_text(TOKENS)
    torch.testing.assert_close(model.encode_text(F.pad(TOKENS, (0, 80), value=-1)), found)
    torch.testing.assert_close(model.encode_text(TOKENS[1:2, :3]), found[1:2])
    assert model.encode_text(torch.full((1, 4), -1)).isfinite().all()
    assert not torch.allclose(found[0], found[1])


def test_what_is_locked_stays_bit_by_bit_and_only_the_lines_learn() -> None:
    model = made()
    shaken(model.backbone)  # so that the statistics of a norm would move
    lines = {f"{name}_projection.{part}" for name in ("image", "text") for part in ("weight", "bias")}
    assert moved(model) == {*lines, "logit_scale"}
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == sum(
        p.numel() for name, p in model.named_parameters() if name in (*lines, "logit_scale")
    )
    assert not any(part.training for part in (*model.backbone.modules(), *model.reader.modules()))


def test_the_last_parts_can_be_let_loose_and_learn_at_a_pace() -> None:
    model = made(replace(TINY, thaw_image=1, thaw_text=1))
    loose = {name.split(".weight")[0].split(".bias")[0] for name in moved(model)}
    towers = [name for name in loose if name.startswith(("backbone.", "reader."))]
    assert towers and all(
        name.startswith(("backbone.layer3.", "reader.encoder.encoder.layer.1.")) for name in towers
    )
    assert {name.split(".")[0] for name in towers} == {"backbone", "reader"}
    norms = [part for part in model.backbone.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)
    paces = model.paces()
    assert [pace for pace, _ in paces] == [1.0, 0.1]
    found = [id(parameter) for _, parameters in paces for parameter in parameters]
    assert sorted(found) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_all_can_be_let_loose() -> None:
    stages = len(made().stages)
    model = made(replace(TINY, thaw_image=stages, thaw_text=2))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert "reader.encoder.embeddings.word_embeddings.weight" in moved(model)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_counts_are_those_of_its_tensors_and_its_products(loss: str) -> None:
    config = replace(TINY, contrast=loss)
    model = made(config).eval()
    assert sum(p.numel() for p in model.parameters()) == Locked.parameter_count(config, SHAPE, VOCABULARY)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        # attention's fused path is not counted; its plain one is
        model(torch.randn(1, *SHAPE), torch.tensor([[2, 5, 6, 3]]), keeper({}))
    assert counter.get_total_flops() == 2 * Locked.macs(config, SHAPE, VOCABULARY, 4)
    assert (model.logit_bias is not None) == (loss == "sigmoid")


@pytest.mark.proof("locked", "claim")
@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_two_lines_join_towers_that_never_met(loss: str, reader: Path) -> None:
    """Red, green and blue, seen by an eye of chance and named among other words: the lines alone learn."""
    config = LockedConfig("", backbone=SMALLEST, texts=str(reader), dimension=8, contrast=loss)
    model = made(config, 9)
    model.begin(None, torch.tensor([[2, 4, 3]]))
    shaken(model.backbone)
    model.train()
    tokens = read([*NAMES, "a", "thing"], [f"a {name} thing" for name in NAMES])
    again = read([*NAMES, "a", "thing"], [f"{name} a" for name in NAMES])
    colours = torch.eye(3).view(3, 3, 1, 1)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    for step in range(60):
        seen = colours * (1 + torch.rand(3, 1, 1, 1)) + 0.1 * torch.randn(3, *SHAPE)
        image, text = model(seen, tokens if step % 2 else again)
        if model.logit_bias is None:
            value = softmax_loss(image, text, model.scale())
        else:
            value = sigmoid_loss(image, text, model.scale(), model.logit_bias)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        image, text = model(1.5 * colours.expand(3, *SHAPE), again)
    assert (image @ text.T).argmax(1).tolist() == [0, 1, 2]


def test_a_config_stands_on_its_own_once_made(eye: Path, reader: Path) -> None:
    """What is written in a run is enough to build the model where neither place is there."""
    config = LockedConfig(str(eye), texts=str(reader))
    assert config.encoder.startswith("width=16 layers=1") and "network=resnet" in config.backbone
    elsewhere = replace(config, weights="/nowhere/eye", texts="/nowhere/reader")
    model, other = made(config, 9), made(elsewhere, 9)
    model.fill()
    other.load_state_dict(model.state_dict())
    pictures, tokens = torch.randn(2, *SHAPE), torch.tensor([[2, 4, 3], [2, 5, 3]])
    for one, two in zip(model.eval()(pictures, tokens), other.eval()(pictures, tokens), strict=True):
        assert torch.equal(one, two)
    assert Locked.most(config) == 16 and '"red"' in Locked.tokenizer_json(config)


def test_drawn_from_the_seed_by_its_laws() -> None:
    config = replace(TINY, dimension=400)
    model, again = made(config), made(config)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    for line in (model.image_projection, model.text_projection):
        assert line.weight.std().item() == pytest.approx(line.in_features**-0.5, rel=0.1)
        assert not line.bias.any()


def test_what_does_not_fit_is_named(eye: Path, reader: Path) -> None:
    model = made()
    model.check_tokens(TOKENS)
    with pytest.raises(SadariError, match="token 30 is beyond the model's vocabulary of 30, 0 to 29"):
        model.check_tokens(torch.tensor([[1, 30]]))
    with pytest.raises(SadariError, match="caption 1 has no token; leave such pairs out"):
        model.check_tokens(torch.tensor([[-1, -1]]))
    with pytest.raises(SadariError, match="a text of 65 tokens, but there are positions for 64"):
        model.encode_text(torch.ones(1, 65, dtype=torch.long))
    other = made(LockedConfig(str(eye), texts=str(reader)), 10)
    message = "come from a vocabulary of 10, the reader .* knows 9; recode the captions with its own"
    with pytest.raises(SadariError, match=message):
        other.fill()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dimension": 0}, "dimension 0: at least 1 is needed; use dimension=384"),
        ({"pace": 0.0}, r"pace 0.0: the share of a rate lies in \(0, 1\]; use pace=0.1"),
        ({"contrast": "hinge"}, "--contrast 'hinge' is no loss of pairs; choose one of softmax, sigmoid"),
        ({"thaw_image": 5}, "thaw_image 5: the eye has 4 stages; use thaw_image=0 to 4"),
        ({"thaw_text": -1}, "thaw_text -1: the reader has 2 layers; use thaw_text=0 to 2"),
        ({"encoder": "width=8"}, "layers is missing; leave it empty to have the sizes read"),
        ({"texts": "/nowhere", "encoder": ""}, "weights '/nowhere': neither a folder nor built in"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SadariError, match=message):
        replace(TINY, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_answers_kept_and_made_anew_train_alike(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locked, "has_bf16", bool)
    model = made(replace(TINY, contrast=loss)).train()
    pictures, others = torch.randn(6, *SHAPE), torch.randn(2, *SHAPE)
    captions, few = torch.cat([TOKENS, TOKENS.flip(0)]), TOKENS[:2, :4]
    found = model.kept([pictures, others], [captions, few])
    assert found is not None
    lines, features, rows = found
    assert len(lines.vectors) == 3  # the few are among the others
    parts = zip((pictures, others), (captions, few), features, rows, strict=True)
    for seen, said, kept, numbers in parts:
        for ours, plain in zip(lines(kept, numbers), model(seen, said), strict=True):
            torch.testing.assert_close(ours, plain, atol=1e-6, rtol=1e-5)
    gradients = []
    for module, image, text in ((lines, features[0], rows[0]), (model, pictures, captions)):
        model.zero_grad()
        x, y = module(image, text)
        bias = module.logit_bias
        value = (
            softmax_loss(x, y, module.scale()) if bias is None else sigmoid_loss(x, y, module.scale(), bias)
        )
        value.backward()
        gradients.append([p.grad.clone() for p in lines.parameters() if p.grad is not None])
    assert len(gradients[0]) == 5 + (loss == "sigmoid")
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_rehearsal_has_the_shapes_of_what_is_kept_and_tells_the_time(device: str) -> None:
    pictures, captions = [torch.randn(40, *SHAPE), torch.randn(2, *SHAPE)], [TOKENS, TOKENS[:2, :4]]
    real = made().kept(pictures, captions)
    with torch.device(device):
        model = made()
    lines, features, rows, seconds = model.rehearsed(pictures, captions) or pytest.fail("nothing is kept")
    assert real is not None
    assert lines.vectors.shape == real[0].vectors.shape
    assert [part.shape for part in features] == [part.shape for part in real[1]]
    assert all(map(torch.equal, rows, real[2]))
    assert (seconds > 0) == (device == "cpu")


def test_nothing_is_kept_where_a_tower_learns() -> None:
    loose = made(replace(TINY, thaw_text=1))
    assert loose.kept([torch.randn(2, *SHAPE)], [TOKENS[:2]]) is None
    assert loose.rehearsed([torch.randn(2, *SHAPE)], [TOKENS[:2]]) is None

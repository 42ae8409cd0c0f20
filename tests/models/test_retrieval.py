"""Retrieval: `nearest` over what an eye sees, the eye as it came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from sadari.data.builtin import open_builtin
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.losses import make_loss
from sadari.models import seeing
from sadari.models.backbone import Probe, ProbeConfig
from sadari.models.retrieval import Retrieval, RetrievalConfig

LOSS = make_loss("cross-entropy", classes=3)
SHAPE = (3, 16, 16)


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seeing.LAST.clear()


def model(neighbours: int = 5) -> Retrieval:
    torch.manual_seed(0)
    config = RetrievalConfig(weights="", backbone=Retrieval.TINY.backbone, neighbours=neighbours)
    return Retrieval(config, SHAPE, 3).eval()


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise with a bar of a class's own height."""
    draw = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 3
    pixels = torch.randn(count, *SHAPE, generator=draw)
    for row, target in enumerate(targets.tolist()):
        pixels[row, :, 5 * target : 5 * target + 4] += 1.5
    return pixels, targets


@pytest.mark.proof("retrieval", "parity")
def test_its_vote_is_scikit_learns_over_the_features() -> None:
    made, (shown, targets), (asked, _) = model(), pictures(60, 1), pictures(40, 2)
    made.solve(shown, targets, LOSS)
    seen, new = (made.features(block).numpy().astype(np.float64) for block in (shown, asked))
    centred = [block - block.mean(1, keepdims=True) for block in (seen, new)]
    peer = KNeighborsClassifier(5, metric="cosine").fit(centred[0], targets)
    answers = made(asked).softmax(1)
    shares = torch.from_numpy(peer.predict_proba(centred[1]))
    trust = float(made.memory.trust)
    gaps = ((5 * shares + trust / 3) / (5 + trust) - answers).abs().amax(1)
    # what is stored has 8 bits and was seen in bf16: here and there another is the fifth
    assert (gaps < 0.01).double().mean() >= 0.8 and gaps.max() < 1.01 / 5


def test_the_eye_is_the_probes_and_stays_bit_for_bit() -> None:
    made, (shown, targets) = model(), pictures(30, 1)
    before = {name: value.clone() for name, value in made.backbone.state_dict().items()}
    made.train()
    made.solve(shown, targets, LOSS)
    assert all(torch.equal(before[name], value) for name, value in made.backbone.state_dict().items())
    probe = Probe(ProbeConfig(weights="", backbone=made.config.backbone), SHAPE, 3).eval()
    probe.backbone.load_state_dict(made.backbone.state_dict())
    assert torch.equal(probe.features(shown), made.features(shown))
    assert not any(parameter.requires_grad for parameter in made.parameters())


@pytest.mark.proof("retrieval", "inside")
def test_pictures_that_are_put_to_the_others_are_known_without_training() -> None:
    (shown, targets), (more, others) = pictures(30, 1), pictures(30, 9)
    some, all_ = model(1), model(1)
    some.solve(shown, targets, LOSS)
    all_.solve(torch.cat([shown, more]), torch.cat([targets, others]), LOSS)
    likeness, index = all_.neighbours(more, 1)
    assert torch.equal(index[:, 0], torch.arange(30, 60))
    assert (likeness > some.neighbours(more, 1)[0]).all()


def test_what_the_probe_has_seen_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, targets = pictures(12, 1)
    made = model()
    probe = Probe(ProbeConfig(weights="", backbone=made.config.backbone), SHAPE, 3)
    probe.backbone.load_state_dict(made.backbone.state_dict())
    asked: list[int] = []
    real = seeing.Seeing.encode

    def encode(self: Any, *given: Any) -> Tensor:
        asked.append(1)
        return real(self, *given)

    monkeypatch.setattr(seeing.Seeing, "encode", encode)
    made.solve(shown, targets, LOSS)
    probe.solve(shown, targets, LOSS)
    assert len(asked) == 1


def test_a_run_keeps_what_it_was_shown(tmp_path: Any) -> None:
    frame, _ = open_builtin("digits-images")
    settings = {"weights": "", "backbone": Retrieval.TINY.backbone}
    run = fit("retrieval", frame[::12], target="digit", model=settings, out=tmp_path / "run")
    assert run.result["solved"] and run.model.memory.k >= 1
    again = type(run).load(run.path)
    some = frame["image"][:20].to_list()
    assert again.predict(some).equals(run.predict(some))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neighbours": -1}, "neighbours -1: at least 1 picture votes; use neighbours=0"),
        ({"side": 9999}, "side 9999: give up to 4,096 pixels"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SadariError, match=message):
        RetrievalConfig(weights="", **settings)

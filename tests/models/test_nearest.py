"""Nearest: exact neighbours, a vote, k as leaving each out would choose it, pictures kept as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from sadari.errors import SadariError
from sadari.losses import Loss, make_loss
from sadari.models import nearest
from sadari.models.nearest import Nearest, NearestConfig

SHAPE = (3, 8, 8)


def pixels(rows: int, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> torch.Tensor:
    """Random pictures, 0 to 255, with every level's ends in each channel."""
    generator = torch.Generator().manual_seed(seed)
    made = torch.randint(0, 256, (rows, *shape), generator=generator, dtype=torch.uint8)
    made[0, :, 0, 0], made[0, :, 0, 1] = 0, 255
    return made


def normalised(raw: torch.Tensor) -> torch.Tensor:
    """As the task hands them over."""
    channels = raw.shape[1]
    mean = torch.tensor([0.3, 0.5, 0.4])[:channels].view(-1, 1, 1)
    deviation = torch.tensor([0.2, 0.25, 0.3])[:channels].view(-1, 1, 1)
    x = (raw.float() / 255 - mean) / deviation
    return x.contiguous(memory_format=torch.channels_last)


def labels_of(rows: int, classes: int = 3, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(classes, (rows,), generator=generator)


def loss_of(classes: int = 3) -> Loss:
    return make_loss("binary" if classes == 2 else "cross-entropy", classes=classes)


def solved(x: Any, y: torch.Tensor, k: int = 0, side: int = 32, classes: int = 3) -> Nearest:
    loss = loss_of(classes)
    model = Nearest(NearestConfig(neighbours=k, side=side), tuple(x[0:1].shape[1:]), loss.outputs)
    assert model.can_solve(loss)
    model.solve(x, y, loss)
    return model


def mean_free(x: torch.Tensor) -> np.ndarray:
    rows = x.double().contiguous().flatten(1)
    return (rows - rows.mean(1, keepdim=True)).numpy()


def brute(x: torch.Tensor, stored: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and numbers of the k nearest by comparing with every one in double precision."""
    a, b = mean_free(x), mean_free(stored)
    likeness = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (
        b / np.linalg.norm(b, axis=1, keepdims=True)
    ).T
    index = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(likeness, index, 1), index


@given(
    rows=st.integers(1, 40),
    asked=st.integers(1, 9),
    k=st.integers(1, 45),
    seed=st.integers(0, 1000),
    block=st.integers(1, 50),
)
def test_neighbours_are_those_of_brute_force(rows: int, asked: int, k: int, seed: int, block: int) -> None:
    """In blocks of any size, kept ready or made anew."""
    stored, new = normalised(pixels(rows, seed=seed)), normalised(pixels(asked, seed=seed + 1))
    for kept in (nearest.KEPT, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nearest, "BLOCK", block)
            patch.setattr(nearest, "ROWS", 4)
            patch.setattr(nearest, "KEPT", kept)
            likeness, index = solved(stored, labels_of(rows), k=1).neighbours(new, k)
        theirs, numbers = brute(new, stored, k)
        np.testing.assert_array_equal(index, numbers)
        np.testing.assert_allclose(likeness, theirs, rtol=0, atol=1e-6)


@pytest.mark.proof("nearest", "parity")
@pytest.mark.parametrize("k", [1, 4, 9])
def test_votes_are_scikit_learns(k: int) -> None:
    """Its shares, votes / k, are ours but for the vote of the classes' shares."""
    x, y, new = normalised(pixels(80)), labels_of(80), normalised(pixels(30, seed=5))
    theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(mean_free(x), y)
    model = solved(x, y, k=k)
    more = model.trust.item()
    expected = (k * theirs.predict_proba(mean_free(new)) + more * np.bincount(y) / 80) / (k + more)
    shares = loss_of().predict(model(new))
    # likeness weighs each vote by a thousandth, to part classes with equally many
    np.testing.assert_allclose(shares, expected, rtol=0, atol=2e-3)


def test_k_is_the_one_that_leaving_each_out_would_choose() -> None:
    """Noisy classes of a few shapes: k has a best value, and scikit-learn finds the same one."""
    generator = torch.Generator().manual_seed(2)
    shapes = torch.randn(3, *SHAPE, generator=generator)
    y = labels_of(120)
    x = shapes[y] + 3.0 * torch.randn(120, *SHAPE, generator=generator)
    errors = {}
    for k in (k for k in nearest.CANDIDATES if k < 120):
        knn = KNeighborsClassifier(k, metric="cosine", algorithm="brute")
        errors[k] = (cross_val_predict(knn, mean_free(x), y, cv=LeaveOneOut()) != y.numpy()).sum()
    model = Nearest(NearestConfig(), SHAPE, 3)
    facts = model.solve(x, y, loss_of())
    least = min(errors.values())
    assert facts["left_out_error"] == pytest.approx(least / 120, abs=2.5 / 120)  # ties are parted otherwise
    assert errors[facts["k"]] <= least + 2 and facts["k"] > 1
    assert int(model.k) == facts["k"]
    note = facts["notes"][0]
    assert note.english.startswith(f"The vote goes to the k = {facts['k']} nearest") and "120" in note.korean


def test_a_picture_is_never_its_own_neighbour_when_k_is_chosen() -> None:
    """Labels of chance: were the picture itself among the voters, k = 1 would never err."""
    facts = Nearest(NearestConfig(), SHAPE, 3).solve(normalised(pixels(60)), labels_of(60), loss_of())
    assert facts["left_out_error"] > 0.4


def test_k_is_chosen_on_as_many_pictures_as_there_is_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "JUDGED", 0)
    facts = Nearest(NearestConfig(side=2), SHAPE, 3).solve(normalised(pixels(400)), labels_of(400), loss_of())
    assert "each of 256 training pictures" in facts["notes"][0].english


class Lazy:
    """Pictures that become numbers when they are asked for."""

    def __init__(self, raw: torch.Tensor) -> None:
        self.raw = raw
        self.largest = 0

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, rows: slice) -> torch.Tensor:
        block = normalised(self.raw[rows])
        self.largest = max(self.largest, block.nbytes)
        return block


def test_lazy_pictures_are_read_in_blocks_and_give_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, y = pixels(50), labels_of(50)
    lazy = Lazy(raw)
    whole = solved(normalised(raw), y)
    monkeypatch.setattr(nearest, "READ", 10 * raw[0].numel() * 4)
    parts = solved(lazy, y)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name
    assert lazy.largest == 10 * raw[0].numel() * 4


def test_small_pictures_are_kept_as_they_are_and_large_ones_reduced() -> None:
    raw = pixels(20, (3, 32, 32))
    assert torch.equal(solved(normalised(raw), labels_of(20), k=1).pictures, raw)
    large = raw.repeat_interleave(2, 2).repeat_interleave(2, 3)  # the mean of four equal pixels is that pixel
    assert torch.equal(solved(normalised(large), labels_of(20), k=1).pictures, raw)
    assert solved(normalised(pixels(3, (1, 50, 25))), labels_of(3), k=1).pictures.shape == (3, 1, 32, 16)


@given(gain=st.floats(0.1, 10), offset=st.floats(-3, 3), seed=st.integers(0, 100))
def test_neither_brightness_nor_contrast_counts(gain: float, offset: float, seed: int) -> None:
    x, new = normalised(pixels(30)), normalised(pixels(4, seed=seed + 1))
    model = solved(x, labels_of(30), k=3)
    torch.testing.assert_close(model(gain * new + offset), model(new), rtol=0, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 7])
def test_a_picture_is_answered_alike_in_any_batch(rows: int) -> None:
    """Pictures kept twice under two labels are the hard case: which of two equals is in the vote."""
    x = normalised(pixels(40))
    model = solved(torch.cat([x, x]), torch.cat([labels_of(40), (labels_of(40) + 1) % 3]), k=3)
    new = x[:21] + 0.2 * torch.randn(21, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat([model(part) for part in new.split(rows)]), model(new))


def test_a_picture_of_one_colour_is_like_none_and_gets_the_classes_shares() -> None:
    y = torch.tensor([0] * 6 + [1] * 3 + [2])
    model = solved(normalised(pixels(10)), y, k=3)
    shares = loss_of().predict(model(torch.full((2, *SHAPE), 0.37)))
    torch.testing.assert_close(shares, torch.tensor([[0.6, 0.3, 0.1]] * 2))


def test_two_classes_may_share_one_logit() -> None:
    x, y = normalised(pixels(20)), labels_of(20, 2)
    one, two = solved(x, y, k=5, classes=2), Nearest(NearestConfig(neighbours=5), SHAPE, 2)
    two.solve(x, y, make_loss("cross-entropy", classes=2))
    new = normalised(pixels(6, seed=3))
    assert one(new).shape == (6, 1)
    both = make_loss("cross-entropy", classes=2)
    torch.testing.assert_close(loss_of(2).predict(one(new)), both.predict(two(new)))


@pytest.mark.proof("nearest", "inside")
def test_names_what_it_found(tmp_path: Path) -> None:
    x, y = normalised(pixels(20)), labels_of(20)
    model, seen = solved(x, y, k=4), {}
    new = normalised(pixels(5, seed=2))
    output = model(new, rec=lambda name, value: seen.setdefault(name, value))
    assert torch.equal(output, model(new)) and torch.equal(seen["output"], output)
    likeness, index = model.neighbours(new, 4)
    assert torch.equal(seen["neighbours"], index) and torch.equal(seen["likeness"], likeness)
    torch.testing.assert_close(seen["features"].norm(dim=1), torch.ones(5))


@pytest.mark.proof("nearest", "exchanged")
def test_comes_back_from_a_file_the_same(tmp_path: Path) -> None:
    model = solved(normalised(pixels(20)), labels_of(20), k=4)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    again = Nearest(NearestConfig(), SHAPE, 3)
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    new = normalised(pixels(5, seed=2))
    assert torch.equal(again(new), model(new)) and int(again.k) == 4


def test_votes_are_trusted_as_far_as_they_are_right() -> None:
    """Clear classes leave next to no share to the others; labels of chance leave them all of it."""
    generator = torch.Generator().manual_seed(2)
    shapes, y = torch.randn(3, *SHAPE, generator=generator), labels_of(200)
    clear = shapes[y] + 0.1 * torch.randn(200, *SHAPE, generator=generator)
    loss = loss_of()
    right, chance = solved(clear, y, k=1), solved(clear, labels_of(200, seed=9), k=1)
    assert right.trust.item() == pytest.approx(0.01) and chance.trust.item() == 1.0
    assert loss.predict(right(clear)).gather(1, y.unsqueeze(1)).min() > 0.98


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda state: state | {"labels": state["labels"][:5]}, "20 pictures have 5 labels"),
        (lambda state: state | {"labels": state["labels"] + 2}, "labels lie outside the 3 classes"),
        (lambda state: state | {"k": torch.tensor(21)}, "k 21 is no number of neighbours among 20"),
        (lambda state: state | {"high": state["low"]}, "no range of pixels"),
        (lambda state: state | {"shares": torch.zeros(3)}, "a class that is impossible"),
        (lambda state: state | {"pictures": state["pictures"][:, :1]}, "size mismatch for pictures"),
    ],
)
def test_buffers_that_do_not_fit_are_refused(spoil: Callable[[dict], dict], why: str) -> None:
    state = spoil(dict(solved(normalised(pixels(20)), labels_of(20), k=4).state_dict()))
    with pytest.raises(RuntimeError, match=why):
        Nearest(NearestConfig(), SHAPE, 3).load_state_dict(state)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(SadariError, match="neighbours -1: at least 1 picture votes; use neighbours=0"):
        NearestConfig(neighbours=-1)
    with pytest.raises(SadariError, match="side 0: a picture has at least 1 pixel; use side=32"):
        NearestConfig(side=0)
    model = Nearest(NearestConfig(), SHAPE, 3)
    assert not model.can_solve(make_loss("squared"))
    with pytest.raises(SadariError, match="no picture to compare with; solve the model on some first"):
        model(normalised(pixels(1)))
    with pytest.raises(SadariError, match="no picture to keep; give at least one"):
        model.solve(normalised(pixels(1))[:0], labels_of(0), loss_of())
    assert Nearest.parameter_count(NearestConfig(), SHAPE, 3) is None
    assert Nearest.macs(NearestConfig(), SHAPE, 3) == 0 and not list(model.parameters())


def test_one_picture_and_classes_without_one_stay_finite() -> None:
    model = solved(normalised(pixels(1)), torch.tensor([1]))
    output = model(normalised(pixels(2, seed=4)))
    assert torch.isfinite(output).all() and output.argmax(1).tolist() == [1, 1]
    assert model(normalised(pixels(2))[:0]).shape == (0, 3)


@pytest.mark.proof("nearest", "claim")
def test_the_nearest_errs_at_most_twice_as_often_as_the_best_possible() -> None:
    """Cover & Hart 1967: R <= R_1 <= 2 R (1 - R) in the limit, reached where the noise is everywhere alike.

    Three pixels less their mean lie on a circle; one half of it is class 1 four times out of five, the other
    one time out of five. The best possible errs with 0.2, the nearest of many with 0.32.
    """
    rng = np.random.default_rng(0)

    def draw(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        angle = rng.uniform(0, 2 * np.pi, rows)
        plane = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])  # free of a mean
        points = np.stack([np.cos(angle), np.sin(angle)], 1) @ plane
        y = rng.uniform(size=rows) < np.where(angle < np.pi, 0.8, 0.2)
        return torch.from_numpy(points).float().view(rows, 1, 1, 3), torch.from_numpy(y).long()

    (x, y), (new, truth) = draw(4000), draw(4000)
    error = {
        k: (solved(x, y, k=k, classes=2)(new)[:, 0] > 0).ne(truth.bool()).double().mean() for k in (1, 51)
    }
    assert error[1].item() == pytest.approx(0.32, abs=0.03)
    assert error[51].item() == pytest.approx(0.2, abs=0.03)  # many neighbours come to the best possible

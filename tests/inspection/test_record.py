"""The recorder sees every inner value and changes none."""

from __future__ import annotations

import pytest
import torch

from sadari.inspection.record import Recorder, record
from sadari.models.deep_skip import DeepSkip, DeepSkipConfig


def test_records_every_layer_under_its_name_and_leaves_the_answer_alone() -> None:
    torch.manual_seed(0)
    model = DeepSkip(DeepSkipConfig(width=5, layers=3), 4, 2).eval()
    features = torch.randn(7, 4)
    values = record(model, features)
    assert list(values) == ["pre0", "hidden0", "pre1", "hidden1", "pre2", "hidden2", "output"]
    assert torch.equal(values["output"], model(features))
    assert torch.equal(values["hidden0"], torch.relu(values["pre0"]))
    torch.testing.assert_close(values["hidden2"], values["hidden1"] + torch.relu(values["pre2"]))
    assert not any(value.requires_grad for value in values.values())


def test_two_values_of_one_name_are_refused() -> None:
    recorder = Recorder()
    recorder("h", torch.zeros(1))
    with pytest.raises(ValueError, match="gave the name 'h' to two values"):
        recorder("h", torch.ones(1))

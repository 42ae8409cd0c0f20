"""Products in smaller numbers: what they round, and nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sadari.layers.packed import Packed, packed
from sadari.layers.rounded import KINDS, can_round, plain

pytestmark = pytest.mark.skipif(
    not all(map(can_round, KINDS)), reason="torch has no such products on this processor"
)


def line(inputs: int = 96, outputs: int = 160, bias: bool = True, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    made = nn.Linear(inputs, outputs, bias)
    with torch.no_grad():
        made.weight *= torch.logspace(-2, 2, outputs)[:, None]  # rows of very different size
    return made


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("precision", KINDS)
@given(rows=st.integers(1, 40), scale=st.sampled_from([1e-4, 1.0, 300.0]), seed=st.integers(0, 9))
def test_equals_the_same_rounding_written_out(
    precision: str, bias: bool, rows: int, scale: float, seed: int
) -> None:
    one = line(bias=bias, seed=seed)
    x = torch.randn(rows, 96) * scale
    with torch.inference_mode():
        found, wanted = KINDS[precision](one)(x), plain(one, x, precision)
        exact = one(x)
        size = (exact if one.bias is None else exact - one.bias).abs().amax().clamp(min=1e-9)
    error = (found - wanted).abs() / size
    # the answer too is rounded to bf16; of 8 bits a number half way between two may go to the other
    assert error.quantile(0.5) <= {"bf16": 4e-3, "int8": 1e-5}[precision] and error.max() <= 0.02
    error = (found - exact).norm() / exact.norm()
    assert 0 < error < 0.02


@pytest.mark.parametrize("precision", KINDS)
def test_a_row_does_not_hang_on_those_beside_it(precision: str) -> None:
    one = KINDS[precision](line())
    x = torch.randn(9, 96) * torch.logspace(-3, 3, 9)[:, None]
    with torch.inference_mode():
        together, alone = one(x), torch.cat([one(row) for row in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", KINDS)
def test_zeros_and_more_dimensions(precision: str) -> None:
    of = line()
    with torch.inference_mode():
        assert torch.equal(KINDS[precision](of)(torch.zeros(2, 96)), of.bias.expand(2, -1))
        x = torch.randn(3, 4, 96)
        torch.testing.assert_close(
            KINDS[precision](of)(x), KINDS[precision](of)(x.flatten(0, 1)).view(3, 4, -1)
        )


@pytest.mark.parametrize("precision", KINDS)
def test_a_changed_weight_is_rounded_anew(precision: str) -> None:
    of, x = line(), torch.randn(5, 96)
    with torch.inference_mode():
        before = KINDS[precision](of)(x)
    with torch.no_grad():
        of.weight.neg_()
    with torch.inference_mode():
        after = KINDS[precision](of)(x)
        torch.testing.assert_close(after - of.bias, of.bias - before, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("precision", KINDS)
def test_a_twin_has_such_lines_and_leaves_the_model_alone(precision: str) -> None:
    model = nn.Sequential(line(), nn.ReLU(), line(160, 64), nn.Linear(4, 4))
    twin = packed(model, kind=KINDS[precision])
    assert [type(part) for part in twin] == [KINDS[precision], nn.ReLU, KINDS[precision], nn.Linear]
    assert [type(part) for part in model] == [nn.Linear, nn.ReLU, nn.Linear, nn.Linear]
    assert not list(twin[0].parameters()) and type(packed(model)[0]) is Packed

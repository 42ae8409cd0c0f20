"""The public names are the functions, whoever imported what before."""

from __future__ import annotations

import pytest

import sadari


@pytest.mark.parametrize("name", sadari.__all__)
def test_each_public_name_is_there(name: str) -> None:
    assert callable(getattr(sadari, name))


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'sadari' has no attribute 'clamb'"):
        _ = sadari.clamb

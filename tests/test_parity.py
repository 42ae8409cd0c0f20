"""docs/parity.md says what the networks are: counted again, and each proof that it names is there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def _table() -> Any:
    spec = importlib.util.spec_from_file_location("table_of_parity", ROOT / "benchmarks" / "parity_table.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


TABLE = _table()
NETWORKS = TABLE.networks()


@pytest.mark.parametrize("row", NETWORKS, ids=lambda row: row.variant)
def test_ours_has_as_many_parameters_as_the_reference(row: Any) -> None:
    ours = TABLE.tensors(row)
    assert ours == TABLE.formula(row)
    theirs = TABLE.hugging(row)
    assert theirs in (None, ours)
    if row.torchvision:
        assert int(TABLE.measured()[row.torchvision]["their_parameters"]) == ours
    if row.paper and row.variant != "vit-l16":  # of which its paper says 307 M, and no code has them
        said = float(row.paper.removesuffix(" M"))
        digits = len(row.paper.partition(".")[2].removesuffix(" M"))
        assert abs(ours / 1e6 - said) < 1.02 * 10**-digits, "rounded, or cut off"
    assert theirs or row.torchvision or row.paper or row.variant.startswith("plain")


def test_every_network_that_has_a_name_elsewhere_stands_in_the_table() -> None:
    from sadari.models import alexnet, resnet, vgg, vit

    named = {row.variant for row in NETWORKS}
    ours = {"alexnet-64", "vgg11-64", "vit-32", "vit-64"}  # small ones of our own
    twins = {"plain18", "plain34"}  # of which the paper gives no number
    for module in (alexnet, resnet, vgg, vit):
        assert set(module.VARIANTS) - ours - twins <= named


@pytest.mark.parametrize(("lang", "name"), [("en", "parity.md"), ("ko", "parity.ko.md")])
def test_the_page_says_what_the_code_counts(lang: str, name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == TABLE.page(lang)


def test_every_proof_that_the_page_names_is_there() -> None:
    for place in {row.proof for row in NETWORKS} | {proof.test for proof in TABLE.PROOFS}:
        file, _, test = place.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), place


def test_logits_were_equal_when_they_were_measured() -> None:
    for row in TABLE.measured().values():
        assert float(row["gap"]) <= 1e-5 and float(row["spread"]) > 0.05, row

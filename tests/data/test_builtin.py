"""Built-in data: each table equals its source, the listing is true and instant."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sadari.data import fetch, toy
from sadari.data.builtin import BUILTIN, open_builtin
from sadari.errors import SadariError

AT_HAND = [name for name, entry in BUILTIN.items() if not entry.fetched and entry.kind == "table"]
SKLEARN = ["diabetes", "breast-cancer", "wine", "iris", "digits", "linnerud"]


@pytest.mark.parametrize("name", SKLEARN)
def test_bundled_tables_equal_what_scikit_learn_loads(name: str) -> None:
    from sklearn import datasets

    options = {"scaled": False} if name == "diabetes" else {}
    theirs = getattr(datasets, f"load_{name.replace('-', '_')}")(**options)
    ours, entry = open_builtin(name)
    names = [str(column) for column in theirs.feature_names]
    np.testing.assert_array_equal(ours.select(names).to_numpy(), theirs.data)
    target = theirs.target
    if name == "linnerud":
        target = target[:, theirs.target_names.index("Weight")]
    elif entry.task == "classify":
        target = theirs.target_names[target]
    np.testing.assert_array_equal(ours[entry.target].to_numpy(), target)


@pytest.mark.parametrize("name", AT_HAND)
def test_the_listing_tells_the_truth(name: str) -> None:
    frame, entry = open_builtin(name)
    assert frame.shape == (entry.rows, entry.columns + 1)
    assert entry.name == name and frame.columns[-1] == entry.target
    assert frame.null_count().sum_horizontal().item() == 0
    assert entry.how == ("comes with scikit-learn" if name in SKLEARN else "made on the spot")
    classes = frame[entry.target].n_unique()
    assert (classes <= 10) == (entry.task == "classify")


def test_mnist1d_keeps_the_authors_test_rows_last() -> None:
    frame, entry = open_builtin("mnist1d")
    assert entry.official_test == 1000 and frame.equals(toy.mnist1d())


def test_every_entry_says_how_to_get_it_in_both_languages() -> None:
    for name, entry in BUILTIN.items():
        assert entry.licence and entry.kind and entry.task, name
        assert not re.search("[가-힣]", entry.say("en")) and re.search("[가-힣]", entry.say("ko")), name
        if entry.fetched:
            assert entry.how == f"sadari data get {entry.source or name}"
    assert set(fetch.SOURCES) == {entry.source or name for name, entry in BUILTIN.items() if entry.fetched}


def test_listing_loads_no_heavy_package() -> None:
    code = (
        "import sys; from sadari.data.builtin import BUILTIN; [e.how for e in BUILTIN.values()]; "
        "print(sorted({'torch', 'sklearn', 'altair', 'scipy', 'rich'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_opening_a_bundled_table_does_not_import_scikit_learn() -> None:
    code = "import sys; from sadari.data.builtin import open_builtin; open_builtin('wine'); "
    code += "print('sklearn' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


def test_names_that_are_none_get_the_nearest() -> None:
    with pytest.raises(
        SadariError, match=r"no built-in data 'diabets'; near it: diabetes.*`sadari data` lists all"
    ):
        open_builtin("diabets")


def test_what_is_not_fetched_or_has_no_reader_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        SadariError,
        match=r"diamonds is not on this machine yet; fetch it \(15.9 MB\) with: sadari data get diamonds",
    ):
        open_builtin("diamonds", tmp_path)
    with pytest.raises(
        SadariError,
        match=r"easy-vqa holds dialogues, which no rung reads yet; .*: sadari data get easy-vqa",
    ):
        open_builtin("easy-vqa", tmp_path)


def test_diamonds_are_the_53940_of_ggplot2() -> None:
    try:
        fetch.cached("diamonds")
    except SadariError as error:
        if os.environ.get("CI") != "true":
            pytest.skip(str(error))
        fetch.get("diamonds")
    frame, entry = open_builtin("diamonds")
    assert frame.shape == (entry.rows, entry.columns + 1) and frame.columns[-1] == entry.target == "price"
    assert frame["price"].sum() == 212_135_217
    assert frame.row(0) == (0.23, "Ideal", "E", "SI2", 61.5, 55.0, 3.95, 3.98, 2.43, 326)
    assert frame["cut"].value_counts().sort("count")["cut"].to_list() == [
        "Fair",
        "Good",
        "Very Good",
        "Premium",
        "Ideal",
    ]
    assert frame.schema["carat"] == pl.Float64

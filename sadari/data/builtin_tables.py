"""Readers of built-in tables: the files that come with scikit-learn, and those of a fetched set.

Nothing here imports scikit-learn (1.5 s): its files are found in its folder and read by polars.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import polars as pl

from sadari.data import fetch
from sadari.errors import SadariError

_CELL = ["radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points"]
_CELL += ["symmetry", "fractal dimension"]
_WINE = ["alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids"]
_WINE += [
    "nonflavanoid_phenols",
    "proanthocyanins",
    "color_intensity",
    "hue",
    "od280/od315_of_diluted_wines",
    "proline",
]
_IRIS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]


def diabetes(_: Path | None) -> pl.DataFrame:
    """Measurements of patients as they were taken, and the progression."""
    names = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
    target = _numbers("diabetes_target.csv.gz", ["progression"])
    return _numbers("diabetes_data_raw.csv.gz", names, separator=" ").hstack(target)


def linnerud(_: Path | None) -> pl.DataFrame:
    """Three exercises, and the weight alone of the three measures of the body."""
    exercise = _numbers("linnerud_exercise.csv", ["Chins", "Situps", "Jumps"], separator=" ", skip=1)
    return exercise.hstack(
        _numbers("linnerud_physiological.csv", ["Weight", "Waist", "Pulse"], separator=" ", skip=1)[
            ["Weight"]
        ]
    )


def breast_cancer(_: Path | None) -> pl.DataFrame:
    """Ten measures of cells, each as mean, error and worst; the diagnosis by name."""
    names = (
        [f"mean {cell}" for cell in _CELL]
        + [f"{cell} error" for cell in _CELL]
        + [f"worst {cell}" for cell in _CELL]
    )
    return _named("breast_cancer.csv", names, "diagnosis", ["malignant", "benign"])


def wine(_: Path | None) -> pl.DataFrame:
    """Thirteen analyses, and the grower as class_0, class_1 or class_2."""
    return _named("wine_data.csv", _WINE, "cultivar", ["class_0", "class_1", "class_2"])


def iris(_: Path | None) -> pl.DataFrame:
    """Four lengths, and the species by name."""
    return _named("iris.csv", _IRIS, "species", ["setosa", "versicolor", "virginica"])


def digits(_: Path | None) -> pl.DataFrame:
    """64 pixels by row and column, and the digit."""
    frame = _numbers(
        "digits.csv.gz", [f"pixel_{row}_{column}" for row in range(8) for column in range(8)] + ["digit"]
    )
    return frame.with_columns(pl.col("digit").cast(pl.Int64))


def diamonds(cache: Path | None) -> pl.DataFrame:
    """The columns of ggplot2's set in their own order, without the row's number."""
    frame = pl.read_csv(fetch.cached("diamonds", cache) / "diamonds.csv")
    return frame.select("carat", "cut", "color", "clarity", "depth", "table", "x", "y", "z", "price")


def _bundled(file: str) -> Path:
    """A data file of the installed scikit-learn, found without importing it."""
    spec = importlib.util.find_spec("sklearn")
    folders = spec.submodule_search_locations if spec else None
    path = Path(next(iter(folders or ["sklearn"])), "datasets", "data", file)
    if not path.is_file():
        raise SadariError(
            f"scikit-learn's {file} is not installed; install it with: pip install scikit-learn"
        )
    return path


def _numbers(file: str, names: list[str], *, separator: str = ",", skip: int = 0) -> pl.DataFrame:
    """A headless file of numbers, as float64 columns called `names`; spaces in a row are separators too."""
    frame = pl.read_csv(
        _bundled(file), has_header=False, separator=separator, skip_rows=skip, new_columns=names
    )
    return frame.cast(pl.Float64)


def _named(file: str, names: list[str], target: str, classes: list[str]) -> pl.DataFrame:
    """A bundled table of a first line to skip, features, and a class number that becomes a name."""
    frame = _numbers(file, [*names, target], skip=1)
    return frame.with_columns(pl.Series(target, classes)[frame[target].cast(pl.Int64)])


BUNDLED = (diabetes, linnerud, breast_cancer, wine, iris, digits)
"""Those whose files come with scikit-learn."""

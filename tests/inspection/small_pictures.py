"""Small files of pictures for the looks at them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from sklearn.datasets import load_digits

HOSTILE = {0: "<script>", 1: 'it\'s "one" & </svg>', 2: "둘 {x} [0]"}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def digits(path: Path, labels: np.ndarray, count: int) -> str:
    """The first digits of scikit-learn as a Parquet file of PNG bytes, under the labels given."""
    pictures = (load_digits().images[:count] * 15.9).astype(np.uint8)
    frame = pl.DataFrame({"image": [png(one) for one in pictures], "label": labels[:count].astype(str)})
    frame.write_parquet(path)
    return str(path)


def shown(view: object) -> None:
    """Draw a view at both widths and languages; raise where Vega-Lite's schema, SVG or PNG cannot be."""
    from xml.etree import ElementTree

    from sadari import charts

    for lang, width in (("en", charts.WIDE), ("ko", charts.NARROW)):
        chart = charts.draw(view, lang, width)  # type: ignore[arg-type]
        chart.to_dict(validate=True)
        root = ElementTree.fromstring(charts.svg(chart))
        words = "".join(root.itertext())
        assert "NaN" not in words and "undefined" not in words and "{" not in words.replace("{x}", "")
        assert charts.png(chart, 1)[:4] == b"\x89PNG"

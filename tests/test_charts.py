"""Charts: every view drawn, safe with hostile names, readable without seeing, offline."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import struct
import xml.etree.ElementTree as ElementTree
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import vl_convert
from PIL import Image

from sadari import charts, fonts
from sadari.charts.brush import decades
from sadari.charts.drawings import DRAWINGS
from sadari.charts.maps import picture
from sadari.charts.numbers import tables
from sadari.charts.theme import (
    CLASSES,
    DATA,
    DEPTHS,
    OUTSIDE,
    RUNGS,
    SEQUENCE,
    TITLE,
    shorten,
    text_width,
    wrap,
)
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.inspection import VIEWS, look
from sadari.inspection.view import View
from sadari.runs import Run

HOSTILE = ("<script>alert(1)</script>", "a.b[0]['c']", "quote\" & \\ back's")
LOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "curve": ("line", {}),
    "residuals": ("line", {}),
    "weights": ("line", {}),
    "surface": ("line", {}),
    "learning-rate": ("line", {}),
    "regions": ("shallow", {}),
    "flexibility": ("shallow", {"steps": 30}),
    "gradients": ("deep", {"depths": (2, 5), "steps": 3, "width": 6}),
    "calibration": ("logistic", {}),
    "confusion": ("logistic", {}),
    "boundary": ("logistic", {}),
}
CLASSIFY = ("calibration", "confusion", "boundary")


@pytest.fixture(scope="session")
def hostile_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Runs on a table whose columns and classes are named by an enemy."""
    folder, draw = tmp_path_factory.mktemp("hostile"), np.random.default_rng(0)
    columns = {name: draw.normal(size=120) for name in HOSTILE}
    total = sum(columns.values())
    labels = np.where(total > 0.5, HOSTILE[0], np.where(total > -0.5, HOSTILE[1], HOSTILE[2]))
    regress = pl.DataFrame({**columns, "</title>{x}'": total + draw.normal(size=120)})
    classify = pl.DataFrame({**columns, "</title>{x}'": labels})
    regress.write_csv(folder / "r.csv")
    classify.write_csv(folder / "c.csv")
    return {
        rung: fit(
            rung,
            folder / f"{'c' if rung == 'logistic' else 'r'}.csv",
            out=folder / rung,
            budget="30steps",
            **more,
        )
        for rung, more in (
            ("line", {}),
            ("logistic", {}),
            ("shallow", {"model": {"width": 5}}),
            ("deep", {"model": {"width": 5}}),
        )
    }


@pytest.fixture(scope="session")
def views(hostile_runs: dict[str, Run]) -> dict[str, View]:
    return {name: look(hostile_runs[rung], name, **options) for name, (rung, options) in LOOKS.items()}


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(html: str) -> Page:
    page = Page()
    page.feed(html)
    return page


def test_every_view_has_a_drawing() -> None:
    assert set(DRAWINGS) == set(VIEWS)
    assert set(LOOKS) == {
        name for name, info in VIEWS.items() if "table" in info.kinds
    }  # others: their own tests
    with pytest.raises(SadariError, match="no drawing for a view 'sketch'; there are: curve"):
        charts.draw(View("sketch", ("", ""), ("", ""), ("", ""), {}), "en")


@pytest.mark.parametrize("lang", ["en", "ko"])
@pytest.mark.parametrize("name", LOOKS)
def test_drawn_from_hostile_names(views: dict[str, View], name: str, lang: Any) -> None:
    width = charts.WIDE if lang == "en" else charts.NARROW
    chart = charts.draw(views[name], lang, width)
    chart.to_dict(validate=True)
    root = ElementTree.fromstring(charts.svg(chart))  # well-formed
    assert root.get("role") == "img"
    title, description = root[0], root[1]
    assert title.tag.endswith("title") and description.tag.endswith("desc")
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert views[name].say("see", lang) in (description.text or "")
    assert (title.text or "").replace(" ", "") == views[name].say("title", lang).replace(" ", "")
    assert not [part for part in root.iter() if part.tag.endswith(("script", "foreignObject", "}a"))]
    assert len([part for part in root.iter() if part.tag.endswith(("path", "text", "image"))]) > 10
    words = "".join(root.itertext())
    assert "NaN" not in words and "undefined" not in words and "null" not in words
    assert name == "confusion" or float(root.get("width") or 0) == pytest.approx(width, abs=45)


@pytest.mark.parametrize("name", ["curve", "weights", "confusion"])
def test_names_come_out_as_they_are(views: dict[str, View], name: str) -> None:
    drawing = charts.svg(charts.draw(views[name], "en"))
    texts = [part.text for part in ElementTree.fromstring(drawing).iter() if part.tag.endswith("text")]
    wanted = {
        "curve": [views["curve"].facts["feature"]],
        "weights": HOSTILE,
        "confusion": views["confusion"].facts["classes"],
    }
    for label in wanted[name]:
        assert shorten(label, 110) in texts or shorten(label, 190) in texts, texts


@pytest.fixture(scope="session")
def saved(views: dict[str, View], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every view as picture, page and numbers, in Korean."""
    folder = tmp_path_factory.mktemp("looks")
    for name, view in views.items():
        paths = charts.save(view, folder / "new", "ko")
        assert [path.name for path in paths] == [f"{name}.png", f"{name}.html", f"{name}.json"]
    return folder / "new"


@pytest.mark.parametrize("name", LOOKS)
def test_a_page_loads_nothing_and_can_be_read_without_seeing(
    views: dict[str, View], saved: Path, name: str
) -> None:
    view, html = views[name], (saved / f"{name}.html").read_text(encoding="utf-8")
    page = read(html)
    assert 'lang="ko"' in html[:60] and '<meta charset="utf-8">' in html
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "img", "use"}
    for tag, attributes in page.tags:
        for key in ("src", "href", "xlink:href", "action", "style"):
            assert "http" not in (attributes.get(key) or ""), (tag, attributes)
        assert not [key for key in attributes if key.startswith("on")]
    assert not re.search(r"url\((?!#)|@import", html)
    assert len([tag for tag, _ in page.tags if tag == "svg"]) == 2  # for wide and for narrow screens
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)
    words = " ".join(page.words)
    for part in ("title", "caption", "see"):
        assert view.say(part, "ko") in words
    assert "details" in names and "table" in names
    assert len(html) < 600_000


@pytest.mark.parametrize("name", LOOKS)
def test_a_picture_has_ink_on_a_light_ground_and_the_numbers_come_back(
    views: dict[str, View], saved: Path, name: str
) -> None:
    image = Image.open(saved / f"{name}.png").convert("L")
    assert name == "confusion" or image.width == pytest.approx(2 * charts.WIDE, abs=60)
    pixels = np.asarray(image)
    assert (pixels < 120).sum() > 2000 and (pixels > 250).mean() > 0.1
    again = View.from_json(json.loads((saved / f"{name}.json").read_text(encoding="utf-8")))
    assert again.title == views[name].title
    for key, array in views[name].arrays.items():
        np.testing.assert_array_equal(again.arrays[key], array)


def test_the_table_holds_the_numbers(views: dict[str, View]) -> None:
    view = views["weights"]
    cells = [unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", tables(view, "en"))]
    assert cells[::2] == view.facts["names"]
    assert [float(cell) for cell in cells[1::2]] == pytest.approx(view.arrays["weight"].tolist(), rel=1e-2)
    long = View("curve", ("t", "t"), ("c", "c"), ("s", "s"), {"x": np.arange(500.0)}, {})
    assert tables(long, "en").count("<tr>") == 201 and "The first 200 of 500 rows" in tables(long, "en")


def test_saving_where_a_file_is_in_the_way_is_refused(views: dict[str, View], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(SadariError, match="taken is a file; give a folder"):
        charts.save(views["weights"], tmp_path / "taken", "en")


def test_korean_pictures_hold_no_missing_glyph(
    views: dict[str, View], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Titles of different missing glyphs are the same row of boxes; those of different syllables are not."""
    view = views["weights"]

    def top(title: str) -> np.ndarray:
        named = View(view.name, (title, title), view.caption, view.see, view.arrays, view.facts)
        image = Image.open(io.BytesIO(charts.png(charts.draw(named, "ko"), scale=1)))
        return np.asarray(image.convert("L"))[:30]

    boxes = top(fonts.UNASSIGNED * 6)
    assert (boxes < 128).any() and np.array_equal(boxes, top("\u0379" * 6))
    syllables = [top(syllable * 6) for syllable in "한글단"]
    for one, other in itertools.combinations([boxes, *syllables], 2):
        assert one.shape != other.shape or (one != other).sum() > 200
    monkeypatch.setattr(fonts, "FAMILIES", ())
    fonts.hangul_family.cache_clear()
    try:
        with pytest.raises(SadariError, match="no font with Hangul"):
            charts.png(charts.draw(view, "ko"))
    finally:
        fonts.hangul_family.cache_clear()


def test_constant_predictions_and_classes_without_rows_are_drawn(tmp_path: Path) -> None:
    mean = fit("mean", "diabetes", out=tmp_path / "mean")
    prior = fit("prior", "wine", out=tmp_path / "prior")
    drawn = [(mean, "residuals"), (mean, "curve"), *((prior, name) for name in CLASSIFY)]
    for run, name in drawn:
        assert "<svg" in charts.svg(charts.draw(look(run, name), "ko"))


# ---------------------------------------------------------------------- the theme


def _seen(colour: str, matrix: np.ndarray) -> np.ndarray:
    """A colour in CIE Lab, after a simulation of colour blindness on linear RGB."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(matrix @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(xyz / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira & Fernandes 2009, full severity
EYES = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


@pytest.mark.parametrize("eyes", EYES)
def test_rungs_stay_apart_for_every_eye(eyes: str) -> None:
    colours = [*dict.fromkeys(RUNGS.values()), OUTSIDE]
    for i, one in enumerate(colours):
        for other in colours[:i]:
            distance = np.linalg.norm(_seen(one, EYES[eyes]) - _seen(other, EYES[eyes]))
            assert distance > 12, (one, other, distance)


def _contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        return float(((_seen(colour, np.eye(3))[0] + 16) / 116) ** 3)

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_lines_stand_out_from_the_ground_and_a_scale_grows_darker() -> None:
    assert all(_contrast(colour, "#ffffff") >= 3 for colour in {*RUNGS.values(), OUTSIDE})
    assert all(_contrast(colour, "#ffffff") >= 2.3 for colour in (*CLASSES, DATA))
    for scale in (SEQUENCE, DEPTHS):
        light = [_seen(colour, np.eye(3))[0] for colour in scale]
        assert (np.diff(light) < 0).all()


@pytest.mark.parametrize(
    "text", ["가나다라 마바사 아자차카", "one long title with many words in it", "x" * 200, ""]
)
def test_wrapped_lines_fit_and_lose_nothing(text: str) -> None:
    lines = wrap(text, 120, 13)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(text_width(line, 13) <= 120 for line in lines)
    assert text_width(shorten(text, 80), 12) <= 80


def test_the_estimate_of_text_width_is_near_what_is_drawn() -> None:
    for text in (
        "사다리 한 단씩 올라가기",
        "The loss after some steps at each rate",
        "color_intensity 0.1234",
    ):
        family = fonts.hangul_family()
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" width="600" height="40"><text x="0" y="28" '
            f'font-size="{TITLE}" font-family="{family}">{text}</text></svg>'
        )
        ink = np.asarray(Image.open(io.BytesIO(vl_convert.svg_to_png(svg))))[..., 3]
        drawn = int(np.flatnonzero(ink.any(0))[-1]) + 1
        assert drawn <= text_width(text, TITLE) * 1.03
        assert drawn >= text_width(text, TITLE) * 0.8


def test_powers_of_ten_are_labelled() -> None:
    axis = decades(1e-3, 10)
    assert axis["values"] == pytest.approx([0.001, 0.01, 0.1, 1, 10])
    assert "'0.001','0.01','0.1','1','10'" in axis["labelExpr"]
    assert "'1e−12'" in decades(1e-12, 1)["labelExpr"] and len(decades(1e-12, 1)["values"]) <= 6
    assert "values" not in decades(0.2, 0.9)


def test_a_picture_of_cells_is_a_png_with_those_cells() -> None:
    levels = np.array([[0, 1], [2, 0], [1, 1]])
    url = picture(levels, ["#000000", "#ff0000", "#0000ff"])
    content = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    assert struct.unpack(">II", content[16:24]) == (2, 3)
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert pixels[2, 0].tolist() == [0, 0, 0] and pixels[2, 1].tolist() == [
        255,
        0,
        0,
    ]  # row 0 is at the bottom
    assert pixels[1, 0].tolist() == [0, 0, 255] and pixels[0, 0].tolist() == [255, 0, 0]

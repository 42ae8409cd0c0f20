"""Pictures in the report of pictures: some of each class as the rungs see them, and the surest mistakes.

They are part of the page, as all else: small ones as PNG, which keeps every pixel, larger ones as JPEG.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sadari.metrics.match import CUTS
from sadari.report.html import section, tag
from sadari.report.tables import table
from sadari.report.words import Words

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from sadari.data.prepare import Prepared

SIDE = 96  # pixels of a side, at most: what is shown at 64 is sharp on a fine screen too
SMALL = 48  # pixels of a side up to which every pixel is kept, and shown as a square
QUALITY = 88


def thumbnails(prepared: Prepared, content: Mapping[str, Any]) -> dict[tuple[str, int], str]:
    """The pictures that climb.json names, as data URIs: by `shown`, `mistakes` or `found`, and row."""
    parts: dict[str, Any] = {"shown": prepared.train, "mistakes": prepared.test, "found": prepared.test}
    named = dict(content.get("pictures") or {})
    if retrieved := content.get("retrieval"):
        named["found"] = [one for query in retrieved["queries"] for one in query["found"]]
    return {
        (kind, one["row"]): _uri(part.features[one["row"]])
        for kind, part in parts.items()
        for one in named.get(kind, ())
    }


def retrieval(content: Mapping[str, Any], words: Words, drawn: Mapping[tuple[str, int], str]) -> str:
    """Recalls by way and language, and the pictures that captions find; empty for other data."""
    retrieved, data = content.get("retrieval"), content["data"]
    if not retrieved:
        return ""
    first = next(iter(retrieved["rungs"].values()))
    tables = []
    for language in first:
        rows = {name: _recalls(told[language], words) for name, told in retrieved["rungs"].items()}
        heads = [words(f"recall {way}", cut=cut) for way in ("text", "image") for cut in CUTS]
        spoken = words(f"language {language}") if language in ("en", "ko") else language
        title = words("captions in", language=spoken) if language else words("all captions")
        tables.append(tag("h3", title) + table([*heads, words("median rank")], rows, content, words))
    cards = []
    for query in retrieved["queries"]:
        images = [
            _image(drawn, "found", one, str(one["name"]), data, "right" if one["right"] else "")
            for one in query["found"]
        ]
        cards.append(tag("figure", tag("div", *images), tag("figcaption", escape(query["text"]))))
    lead = words("found lead", rung=content["verdict"]["rung"], shown=len(cards))
    shown = tag("h3", words("found")) + tag("p", lead, cls="under") + tag("div", *cards, cls="strip")
    return section(words("retrieval"), tag("p", words("retrieval lead"), cls="under"), *tables, shown)


def _recalls(told: Mapping[str, float], words: Words) -> list[str]:
    """The cells of one rung: percent, and a rank."""
    ways = [f"{way}-recall@{cut}" for way in ("text-to-image", "image-to-text") for cut in CUTS]
    return [f"{100 * told[name]:.1f}%" for name in ways] + [f"{told['median-rank']:,.0f}"]


def strip(content: Mapping[str, Any], words: Words, drawn: Mapping[tuple[str, int], str]) -> str:
    """Some of the training pictures by class, and how they were read; empty for other data."""
    pictures, data = content.get("pictures"), content["data"]
    if not pictures:
        return ""
    cards = []
    for label, several in groupby(pictures["shown"], key=itemgetter("class")):
        images = [_image(drawn, "shown", one, f"{one['class']}: {one['name']}", data) for one in several]
        cards.append(tag("figure", tag("div", *images), tag("figcaption", escape(label))))
    left = len(data["classes"]) - len(cards)
    key = "strip of many" if left > 0 else "strip"
    said = words(key, reading=reading(data, words), shown=len(cards), classes=len(data["classes"]))
    return tag("div", *cards, cls="strip") + tag("p", said, cls="under")


def mistakes(content: Mapping[str, Any], words: Words, drawn: Mapping[tuple[str, int], str]) -> str:
    """Test pictures that the rung of the verdict got wrong, the surest first; empty where there are none."""
    pictures, data = content.get("pictures"), content["data"]
    if not pictures or not pictures["mistakes"]:
        return ""
    rung, cards = content["verdict"]["rung"], []
    for one in pictures["mistakes"]:
        said = words("said", answer=one["said"], share=f"{100 * one['share']:.0f}%")
        truth = words("truth is", label=one["class"])
        cards.append(
            tag(
                "figure",
                tag("div", _image(drawn, "mistakes", one, f"{said}; {truth}", data)),
                tag("figcaption", tag("b", said), "<br>", truth, tag("small", _others(one["right"], words))),
                title=str(one["name"]),
            )
        )
    lead = words(
        "mistakes lead", rung=rung, wrong=pictures["wrong"], test=data["split"]["test"], shown=len(cards)
    )
    return section(words("mistakes"), tag("p", lead, cls="under"), tag("div", *cards, cls="strip wide"))


def reading(data: Mapping[str, Any], words: Words) -> str:
    """How pictures were read, in a few words: their size, whether that is the files' own, and their fit."""
    width, height = data["middle"]
    said = words("reading", size=data["size"], colours=words("grey" if data["channels"] == 1 else "colour"))
    if (width, height) != (data["size"], data["size"]):
        said += words("files", width=width, height=height)
    return said + ("" if data["square"] else words(f"fit {data['fit']}"))


def _others(right: Sequence[str], words: Words) -> str:
    """Which rungs know better."""
    if not right:
        return words("nobody")
    return words("others", rungs=", ".join(right))


def _image(
    drawn: Mapping[tuple[str, int], str],
    kind: str,
    one: Mapping[str, Any],
    alt: str,
    data: Mapping[str, Any],
    mark: str = "",
) -> str:
    source = drawn.get((kind, one["row"]), "")
    small = "pixels" if data["size"] <= SMALL else ""
    name = str(one["name"])
    return tag("img", src=source, alt=alt, title=name, cls=f"{small} {mark}".strip()).removesuffix("</img>")


def _uri(pixels: UInt8[np.ndarray, "H W C"]) -> str:
    """A picture as a data URI."""
    import numpy as np
    from PIL import Image

    flat = np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image, file = Image.fromarray(flat), io.BytesIO()
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    kind = "png" if max(image.size) <= SMALL else "jpeg"
    if kind == "png":
        image.save(file, "PNG", optimize=True)
    else:
        image.save(file, "JPEG", quality=QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"

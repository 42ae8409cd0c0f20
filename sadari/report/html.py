"""HTML from small parts: a tag, a section, a figure, a list of facts. What comes from outside passes `escape`
first.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape


def tag(name: str, *inner: str, **attributes: str) -> str:
    """`<name attributes>inner</name>`; `inner` is HTML already, attribute values are escaped. `cls` stands
    for class.
    """
    given = {("class" if key == "cls" else key.replace("_", "-")): value for key, value in attributes.items()}
    said = "".join(f' {key}="{escape(value)}"' for key, value in given.items() if value)
    return f"<{name}{said}>{''.join(inner)}</{name}>"


def section(title: str, *body: str) -> str:
    """A part of the page under its heading."""
    return tag("section", "\n", tag("h2", title), "\n", "\n".join(filter(None, body)), "\n")


def figure(title: str, picture: str, caption: str, lead: str = "") -> str:
    """A picture under its title and what it says, with how to read it below."""
    said = tag("p", lead) if lead else ""
    return tag("figure", tag("h3", title), said, picture, tag("figcaption", caption))


def facts(said: Mapping[str, str]) -> str:
    """Names with what is said of each; empty ones are left out."""
    return tag("dl", *(tag("dt", name) + tag("dd", value) for name, value in said.items() if value))

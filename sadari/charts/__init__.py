"""Charts of views: one theme; as picture, page and JSON; nothing is fetched to draw or to read them.

chart = draw(view, "ko")            an altair chart
svg(chart)                          inline SVG with a text alternative, for a page
figure(view, "ko")                  heading, picture for wide and narrow screens, what to see, the numbers as
a table save(view, Path("looks"), "ko")     NAME.png, NAME.html, NAME.json
save_table(view, Path("list.csv"))  its numbers alone
"""

from sadari.charts.drawings import draw
from sadari.charts.page import STYLE, figure, page, png, save, save_table, svg
from sadari.charts.theme import NARROW, OUTSIDE, RUNGS, WIDE, colour, config, heading, table

__all__ = [
    "NARROW",
    "OUTSIDE",
    "RUNGS",
    "STYLE",
    "WIDE",
    "colour",
    "config",
    "draw",
    "figure",
    "heading",
    "page",
    "png",
    "save",
    "save_table",
    "svg",
    "table",
]

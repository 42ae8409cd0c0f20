"""From a view to its chart: one drawing function a view. They read arrays and facts, and decide nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt

from sadari.charts import (
    alignment,
    attention,
    features,
    filters,
    following,
    lengths,
    lines,
    losses,
    maps,
    memory,
    patches,
    prompts,
    receptive_field,
    scores,
    shapes,
    sheets,
    similarity,
    space,
    speed,
    tree,
    trials,
    where,
    words,
)
from sadari.charts.brush import Brush
from sadari.charts.theme import WIDE, config, heading
from sadari.errors import SadariError
from sadari.inspection.view import View
from sadari.lang import Lang

DRAWINGS: dict[str, Callable[[Brush], alt.TopLevelMixin]] = {
    "curve": lines.curve,
    "residuals": scores.residuals,
    "calibration": scores.calibration,
    "confusion": scores.confusion,
    "boundary": maps.boundary,
    "weights": maps.weights,
    "surface": maps.surface,
    "learning-rate": lines.learning_rate,
    "regions": lines.regions,
    "flexibility": lines.flexibility,
    "gradients": lines.gradients,
    "memory": memory.memory,
    "gates": memory.gates,
    "attention": attention.attention,
    "speed": speed.speed,
    "words": words.words,
    "following": following.following,
    "alignment": alignment.alignment,
    "bottleneck": lengths.bottleneck,
    "forcing": lengths.forcing,
    "beam": tree.beam,
    "receptive-field": receptive_field.receptive_field,
    "shapes": shapes.shapes,
    "filters": filters.filters,
    "features": features.features,
    "where": where.where,
    "mistakes": sheets.mistakes,
    "depth": trials.depth,
    "transfer": trials.transfer,
    "rate": trials.rate,
    "similarity": similarity.similarity,
    "space": space.space,
    "losses": losses.losses,
    "patches": patches.patches,
    "prompts": prompts.prompts,
    "augment": sheets.augment,
}


def draw(view: View, lang: Lang, width: int = WIDE, titled: bool = True) -> alt.TopLevelMixin:
    """The chart of a view, `width` pixels wide; titled, or bare for a page that says its title itself.

    Raises SadariError for a view that no drawing is known for.
    """
    if view.name not in DRAWINGS:
        raise SadariError(f"no drawing for a view {view.name!r}; there are: {', '.join(DRAWINGS)}")
    chart = DRAWINGS[view.name](Brush(view, lang, width))
    words: dict[str, Any] = {
        "name": view.name,
        "description": f"{view.say('title', lang)}. {view.say('see', lang)}",
    }
    if titled:
        words["title"] = heading(view.say("title", lang), view.say("caption", lang), width)
    if isinstance(
        chart, alt.Chart | alt.LayerChart
    ):  # charts of several panels have reckoned their widths themselves
        words |= {"width": width, "autosize": alt.AutoSizeParams(type="fit-x", contains="padding")}
    return chart.properties(**words).configure(**config(width))

"""What a table's spec does to raw columns, as ONNX nodes: the same arithmetic in the same precision.

All numbers go through one block of nodes, since a runtime pays for each node; one Gather at the end puts the
features in the spec's order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sadari.data.columns import TURN, WEEK_DAYS, YEAR_DAYS, ColumnSpec
from sadari.data.readings import FALSE, MISSING, TRUE
from sadari.data.spec import TableSpec
from sadari.export.graph import Graph

NO_DATE = np.iinfo(np.int64).min
_DAY = 86_400_000_000  # microseconds

INPUTS = {
    "number": "double, 1 and 0 for true and false; NaN where it is missing",
    "boolean": 'string, "yes" or "no" (or true and false, y and n, t and f); "" where it is missing',
    "category": 'string without space around it; "" where it is missing; any text is allowed',
    "date": f"int64, microseconds since 1970-01-01 00:00 UTC; {NO_DATE} where it is missing",
}


def encode(graph: Graph, spec: TableSpec) -> str:
    """Add one input a column and the nodes that encode it; returns the features, float (N, C)."""
    numbers = [column for column in spec.columns if column.kind in ("number", "boolean")]
    kinds = {"number": "double", "boolean": "string", "category": "string", "date": "int64"}
    for column in spec.columns:  # inputs stand in the file's order
        graph.input(column.name, kinds[column.kind])
    made: list[
        tuple[str, list[tuple[str, int]]]
    ] = []  # a value (N, k), and which feature of which column each is
    if numbers:
        made += _numbers(graph, numbers)
    for column in spec.columns:
        if column.kind == "category":
            made.append((_category(graph, column), _places(column)))
        elif column.kind == "date":
            made.append((_date(graph, column), _places(column)))
    features = _joined(graph, [value for value, _ in made])
    found = [place for _, places in made for place in places]
    order = [found.index(place) for column in spec.columns for place in _places(column)]
    if order == list(range(len(order))):
        return features
    return graph.add("Gather", features, graph.constant(np.array(order, np.int64)), axis=1)


def decode(graph: Graph, spec: TableSpec, output: str) -> dict[str, str]:
    """Make the outputs from what the loss predicts: float (N,) in model space, or probabilities (N, classes).

    Returns the outputs' names with what each is.
    """
    if spec.classes is None:
        own = graph.add("Mul", graph.cast(output, "double"), graph.constant(np.array(spec.target_scale)))
        own = graph.add("Add", own, graph.constant(np.array(spec.target_center)))
        if spec.log_target:
            own = graph.add("Sub", graph.add("Exp", own), graph.constant(np.array(1.0)))
        own = graph.add("Reshape", own, graph.constant(np.array([-1, 1])))
        return {
            graph.output(
                "prediction", own, "double", ["N", 1]
            ): f"double [N, 1], {spec.target} in its own units"
        }
    best = graph.add("ArgMax", output, axis=1, keepdims=0)
    label = graph.add("Gather", graph.constant(spec.classes), best)
    shape: list[str | int] = ["N", len(spec.classes)]
    return {
        graph.output("label", label, "string", ["N"]): f"string [N], the most probable {spec.target}",
        graph.output(
            "probabilities", output, "float", shape
        ): f"float [N, {len(spec.classes)}], one column a class",
    }


def _places(column: ColumnSpec) -> list[tuple[str, int]]:
    return [(column.name, k) for k in range(len(column.features))]


def _joined(graph: Graph, values: Sequence[str]) -> str:
    return graph.add("Concat", *values, axis=1) if len(values) > 1 else values[0]


def _numbers(graph: Graph, columns: Sequence[ColumnSpec]) -> list[tuple[str, list[tuple[str, int]]]]:
    """All numbers standardised, a gap or infinity becoming 0; then a 0/1 feature for each that had gaps."""
    raw = _joined(
        graph, [_boolean(graph, c.name) if c.kind == "boolean" else c.name for c in columns]
    )  # (N, n)
    greatest = graph.constant(np.array(np.finfo(np.float64).max))
    given = graph.add("LessOrEqual", graph.add("Abs", raw), greatest)  # false for NaN and for infinity
    centers = graph.constant(np.array([[column.center for column in columns]]))
    scales = graph.constant(np.array([[column.scale for column in columns]]))
    value = graph.cast(graph.add("Div", graph.add("Sub", raw, centers), scales), "float")
    value = graph.add("Where", given, value, graph.constant(np.array([0], np.float32)))
    made = [(value, [(column.name, 0) for column in columns])]
    with_gaps = [k for k, column in enumerate(columns) if column.missing]
    if with_gaps:
        gaps = graph.cast(graph.add("Not", given), "float")
        if len(with_gaps) < len(columns):
            gaps = graph.add("Gather", gaps, graph.constant(np.array(with_gaps, np.int64)), axis=1)
        made.append((gaps, [(columns[k].name, 1) for k in with_gaps]))
    return made


def _boolean(graph: Graph, name: str) -> str:
    """Words of yes and no to 1 and 0, all else to NaN."""
    meaning = dict.fromkeys(TRUE, 1.0) | dict.fromkeys(FALSE, 0.0)
    words = {
        form: value for word, value in meaning.items() for form in (word, word.upper(), word.capitalize())
    }
    value = graph.add(
        "LabelEncoder", name, domain="ai.onnx.ml",
        keys_strings=list(words), values_floats=list(words.values()), default_float=float("nan"),
    )  # fmt: skip
    return graph.cast(value, "double")


def _category(graph: Graph, column: ColumnSpec) -> str:
    """Text to its place among the column's features, then one-hot; what has no place is 0 in all of them."""
    size, known = len(column.features), len(column.categories)
    gap = size - 1 if column.missing or column.rare else size
    keys = [*column.categories, *(mark for mark in MISSING if mark not in column.categories)]
    places = [*range(known), *[gap] * (len(keys) - known)]
    place = graph.add(
        "LabelEncoder", column.name, domain="ai.onnx.ml",
        keys_strings=keys, values_int64s=places, default_int64=known if column.rare else size,
    )  # fmt: skip
    place = graph.add("Reshape", place, graph.constant(np.array([-1])))
    depth = graph.constant(np.array(size))  # OneHot gives 0 everywhere for a place that is not below it
    return graph.add("OneHot", place, depth, graph.constant(np.array([0, 1], np.float32)), axis=-1)


def _date(graph: Graph, column: ColumnSpec) -> str:
    """Days since 1970 standardised, sine and cosine of the turns of year, week and day; a gap is 0 in all."""
    missing = graph.add("Equal", column.name, graph.constant(np.array([NO_DATE])))
    days = graph.add("Div", graph.cast(column.name, "double"), graph.constant(np.array(float(_DAY))))
    parts = [graph.add("Sub", days, graph.constant(np.array(column.center)))]
    parts = [graph.add("Div", parts[0], graph.constant(np.array(column.scale)))]
    whole = graph.add("Floor", days)
    weekday = whole if column.clock else days
    turns = [
        graph.add("Div", days, graph.constant(np.array(YEAR_DAYS))),
        graph.add("Div", weekday, graph.constant(np.array(WEEK_DAYS))),
        *([graph.add("Sub", days, whole)] if column.clock else []),
    ]
    for turn in turns:
        angle = graph.add("Mul", turn, graph.constant(np.array(TURN)))
        parts += [graph.add("Sin", angle), graph.add("Cos", angle)]
    values = graph.cast(_joined(graph, parts), "float")
    values = graph.add("Where", missing, graph.constant(np.array([0], np.float32)), values)
    return _joined(graph, [values, *([graph.cast(missing, "float")] if column.missing else [])])

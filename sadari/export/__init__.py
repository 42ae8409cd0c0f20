"""Ship a run in formats that need nothing of ours: ONNX, preprocessing inside, or one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch

from sadari.errors import SadariError
from sadari.files import write_atomic
from sadari.runs import Run

if TYPE_CHECKING:
    import onnx

FORMATS = {"onnx": "model.onnx", "safetensors": "model.safetensors"}


def export(run: Run, to: str = "onnx", path: str | Path | None = None) -> Path:
    """Write the run as `to` and return the file; `path` is a file or a folder, by default the run's own.

    onnx         raw columns in, predictions out, preprocessing included; its doc string says how to use it
    safetensors  the weights under the model's own names, with config and spec as JSON in the file's metadata
    Raises SadariError for an unknown format, a missing package, or a file that cannot be written.
    """
    if to not in FORMATS:
        raise SadariError(f"--to {to!r} is no format; choose one of: {', '.join(FORMATS)}")
    path = Path(path) if path is not None else run.path
    if path.is_dir() or not path.suffix:
        path = path / FORMATS[to]
    content = onnx_model(run).SerializeToString() if to == "onnx" else _safetensors(run)
    write_atomic(path, content)
    return path


def onnx_model(run: Run) -> onnx.ModelProto:
    """The run as a checked ONNX model. Raises SadariError when the package `onnx` is not installed."""
    try:
        import onnx
    except ImportError as error:
        raise SadariError(
            "the export needs the package onnx; install it with: pip install 'sadari[onnx]'"
        ) from error
    from sadari.export import network, preprocess
    from sadari.export.graph import Graph

    graph = Graph()
    features = preprocess.encode(graph, run.spec)
    output = network.convert(graph, run.model, run.loss, features)
    outputs = preprocess.decode(graph, run.spec, output)
    model = graph.model(f"sadari {run.rung}", explain(run, outputs))
    facts = {
        "rung": run.rung,
        "task": run.config["task"],
        "target": run.spec.target,
        "classes": run.spec.classes,
        "data": {key: run.config["data"][key] for key in ("name", "fingerprint", "rows")},
        "versions": run.config["versions"],
    }
    onnx.helper.set_model_props(model, {key: _text(value) for key, value in facts.items()})
    onnx.checker.check_model(model, full_check=True)
    return model


def explain(run: Run, outputs: dict[str, str]) -> str:
    """How to use the exported file, in plain words: it is all that a reader who finds the file has."""
    from sadari.export.preprocess import INPUTS

    spec = run.spec
    lines = [
        f"Predicts {spec.target} with a Sadari run: rung {run.rung}, task {run.config['task']}, trained on "
        f"{run.config['data']['name']}.",
        "",
        "Inputs, one a raw column, each of shape [N, 1]; nothing is to be scaled or encoded first:",
        *(f"- {column.name}: {INPUTS[column.kind]}" for column in spec.columns),
        "",
        "Outputs:",
        *(f"- {name}: {words}" for name, words in outputs.items()),
    ]
    if spec.classes:
        lines += ["", f"Classes, in the order of the probabilities: {', '.join(spec.classes)}"]
    return "\n".join(lines)


def _safetensors(run: Run) -> bytes:
    """Weights, and what is needed to understand them, in one file that cannot run code."""
    weights = {name: tensor.detach().contiguous() for name, tensor in run.model.state_dict().items()}
    about = {"format": "pt", "config": _text(run.config), "spec": _text(run.spec.to_json())}
    return safetensors.torch.save(weights, about)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

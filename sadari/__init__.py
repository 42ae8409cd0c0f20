"""Sadari: climb from a straight line to deep networks on your own data, and learn how far up is worth it.

climb = sadari.climb("diabetes")     # every rung of the ladder, one verdict
run = sadari.fit("line", "diabetes")
run = sadari.load("runs/diabetes-line")
run.predict(rows); run.look("weights"); run.export("onnx")
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["SadariError", "climb", "embed", "fit", "load"]

_HOMES = {
    "climb": "sadari.climbing",
    "embed": "sadari.embedding",
    "fit": "sadari.fitting",
    "load": "sadari.runs",
    "SadariError": "sadari.errors",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import sadari` alone must not cost the import of torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sadari' has no attribute {name!r}")
    import importlib

    module = importlib.import_module(_HOMES[name])
    return module.Run.load if name == "load" else getattr(module, name)

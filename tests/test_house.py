"""The house's rules, read from its source: imports point one way, data meets no tensor, nothing pickles."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import sadari

ROOT = Path(sadari.__file__).parent

# Low to high: a module imports from its own floor or from those below. What is imported inside a function
# (a facade such as `run.look`, or a slow library) is not counted.
FLOORS = (
    "errors lang budget files describe fonts heap",
    "ladder losses data vectors",
    "layers picture pretrained pretrained_foreign pretrained_images pretrained_match reference marian bleu",
    "models index",
    "augment randaugment tasks tasks_pairs tasks_images tasks_match batches_captions batches_stream methods "
    "scoring sentences metrics",
    "optim batches batches_pairs best borrowed checkpoint decode search loop probe rates train progress "
    "trackers plan runs teaching",
    "fitting verdict price embedding",
    "inspection charts judge judge_text sizes tune export predict indexing translate engines "
    "engines_pictures",
    "climbing report",
    "cli",
    "__init__ __main__",
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    """The first part of a module's name under sadari: `sadari/data/spec.py` lives in `data`."""
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imports(path: Path, everywhere: bool = False) -> Iterator[str]:
    """Dotted names that a module imports at its top, or anywhere in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""
            if node.module == "sadari":
                yield from (f"sadari.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    assert room(path) in FLOOR, f"{room(path)} has no floor yet: give it one in FLOORS"
    above = [
        name
        for name in imports(path)
        if name.startswith("sadari.") and FLOOR[name.split(".")[1]] > FLOOR[room(path)]
    ]
    assert not above, f"{path.relative_to(ROOT)} stands below {above}"


def test_data_and_models_meet_only_above_both() -> None:
    for path in modules():
        names = list(imports(path, everywhere=True))
        if room(path) == "data":
            assert not [name for name in names if name.split(".")[0] == "torch"], path
        if room(path) in ("models", "layers"):
            assert not [name for name in names if name.startswith("sadari.data")], path


def test_nothing_is_ever_pickled() -> None:
    forbidden = {"pickle", "cloudpickle", "dill", "shelve", "marshal"}
    for path in modules():
        assert not forbidden & {name.split(".")[0] for name in imports(path, everywhere=True)}, path
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])torch\.(load|save)\(", source), path


def test_every_module_and_public_function_has_a_docstring() -> None:
    missing = []
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree):
            missing.append(str(path))
        for node in tree.body:
            if (
                isinstance(node, ast.FunctionDef | ast.ClassDef)
                and not node.name.startswith("_")
                and not ast.get_docstring(node)
            ):
                missing.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert not missing


def test_importing_sadari_imports_no_heavy_library() -> None:
    import subprocess
    import sys

    heavy = "{'torch', 'sklearn', 'polars', 'altair', 'optuna'}"
    code = f"import sadari, sadari.ladder, sys; print(sorted({heavy} & set(sys.modules)))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"

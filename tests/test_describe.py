"""Reading a config's source must tell what importing it tells."""

from __future__ import annotations

import importlib
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import pytest

from sadari import describe
from sadari.describe import Field, docstring_of, fields_of
from sadari.ladder import LADDERS

CONFIGS = {(rung.module, rung.config_name) for ladder in LADDERS for rung in ladder.here}
CONFIGS |= {("sadari.train", "TrainConfig")}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a module of a house of the test's own; returns its dotted name."""
    monkeypatch.setattr(describe, "_ROOT", tmp_path)
    fields_of.cache_clear()

    def write(source: str, name: str = "settings") -> str:
        (tmp_path / f"{name}.py").write_text(source)
        return name

    yield write
    fields_of.cache_clear()


@pytest.mark.parametrize(("module_name", "name"), sorted(CONFIGS))
def test_source_tells_what_the_dataclass_is(module_name: str, name: str) -> None:
    config = getattr(importlib.import_module(module_name), name)
    types = typing.get_type_hints(config)
    read = fields_of(module_name, name)
    assert [(f.name, f.type, f.default) for f in read] == [
        (f.name, types[f.name], f.default) for f in fields(config)
    ]


@pytest.mark.parametrize(("module_name", "name"), sorted(CONFIGS))
def test_every_setting_is_explained_in_a_sentence(module_name: str, name: str) -> None:
    for field in fields_of(module_name, name):
        assert field.help.endswith("."), f"{name}.{field.name} has no sentence under it"


def test_a_rung_reads_its_settings_from_the_config_that_its_name_says() -> None:
    for ladder in LADDERS:
        for rung in ladder.here:
            assert rung.load().Config.__name__ == rung.config_name


def test_no_two_settings_of_a_command_share_a_name() -> None:
    loop = {field.name for field in fields_of("sadari.train", "TrainConfig")}
    for module_name, name in CONFIGS - {("sadari.train", "TrainConfig")}:
        assert not loop & {field.name for field in fields_of(module_name, name)}


def test_constants_types_by_name_and_inherited_fields(module: Any) -> None:
    module('Kind = Literal["a", "b"]\nLIMIT: int = 7\n', "other")
    name = module(
        '''
from other import LIMIT, Kind as Sort
class Base:
    kind: Sort = "a"
    """Which kind,
    in two lines."""
class Config(Base):
    limit: int | None = LIMIT
    sizes: tuple[int, ...] = (1, 2)
    late: "float" = -1.5
    "One line."
'''
    )
    assert fields_of(name, "Config") == (
        Field("kind", Literal["a", "b"], "a", "Which kind, in two lines."),
        Field("limit", int | None, 7, ""),
        Field("sizes", tuple[int, ...], (1, 2), ""),
        Field("late", float, -1.5, "One line."),
    )


def test_flag_is_the_name_with_dashes() -> None:
    assert Field("batch_size", int, 1, "").flag == "--batch-size"


def test_docstring_of_a_module(module: Any) -> None:
    assert docstring_of(module('"""First.\n\n    Second."""\n')) == "First.\n\nSecond."


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("", LookupError, "settings has no class Config"),
        ("class Config:\n    a: int\n", ValueError, "settings.Config.a has no default"),
        ("class Config:\n    a: list[int] = ()\n", ValueError, r"the type list\[int\] is not one"),
        ("class Config:\n    a: int = NOWHERE\n", ValueError, "NOWHERE is neither a literal nor a constant"),
    ],
)
def test_what_cannot_be_read_says_so(module: Any, source: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fields_of(module(source), "Config")


def test_a_module_that_is_not_there(module: Any) -> None:
    with pytest.raises(LookupError, match="there is no module nowhere"):
        fields_of("nowhere", "Config")

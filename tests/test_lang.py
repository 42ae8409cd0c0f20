"""Two languages, one number."""

from __future__ import annotations

import pytest

from sadari.lang import Note, default_lang, pick

TEXTS = {"constant": ("{column} holds one value", "{column}에는 값이 하나뿐이다")}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LC_ALL": "ko_KR.UTF-8"}, "ko"),
        ({"LC_ALL": "C", "LANG": "ko_KR.UTF-8"}, "en"),
        ({"LANG": "ko_KR"}, "ko"),
        ({"LANG": "kok_IN"}, "en"),
        ({}, "en"),
    ],
)
def test_the_locale_chooses(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_lang() == expected


def test_a_note_says_the_same_in_both_languages_and_survives_json() -> None:
    note = Note.of(TEXTS, "constant", "warning", column="나이")
    assert note.say("en") == "나이 holds one value"
    assert note.say("ko") == pick(TEXTS, "constant", "ko", column="나이") == "나이에는 값이 하나뿐이다"
    assert Note.from_json(note.to_json()) == note

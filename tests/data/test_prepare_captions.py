"""Captioned pictures become pixels and tokens; what is true of two pairs is known; nothing leaks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sadari.data.caption_arrays import CaptionArrays, subjects_of, wordings_of
from sadari.data.prepare import Prepared
from sadari.data.prepare_captions import LENGTH, prepare_captions, resized
from sadari.data.prepare_images import prepare_images
from sadari.data.spec_captions import CaptionSpec, check_tokenizer
from sadari.data.tokenizers import PAD, Tokenizer, train_tokenizer
from sadari.errors import SadariError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SADARI_CACHE", str(tmp_path / ".cache"))


WORDS = "red green blue small large round apple dog sea house".split()  # noqa: SIM905
KOREAN = "빨간 초록 파란 작은 큰 둥근 사과 개 바다 집".split()  # noqa: SIM905


def png(seed: int, size: int = 10) -> bytes:
    file = io.BytesIO()
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def frame(rows: int = 40, pictures: Sequence[int] | None = None, **more: Any) -> pl.DataFrame:
    """Pictures of blurred noise, with one to three English captions and perhaps a Korean one."""
    draw = np.random.default_rng(0)
    english = [[f"{n} {' '.join(draw.choice(WORDS, 3))}" for _ in range(1 + n % 3)] for n in range(rows)]
    korean = [[f"{n} {' '.join(draw.choice(KOREAN, 2))}"] for n in range(rows)]
    columns: dict[str, Any] = {
        "image": [png(seed) for seed in (pictures or range(rows))],
        "caption.en": english,
        "caption.ko": korean,
    }
    return pl.DataFrame({**columns, **more})


def said(prepared: Prepared) -> dict[str, dict[str, Any]]:
    return {note.about["kind"]: note.about for note in prepared.notes}


def rows_of(prepared: Prepared) -> list[np.ndarray]:
    return [prepared.split.train, prepared.split.validation, prepared.split.test]


def arrays_of(prepared: Prepared) -> list[CaptionArrays]:
    return [prepared.train, prepared.validation, prepared.test]  # type: ignore[list-item]


# --------------------------------------------------------------------- the way through


def test_pictures_become_pixels_and_captions_tokens() -> None:
    source = frame()
    prepared = prepare_captions(source)
    spec: Any = prepared.spec
    assert isinstance(spec, CaptionSpec) and (prepared.kind, prepared.task) == ("captions", "match")
    assert [len(rows) for rows in rows_of(prepared)] == [24, 8, 8]
    assert spec.captions == ("caption.en", "caption.ko") and spec.languages == ("en", "ko")
    assert spec.width == (3, 10, 10) and spec.vocabulary == spec.tokenizer.size
    table = prepared.table.frame.collect()
    for part, rows in zip(arrays_of(prepared), rows_of(prepared), strict=True):
        assert (part.features == spec.encode(table[rows])).all()
        expected = [
            text
            for row in rows
            for text in source["caption.en"][int(row)].to_list() + source["caption.ko"][int(row)].to_list()
        ]
        assert part.texts.to_list() == expected
        assert part.starts.tolist() == np.cumsum([0, *(2 + rows % 3)]).tolist()
        width = part.tokens.shape[1]
        assert (part.tokens == spec.encode_captions(expected, width)).all()
        assert part.tokens.dtype == np.int32 and (part.tokens[:, 0] == spec.tokenizer.start).all()
        assert ((part.tokens == spec.end).sum(1) == 1).all()
        korean = [source["caption.ko"][int(row)][0] for row in rows]
        assert (part.tokens[part.firsts(1)] == spec.encode_captions(korean, width)).all()
    pixels = prepared.train.features.astype(np.float64) / 255
    np.testing.assert_allclose(spec.mean, pixels.mean((0, 1, 2)), atol=1e-12)
    again = CaptionSpec.from_json(spec.to_json(), spec.tokenizer)
    assert again == spec
    assert (spec.encode_target(table[:3]) >= 0).any() and spec.captions_of(table)[0] == [
        *source["caption.en"][0], *source["caption.ko"][0],
    ]  # fmt: skip


def test_the_tokenizer_knows_the_training_part_alone() -> None:
    source = frame()
    prepared = prepare_captions(source, tokenizer="words", seed=1)
    spec: Any = prepared.spec
    training = {word for text in prepared.train.texts for word in text.split()}
    for part in arrays_of(prepared)[1:]:
        for text, tokens in zip(part.texts, part.tokens, strict=True):
            for word, token in zip(text.split(), tokens[1:], strict=False):
                assert token == spec.tokenizer.unknown or word in training


def test_the_split_hangs_on_pictures_and_seed_alone() -> None:
    source = frame()
    first = prepare_captions(source, seed=5)
    for how in (
        {"size": 4},
        {"languages": ("ko",)},
        {"tokenizer": "characters"},
        {"channels": 1},
        {"length": 5},
    ):
        assert prepare_captions(source, seed=5, **how).split.fingerprint == first.split.fingerprint
    assert prepare_captions(source, seed=6).split.fingerprint != first.split.fingerprint
    korean: Any = prepare_captions(source, languages=("ko",)).spec
    assert korean.captions == ("caption.ko",)


def test_a_group_and_the_same_pixels_stay_in_one_part() -> None:
    rows = 60
    groups = [None if n % 7 == 0 else f"g{n // 4}" for n in range(rows)]
    pictures = [n - 30 if 30 <= n < 36 else n for n in range(rows)]  # rows 30 to 35 repeat 0 to 5
    prepared = prepare_captions(frame(rows, pictures, group=groups))
    part = np.empty(rows, int)
    for number, some in enumerate(rows_of(prepared)):
        part[some] = number
    for group in {group for group in groups if group}:
        assert len({part[n] for n in range(rows) if groups[n] == group}) == 1, group
    for n in range(6):
        assert part[n] == part[n + 30]
    assert len({part[n] for n in range(0, rows, 7)}) > 1  # those without a group are no group


@pytest.mark.parametrize("seed", [0, 1])
def test_pictures_with_captions_split_as_those_with_classes(seed: int) -> None:
    """Else what a run of captions says zero-shot of a test's pictures it might have learnt from them."""
    kinds = [("face", "food", "flag")[(n // 4) % 3] for n in range(60)]
    whole = frame(60, group=[f"g{n // 4}" for n in range(60)]).with_columns(category=pl.Series(kinds))
    captioned = prepare_captions(whole, seed=seed).split
    alone = whole.select("image", "category", "group")
    assert captioned.fingerprint == prepare_images(alone, target="category", seed=seed).split.fingerprint
    plain = prepare_captions(whole.drop("category"), seed=seed).split
    assert captioned.fingerprint != plain.fingerprint


def test_an_artist_is_held_out_and_an_official_test_stays() -> None:
    artists = [("noto", "twemoji", "fluent")[n % 3] for n in range(60)]
    pictures = list(range(60))
    pictures[1] = 0  # twemoji's row 1 has the pixels of noto's row 0: not to be trained on
    source = frame(60, pictures, artist=artists)
    prepared = prepare_captions(source, hold_out="artist=noto")
    assert prepared.split.test.tolist() == list(range(0, 60, 3))
    assert 1 not in np.concatenate(rows_of(prepared)) and said(prepared)["tested"]["count"] == 1
    assert len(prepared.split.train) == 31 and len(prepared.split.validation) == 8
    assert said(prepared)["held out"] == {
        "kind": "held out",
        "count": 20,
        "column": "artist",
        "value": "noto",
    }
    for how, message in (
        ("artist", r"--hold-out 'artist' names no column and value; write COLUMN=VALUE with one of: artist"),
        ("caption.en=x", r"names no column and value"),
        (
            "artist=me",
            r"--hold-out artist=me: 0 of 60 pictures have that value, .*; values: fluent, noto, twemoji",
        ),
    ):
        with pytest.raises(SadariError, match=message):
            prepare_captions(source, hold_out=how)


# --------------------------------------------------------------------- known positives


def test_known_positives_are_pairs_that_share_a_picture_or_words() -> None:
    pictures = [0, 1, 2, 3, 0, 5, 6, 7, 8, 9, 10, 11]
    english = [
        ["sunset"],
        ["Sun set"],
        ["a dog"],
        ["a  DOG"],
        ["the sun"],
        ["x"],
        ["y", "a dog"],
        *([f"z{n}"] for n in range(5)),
    ]
    source = pl.DataFrame({"image": [png(n) for n in pictures], "caption": english})
    prepared = prepare_captions(source, seed=0)
    for part, rows in zip(arrays_of(prepared), rows_of(prepared), strict=True):
        every = np.arange(len(part.texts))
        owners = np.repeat(np.arange(len(rows)), np.diff(part.starts))
        ids = part.known_positives(owners, every)
        words = [" ".join(text.casefold().split()) for text in part.texts]
        for one in every:
            for other in every:
                share = (
                    words[one] == words[other] or pictures[rows[owners[one]]] == pictures[rows[owners[other]]]
                )
                same_name = words[part.starts[owners[one]]] == words[part.starts[owners[other]]]
                assert not (share or same_name) or ids[one] == ids[other]
    assert said(prepared)["repeated"] == {"kind": "repeated", "count": 3, "captions": 13}


def test_subjects_are_the_same_pixels_or_the_same_name_in_every_language() -> None:
    pixels = np.zeros((6, 32), np.uint8)
    pixels[:, 0] = [0, 1, 2, 3, 4, 0]
    captions = [
        [(0, "apple"), (0, "fruit"), (1, "사과")],
        [(0, "Apple"), (1, "사과"), (1, "과일")],  # the apple of another artist
        [(0, "apple"), (1, "능금")],  # another name in one language
        [(0, "fruit"), (1, "사과")],
        [(0, "apple")],  # no name in the other language: not known
        [(0, "pear"), (1, "배")],  # the pixels of the first
    ]
    subjects = subjects_of(pixels, captions, 2)
    assert subjects[0] == subjects[1] == subjects[5]
    assert len(set(subjects.tolist())) == 4
    wordings = wordings_of(captions)
    assert (
        wordings[0].tolist() == [0, 1, 2]
        and wordings[1].tolist()[:2] == [0, 2]
        and wordings[4].tolist() == [0]
    )


@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=12), st.integers(0, 99)
)
def test_a_caption_is_drawn_of_its_own_picture_and_each_language_alike(
    languages: list[list[int]], seed: int
) -> None:
    spoken = [sorted(found) for found in languages]
    flat = np.array([one for found in spoken for one in found], np.uint8)
    starts = np.cumsum([0, *map(len, spoken)])
    part = CaptionArrays(
        np.zeros((len(spoken), 1, 1, 3), np.uint8), np.zeros((len(flat), 1), np.int32), starts, flat,
        np.arange(len(spoken)), np.arange(len(flat)), pl.Series(["x"] * len(flat)),
    )  # fmt: skip
    draw = np.random.default_rng(seed)
    rows = draw.integers(len(spoken), size=400)
    drawn = part.drawn(rows, draw)
    assert ((starts[rows] <= drawn) & (drawn < starts[rows + 1])).all()
    for language in range(3):
        firsts = part.firsts(language)
        for n, found in enumerate(spoken):
            assert firsts[n] == (starts[n] + found.index(language) if language in found else -1)
    many = part.drawn(np.zeros(3000, np.int64), draw)
    own = sorted(set(spoken[0]))
    for language in own:
        share = (flat[many] == language).mean()
        assert abs(share - 1 / len(own)) < 0.06
        places = [n for n in range(starts[1]) if flat[n] == language]
        assert {int(n) for n in many[flat[many] == language]} == set(places)


# --------------------------------------------------------------------- long, odd, few


def test_long_captions_are_cut_and_keep_their_end() -> None:
    source = (
        frame(30)
        .with_columns(caption=pl.Series(["word " * 5000] + ["short"] * 29))
        .select("image", "caption")
    )
    prepared = prepare_captions(source, tokenizer="characters", length=6)
    spec: Any = prepared.spec
    for part in arrays_of(prepared):
        assert part.tokens.shape[1] == 6 and (part.tokens[:, -1] == spec.end).all()
    assert said(prepared)["long"]["length"] == 6 and said(prepared)["cut"]["count"] == 1
    free: Any = prepare_captions(source, tokenizer="characters").spec
    assert free.length <= LENGTH
    assert (spec.encode_captions(["a"], length=6)[0, 3:] == PAD).all()


def test_resized_keeps_the_split_and_takes_another_tokenizer() -> None:
    source = frame()
    prepared = prepare_captions(source)
    other = train_tokenizer(["red green blue apple dog"] * 3, "characters", 50)
    changed = resized(prepared, size=6, mean=(0.5,) * 3, std=(0.25,) * 3, tokenizer=other)
    spec: Any = changed.spec
    assert changed.split is prepared.split and spec.width == (3, 6, 6) and spec.mean == (0.5,) * 3
    assert spec.vocabulary == other.size
    table = changed.table.frame.collect()
    for part, rows in zip(arrays_of(changed), rows_of(changed), strict=True):
        assert (part.features == spec.encode(table[rows])).all()
        assert (part.tokens == spec.encode_captions(part.texts.to_list(), part.tokens.shape[1])).all()
    same = resized(changed, size=10, tokenizer=prepared.spec.tokenizer)  # type: ignore[attr-defined]
    for part, before in zip(arrays_of(same), arrays_of(prepared), strict=True):
        assert (part.features == before.features).all() and (part.tokens == before.tokens).all()
    with pytest.raises(SadariError, match=r"mean has 1 values for 3 channels; give one for each"):
        resized(prepared, mean=(0.5,))


def test_settings_and_data_that_are_none_are_said() -> None:
    source = frame(20)
    for how, message in (
        ({"size": 5000}, r"--size 5000 is no size"),
        ({"fit": "stretch"}, r"--fit 'stretch' is no way to make a square"),
        ({"channels": 2}, r"channels=2: pictures have 1"),
        ({"length": 2}, r"length=2, vocabulary=0: a caption holds 3 tokens or more"),
        ({"languages": ("xx",)}, r"'xx' is no language's code; write ko or en"),
        ({"languages": ("ja",)}, r"has no captions in ja; it has: caption.en, caption.ko"),
    ):
        with pytest.raises(SadariError, match=message):
            prepare_captions(source, **how)  # type: ignore[arg-type]
    with pytest.raises(SadariError, match=r"has 9 pictures with captions; 10 are the least, thousands teach"):
        prepare_captions(frame(9))
    half = source.with_columns(pl.Series("caption.ko", [["a"]] * 10 + [[]] * 10))
    prepared = prepare_captions(half)
    assert said(prepared)["missing language"]["count"] == 10
    assert sum((part.firsts(1) < 0).sum() for part in arrays_of(prepared)) == 10


def test_a_tokenizer_of_another_model_is_refused() -> None:
    ours = train_tokenizer(["a b c"] * 3, "characters", 20)
    check_tokenizer(ours, ours.size, end=ours.end)
    with pytest.raises(
        SadariError, match=r"the tokenizer has \d+ tokens and the text tower knows 4; give the"
    ):
        check_tokenizer(ours, 4)
    with pytest.raises(
        SadariError, match=r"reads a caption at its end token 49,407, and the tokenizer ends one with 2"
    ):
        check_tokenizer(ours, 49_408, end=49_407)


def test_a_spec_of_another_kind_is_refused() -> None:
    prepared = prepare_captions(frame(20))
    spec: Any = prepared.spec
    tokenizer: Tokenizer = spec.tokenizer
    for change in ({"kind": "images"}, {"captions": []}, {"length": 1}, {"pictures": {}}, {"notes": 3}):
        with pytest.raises(SadariError, match=r"spec.json is no spec of|is no spec of pictures"):
            CaptionSpec.from_json({**spec.to_json(), **change}, tokenizer)
    with pytest.raises(SadariError, match=r"row 2 has no caption.en; leave the row out"):
        spec.encode_target(pl.DataFrame({"image": [b"", b""], "caption.en": ["a", None]}))
    with pytest.raises(SadariError, match=r"lacks columns: caption.en, caption.ko; the run was trained"):
        spec.captions_of(pl.DataFrame({"image": [b""]}))

"""From pairs to tokens: what is left out is counted, no sentence is in two parts, arrays are the spec's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadari.data import prepare_pairs as module
from sadari.data import toy_pairs
from sadari.data.pairs import open_pairs
from sadari.data.prepare import Prepared, prepare
from sadari.data.prepare_pairs import clean_pairs, prepare_pairs, recoded
from sadari.data.spec_pairs import PairSpec
from sadari.data.split import deal_groups, in_large, joined, with_training
from sadari.data.table import Table
from sadari.data.tokenizers import PAD, Tokenizer, train_tokenizer
from sadari.errors import SadariError
from tests.data.test_tokenizers import given_json

PARTS = ("train", "validation", "test")
WORDS = "나무 물 불 river stone 바람 light 길 door 구름 field snow".split()  # noqa: SIM905


def made(rows: int = 200, seed: int = 0, **columns: Any) -> pl.DataFrame:
    """Different pairs of three to six words."""
    draw = np.random.default_rng(seed)
    texts = [" ".join([str(k), *draw.choice(WORDS, draw.integers(3, 7))]) for k in range(rows)]
    return pl.DataFrame({"one": texts, "other": [text[::-1] for text in texts], **columns})


def note(found: Any, kind: str) -> Any:
    return next(note for note in found.notes if note.about["kind"] == kind)


def kinds(found: Any) -> list[str]:
    return [note.about["kind"] for note in found.notes]


def spec_of(prepared: Prepared) -> PairSpec:
    assert isinstance(prepared.spec, PairSpec)
    return prepared.spec


def parts(prepared: Prepared) -> list[tuple[np.ndarray, Any]]:
    return [(getattr(prepared.split, part), getattr(prepared, part)) for part in PARTS]


def pairs_of(*pairs: tuple[str, str], rows: int = 40) -> Table:
    """Such pairs behind others that nothing is wrong with."""
    return open_pairs(
        pl.concat([made(rows), pl.DataFrame(list(pairs), schema=["one", "other"], orient="row")])
    )


@pytest.fixture(scope="module")
def reverse() -> Prepared:
    return prepare_pairs(toy_pairs.reverse(600, longest=8), tokenizer="words")


# Cleaning.


@pytest.mark.parametrize(
    ("kind", "pairs", "said"),
    [
        ("empty side", [("", "x"), ("x y", "")], "2 of 42 pairs have an empty side and are left out"),
        ("endless", [("long " * 20_000, "짧다")], "1 pairs have a side of more than 20,000 characters"),
        ("identical", [("OK 12", "OK 12")], "1 pairs have the same text on both sides and are left out"),
        (
            "ratio",
            [("a b c", "x" * 90), ("y" * 90, "ab")],
            "2 pairs are left out, for the ratio of their lengths",
        ),
        ("duplicates", [("a b", "c"), ("a b", "c"), ("a b", "c")], "2 pairs repeat another and are left out"),
    ],
)
def test_each_rule_counts_what_it_leaves_out(kind: str, pairs: list[tuple[str, str]], said: str) -> None:
    table = clean_pairs(pairs_of(*pairs))
    assert kinds(table) == [kind] and said in table.notes[0].english
    assert table.rows == table.frame.collect().height == 40 + len(pairs) - table.notes[0].about["count"]
    assert table.fingerprint != pairs_of(*pairs).fingerprint
    assert str(table.notes[0].about["count"]) in table.notes[0].korean


def test_short_sides_and_decomposed_repeats() -> None:
    table = clean_pairs(pairs_of(("a", "twelve signs"), ("가 a", "b"), ("\u1100\u1161 a", "b ")))
    assert kinds(table) == ["duplicates"] and ("a", "twelve signs") in table.frame.collect().rows()


def test_what_most_pairs_are_is_no_error() -> None:
    table = clean_pairs(open_pairs(made(40).with_columns(other="one")))
    assert (
        table.rows == 40 and "100% of the pairs have the same text" in note(table, "mostly identical").english
    )
    draw = np.random.default_rng(0)
    lengths = np.exp(draw.normal(0, 4, 60)).clip(1, 3000).astype(int)
    wild = pl.DataFrame({"one": [f"{k} {'x' * 30}" for k in range(60)], "other": ["y" * k for k in lengths]})
    assert "ratio" not in kinds(clean_pairs(open_pairs(wild)))


def test_a_summary_is_shorter_throughout() -> None:
    frame = made(60).with_columns(
        one=pl.col("one") + " and so on" * 40, other=pl.lit("news ") + pl.col("one")
    )
    short = frame.with_columns(other=pl.col("one").str.slice(0, 9))
    assert clean_pairs(open_pairs(short)).rows == 60


def test_a_side_that_is_missing_is_refused() -> None:
    half = made(20).with_columns(other=pl.lit(""))
    with pytest.raises(
        SadariError, match=r"20 of 20 pairs have an empty side \(`one` is empty in 0 and `other` is"
    ):
        prepare_pairs(half)
    few = made(4)
    with pytest.raises(
        SadariError, match=r"the frame has 4 pairs to learn from; 5 are the least, thousands teach"
    ):
        prepare_pairs(few)
    same = pl.concat([made(1)] * 8)
    with pytest.raises(
        SadariError, match=r"has 1 pairs to learn from; .* \(7 pairs repeat another and are left out\)"
    ):
        prepare_pairs(same)
    one = pl.DataFrame({"one": ["yes"] * 8, "other": [f"no {k}" for k in range(8)]})
    with pytest.raises(SadariError, match=r"8 pairs of 1 different sources; 5 are the least"):
        prepare_pairs(one)


# Splitting.


def in_parts(prepared: Prepared, key: Callable[[dict[str, Any]], Any]) -> list[set[Any]]:
    frame = prepared.table.frame.collect()
    return [{key(row) for row in frame[rows].to_dicts()} for rows, _ in parts(prepared)]


def apart(sets: list[set[Any]]) -> bool:
    return not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])


def test_a_tenth_each_by_the_seed() -> None:
    prepared = prepare_pairs(made(300), tokenizer="words")
    assert [len(rows) for rows, _ in parts(prepared)] == [240, 30, 30]
    assert [len(arrays.features) for _, arrays in parts(prepared)] == [240, 30, 30]
    again, other = (prepare_pairs(made(300), tokenizer="words", seed=seed) for seed in (0, 1))
    assert again.split.fingerprint == prepared.split.fingerprint != other.split.fingerprint


def test_no_source_and_no_target_is_in_two_parts() -> None:
    frame = made(240)
    draw = np.random.default_rng(1)
    varied = frame.with_columns(
        one=pl.Series([f" {frame['one'][int(k)].upper()}  x" for k in draw.integers(160, size=240)]),
        other=pl.Series([frame["other"][int(k)] for k in draw.integers(160, size=240)]),
    )
    varied = varied.with_columns(
        one=pl.Series([t.title() if k % 2 else t for k, t in enumerate(varied["one"])])
    )
    prepared = prepare_pairs(varied, tokenizer="words")
    assert apart(in_parts(prepared, lambda row: " ".join(row["one"].casefold().split())))
    assert "together" in kinds(prepared) and min(len(rows) for rows, _ in parts(prepared)) > 0


def test_where_few_targets_serve_all_sources_alone_decide() -> None:
    frame = made(200).with_columns(other=pl.Series(["yes", "no"] * 100))
    prepared = prepare_pairs(frame, tokenizer="words")
    assert [len(rows) for rows, _ in parts(prepared)] == [160, 20, 20]
    assert apart(in_parts(prepared, lambda row: row["one"]))


def test_groups_stay_together_unless_they_share_sentences() -> None:
    group = [k // 4 for k in range(200)]
    prepared = prepare_pairs(made(200, group=group), tokenizer="words")
    assert apart(in_parts(prepared, lambda row: row["group"])) and "group" in kinds(prepared)
    frame = made(200, group=group)
    repeated = [f"note {k % 3}" if k % 4 == 0 else text for k, text in enumerate(frame["one"])]
    prepared = prepare_pairs(frame.with_columns(one=pl.Series(repeated)), tokenizer="words")
    assert apart(in_parts(prepared, lambda row: row["one"]))
    assert 1 <= note(prepared, "moved").about["count"] <= 12
    every = [f"note {k % 4} {k % 3}" for k in range(200)]
    prepared = prepare_pairs(frame.with_columns(one=pl.Series(every)), tokenizer="words")
    assert "ungrouped" in kinds(prepared) and apart(in_parts(prepared, lambda row: row["one"]))


def test_validation_and_test_hold_two_thousand_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.MOST == 2000
    monkeypatch.setattr(module, "MOST", 30)
    prepared = prepare_pairs(made(1000), tokenizer="words")
    assert [len(rows) for rows, _ in parts(prepared)] == [940, 30, 30]


@given(
    st.lists(st.integers(0, 40), min_size=5, max_size=300).filter(lambda groups: len(set(groups)) >= 5),
    st.integers(1, 50),
    st.integers(0, 5),
)
def test_groups_are_dealt_whole(groups: list[int], most: int, seed: int) -> None:
    codes = np.unique(groups, return_inverse=True)[1]
    split = deal_groups(codes, 0.1, most, seed)
    rows = np.concatenate([split.train, split.validation, split.test])
    assert sorted(rows.tolist()) == list(range(len(groups)))
    assert apart([set(codes[part]) for part in (split.train, split.validation, split.test)])
    for part in (split.validation, split.test):
        assert 0 < len(part) <= most or len(set(codes[part])) == 1


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=3, max_size=60))
def test_joined_rows_share_a_label_by_steps(pairs: list[tuple[int, int]]) -> None:
    one, other = np.array(pairs).T
    groups = joined(one, other)
    reached = (one[:, None] == one) | (other[:, None] == other)
    for _ in pairs:
        reached = reached @ reached
    np.testing.assert_array_equal(groups[:, None] == groups, reached)
    np.testing.assert_array_equal(joined(one)[:, None] == joined(one), one[:, None] == one)
    split, moved = with_training(deal_groups(np.arange(len(pairs)), 0.3, 99, 0), groups)
    assert apart([set(groups[part]) for part in (split.train, split.validation, split.test)])
    assert moved <= len(pairs) and not in_large(np.arange(len(pairs)), 0.1).any()


# Arrays.


def test_arrays_are_what_the_spec_makes_of_the_rows(reverse: Prepared) -> None:
    spec, frame = spec_of(reverse), reverse.table.frame.collect()
    assert (reverse.kind, reverse.task, spec.source, spec.target, spec.length) == (
        *("pairs", "translate", "digits", "reversed"),
        128,
    )
    for rows, arrays in parts(reverse):
        assert arrays.features.dtype == arrays.targets.dtype == np.int32
        np.testing.assert_array_equal(arrays.features, spec.encode(frame[rows]))
        np.testing.assert_array_equal(arrays.targets, spec.encode_target(frame[rows]))
        for source, target, row in zip(arrays.features, arrays.targets, rows, strict=True):
            real, written = source[source != PAD], target[target != PAD]
            assert real[-1] == spec.end and (written[0], written[-1]) == (spec.start, spec.end)
            assert (source[len(real) :] == PAD).all() and real[-2::-1].tolist() == written[1:-1].tolist()
            assert spec.decode(target) == frame["reversed"][int(row)]


def test_the_tokenizer_knows_training_alone_and_both_sides() -> None:
    frame = made(300)
    split = prepare_pairs(frame, tokenizer="words").split
    test = set(split.test.tolist())
    marked = frame.with_columns(
        one=pl.Series([text + " unseen" * 3 * (k in test) for k, text in enumerate(frame["one"])])
    )
    prepared = prepare_pairs(marked, tokenizer="words")
    assert prepared.split.fingerprint == split.fingerprint
    spec = spec_of(prepared)
    assert spec.shared and spec.tokenizer is spec.source_tokenizer and spec.width == spec.outputs
    assert spec.tokenizer.encode(["unseen"])[0].tolist() == [spec.tokenizer.unknown]
    assert spec.tokenizer.encode(["river revir"])[0].min() > spec.tokenizer.end


def test_separate_tokenizers_know_their_own_side() -> None:
    prepared = prepare_pairs(made(200), tokenizer="characters", separate=True)
    frame = pl.DataFrame({"one": ["가 나 다"] * 9, "other": [f"abcd {k}" for k in range(9)]})
    spec = spec_of(
        prepare_pairs(
            frame.with_columns(one=pl.col("one") + pl.col("other").str.slice(4)),
            tokenizer="characters",
            separate=True,
        )
    )
    assert not spec.shared and spec.width != spec.outputs
    assert spec.tokenizer.encode(["가"])[0].tolist() == [spec.tokenizer.unknown]
    assert spec.source_tokenizer.encode(["abc"])[0].tolist() == [spec.source_tokenizer.unknown] * 3
    assert spec_of(prepared).shared  # the same characters on both sides: the same tokenizer


def test_vocabularies_by_size_and_by_wish() -> None:
    prepared = prepare_pairs(made(200), vocabulary=300)
    assert spec_of(prepared).outputs == 300 and spec_of(prepared).tokenizer.kind == "bpe"
    assert spec_of(prepare_pairs(made(200))).outputs <= 1000
    with pytest.raises(SadariError, match=r"length=1, vocabulary=0: a side holds 2 tokens or more"):
        prepare_pairs(made(20), length=1)
    with pytest.raises(SadariError, match=r"vocabulary=-1: a side holds"):
        prepare_pairs(made(20), vocabulary=-1)
    with pytest.raises(SadariError, match=r"'pieces' is neither a kind of tokenizer"):
        prepare_pairs(made(20), tokenizer="pieces")


def test_long_training_pairs_are_left_out_and_others_cut() -> None:
    frame = made(200)
    every = prepare_pairs(frame, tokenizer="words")
    long = {int(rows[0]) for rows, _ in parts(every)} | {int(every.split.train[1])}
    other = pl.Series([text + " 물 불" * 9 * (k in long) for k, text in enumerate(frame["other"])])
    prepared = prepare_pairs(frame.with_columns(other=other), tokenizer="words", length=9)
    spec = spec_of(prepared)
    assert note(prepared, "long").about == {"kind": "long", "count": 2, "rows": 160, "length": 9}
    assert [len(rows) for rows, _ in parts(prepared)] == [158, 20, 20]
    assert not long & set(prepared.split.train.tolist())
    cut = prepared.test.targets[0]
    assert cut.shape == (10,) and cut[0] == spec.start and spec.end not in cut and PAD not in cut
    assert prepared.train.targets.shape[1] <= 10
    frame = prepared.table.frame.collect()
    for rows, arrays in parts(prepared):
        np.testing.assert_array_equal(arrays.targets, spec.encode_target(frame[rows]))
    flipped = prepare_pairs(frame, target="one", tokenizer="words", length=9)
    assert flipped.split.fingerprint == prepared.split.fingerprint
    cut = flipped.test.features[0]
    assert cut.shape == (9,) and cut[-1] == spec_of(flipped).end and PAD not in cut
    with pytest.raises(
        SadariError, match=r"each of the 160 training pairs has more than 2 tokens on a side; allow"
    ):
        prepare_pairs(frame, tokenizer="words", length=2)


def test_the_length_grows_for_long_texts() -> None:
    longer = made(100).with_columns(one=pl.col("one") + " 물 불" * 70)
    prepared = prepare_pairs(longer, tokenizer="words")
    assert spec_of(prepared).length == 256 and "long" not in kinds(prepared)
    endless = made(100).with_columns(one=pl.col("one") + " 물 불" * 300)
    with pytest.raises(SadariError, match="more than 512 tokens"):
        prepare_pairs(endless, tokenizer="words")


def test_large_arrays_are_mapped_and_the_same(tmp_path: Path) -> None:
    small = prepare_pairs(made(300), tokenizer="words", length=20)
    large = prepare_pairs(made(300), tokenizer="words", length=20, memory=40_000, cache=tmp_path / "cache")
    assert isinstance(large.train.features, np.memmap) and large.train.features.shape == (240, 20)
    for (_, one), (_, other) in zip(parts(small), parts(large), strict=True):
        for name in ("features", "targets"):
            narrow, wide = getattr(one, name), getattr(other, name)
            np.testing.assert_array_equal(narrow, wide[:, : narrow.shape[1]])
            assert (wide[:, narrow.shape[1] :] == PAD).all()


def test_recoded_is_the_same_split_in_another_tokenizer(reverse: Prepared) -> None:
    letters = train_tokenizer(["0123456789 "], "characters", 20)
    other = reverse.recoded(letters)
    spec = spec_of(other)
    assert other.split.fingerprint == reverse.split.fingerprint and other.table is reverse.table
    assert spec.shared and spec.source_tokenizer is spec.tokenizer is letters and "long" not in kinds(other)
    frame = other.table.frame.collect()
    for rows, arrays in parts(other):
        np.testing.assert_array_equal(arrays.features, spec.encode(frame[rows]))
        assert spec.decode(arrays.targets[0]) == frame["reversed"][int(rows[0])]
    assert spec.length == max(len(text) for text in frame[other.split.train]["digits"]) + 1
    short = recoded(reverse, letters, length=9)
    assert len(short.train.features) < len(reverse.train.features) and "long" in kinds(short)
    assert len(short.test.features) == len(reverse.test.features)


# Where it is asked for.


def test_prepare_hands_pairs_over(reverse: Prepared) -> None:
    frame = toy_pairs.reverse(600, longest=8)
    found = prepare(frame, task="translate", reading={"tokenizer": "words"})
    assert found.kind == "pairs" and found.split.fingerprint == reverse.split.fingerprint
    again = prepare(
        frame,
        kind="pairs",
        reading={"tokenizer": spec_of(found).tokenizer, "length": 128, "text": "digits", "separate": False},
    )
    np.testing.assert_array_equal(again.train.features, found.train.features)
    assert spec_of(again).tokenizer is spec_of(found).tokenizer
    flipped = prepare(frame, task="translate", target="digits", reading={"tokenizer": "words"})
    assert (spec_of(flipped).source, spec_of(flipped).target) == ("reversed", "digits")
    with pytest.raises(SadariError, match="'classify' is not a task of pairs; choose translate"):
        prepare(frame, kind="pairs", task="classify")
    with pytest.raises(SadariError, match="--drop a is for tables, and toy-sums is read as pairs"):
        prepare("toy-sums", drop=("a",))


def test_a_run_is_opened_with_its_own_tokenizers() -> None:
    first = prepare_pairs(made(100), tokenizer="words", separate=True, vocabulary=40)
    spec = spec_of(first)
    reading = {"tokenizer": spec.tokenizer, "source_tokenizer": spec.source_tokenizer, "separate": True}
    again = prepare(made(100), task="translate", reading=reading)
    assert spec_of(again).source_tokenizer is spec.source_tokenizer and not spec_of(again).shared
    np.testing.assert_array_equal(again.test.features, first.test.features)
    with pytest.raises(SadariError, match="source_tokenizer goes with a tokenizer at hand; give both"):
        prepare_pairs(made(100), tokenizer="words", source_tokenizer=spec.tokenizer)


def test_a_file_is_one_tokenizer_for_both_sides(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(given_json())
    spec = spec_of(prepare_pairs(made(60), tokenizer=file))
    assert spec.shared and spec.tokenizer.kind == "given"
    assert spec.encode(pl.DataFrame({"one": ["river"]}))[0, -1] == spec.tokenizer.end
    with pytest.raises(
        SadariError, match=r"tokenizer.json is one tokenizer, for both sides; leave out separate"
    ):
        prepare_pairs(made(60), tokenizer=file, separate=True)


# The spec.


def test_a_spec_comes_back_from_json() -> None:
    spec = spec_of(prepare_pairs(made(100), tokenizer="words"))
    assert PairSpec.from_json(spec.to_json(), spec.tokenizer) == spec
    apart_ = spec_of(prepare_pairs(made(100), tokenizer="words", separate=True))
    back = PairSpec.from_json(apart_.to_json(), apart_.tokenizer, apart_.source_tokenizer)
    assert back == apart_ and back.source_tokenizer is apart_.source_tokenizer
    assert spec.to_json()["kind"] == "pairs" and spec.unit == "texts" and spec.classes is None
    assert [column.name for column in spec.columns] == ["one"] and set(spec.types) == {"one", "other"}
    with pytest.raises(
        SadariError, match=r"spec.json is no spec of pairs \(ValueError: the source's tokenizer"
    ):
        PairSpec.from_json(apart_.to_json(), apart_.tokenizer)
    for content in ({}, {**spec.to_json(), "kind": "text"}, {**spec.to_json(), "length": "long"}):
        with pytest.raises(SadariError, match=r"spec.json is no spec of pairs"):
            PairSpec.from_json(content, spec.tokenizer)


def test_rows_of_other_columns_are_refused() -> None:
    spec = spec_of(prepare_pairs(made(100), tokenizer="words"))
    with pytest.raises(SadariError, match=r"the rows lacks column: one; the run was trained to read one"):
        spec.encode(pl.DataFrame({"x": ["a"]}))
    with pytest.raises(SadariError, match=r"column one is Int64, not text; give texts as in training"):
        spec.encode(pl.DataFrame({"one": [1]}))
    with pytest.raises(SadariError, match=r"lacks column: other; add it, or translate instead of scoring"):
        spec.encode_target(pl.DataFrame({"one": ["a"]}))
    assert spec.encode(pl.DataFrame({"one": [None]}, schema={"one": pl.String})).tolist() == [[spec.end]]
    assert spec.encode_targets([""]).tolist() == [[spec.start, spec.end]]


@given(st.lists(st.text(max_size=40), max_size=6), st.integers(2, 12))
def test_any_text_is_encoded_within_the_length(texts: list[str], length: int) -> None:
    tokenizer = _bytes_tokenizer()
    spec = PairSpec("one", "other", tokenizer, tokenizer, length)
    for tokens in spec.encode_sources(texts):
        assert 1 <= len(tokens) <= length and tokens[-1] == spec.end
    targets = spec.encode_targets(texts)
    assert targets.shape[0] == len(texts) and targets.shape[1] <= length + 1
    for row, tokens in zip(targets, tokenizer.encode(texts), strict=True):
        if len(tokens) < length:
            assert spec.decode(row) == tokenizer.decode(tokens) and (row == spec.end).sum() == 1
        else:
            assert spec.end not in row


_BYTES: list[Tokenizer] = []


def _bytes_tokenizer() -> Tokenizer:
    if not _BYTES:
        _BYTES.append(train_tokenizer(["a b c 가"], "bpe", 300))
    return _BYTES[0]

"""From texts to tokens: what repeats stays together, training alone is learnt from, cuts are said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sadari.data import prepare_text as module
from sadari.data import toy_text
from sadari.data.prepare import Prepared
from sadari.data.prepare_text import prepare_language, prepare_text, vocabulary_size
from sadari.data.spec_text import LanguageSpec, TextSpec
from sadari.data.tokenizers import PAD, Tokenizer, train_tokenizer
from sadari.errors import SadariError
from tests.data.test_tokenizers import given_json

PARTS = ("train", "validation", "test")


def kinds(prepared: Prepared) -> list[str]:
    return [note.about["kind"] for note in prepared.notes]


def parts(prepared: Prepared) -> list[Any]:
    return [getattr(prepared, part) for part in PARTS]


def labelled(rows: int = 60, **columns: object) -> pl.DataFrame:
    """Texts that differ from each other, of two classes."""
    texts = [f"text number {place} of {'some' if place % 2 else 'other'} words" for place in range(rows)]
    return pl.DataFrame(
        {"text": texts, "label": ["odd" if place % 2 else "even" for place in range(rows)], **columns}
    )


@pytest.fixture(scope="module")
def topics() -> Prepared:
    return prepare_text(toy_text.topics())


@pytest.fixture(scope="module")
def grammar() -> Prepared:
    return prepare_language("toy-grammar")


def test_texts_become_padded_tokens_and_classes(topics: Prepared) -> None:
    spec = topics.spec
    assert isinstance(spec, TextSpec)
    assert (topics.task, topics.kind, spec.width) == ("classify", "text", spec.tokenizer.size)
    assert spec.classes == ("food", "travel", "weather") and [c.name for c in spec.columns] == ["text"]
    frame = topics.table.frame.collect()
    for part, rows in zip(
        parts(topics), (topics.split.train, topics.split.validation, topics.split.test), strict=True
    ):
        assert part.features.dtype == np.int32 and part.targets.dtype == np.int64
        assert part.features.shape[0] == len(rows) == len(part.targets)
        for tokens, target, row in zip(part.features[:20], part.targets[:20], rows[:20], strict=True):
            real = tokens >= 0
            assert (tokens[~real] == PAD).all() and not np.diff(real.astype(int)).max(initial=0) > 0
            assert frame["text"][int(row)].startswith(spec.tokenizer.decode(tokens))
            assert spec.classes[target] == frame["topic"][int(row)]
    shares = [np.bincount(part.targets) / len(part.targets) for part in parts(topics)]
    np.testing.assert_allclose(shares, 1 / 3, atol=0.02)
    assert [len(part.targets) for part in parts(topics)] == [540, 180, 180]


def test_a_seed_gives_one_split_and_one_tokenizer(topics: Prepared) -> None:
    again, other = prepare_text(toy_text.topics()), prepare_text(toy_text.topics(), seed=1)
    assert again.split.fingerprint == topics.split.fingerprint != other.split.fingerprint
    np.testing.assert_array_equal(again.test.features, topics.test.features)


def test_the_tokenizer_is_learnt_from_training_texts_alone() -> None:
    frame = labelled(100)
    split = prepare_text(frame, tokenizer="words").split
    marked = frame.with_columns(
        pl.Series(
            "text",
            [
                f"{text} unseen unseen" if row in split.test else text
                for row, text in enumerate(frame["text"])
            ],
        )
    )
    spec = prepare_text(marked, tokenizer="words").spec
    assert spec.tokenizer.encode(["unseen"])[0].tolist() == [spec.tokenizer.unknown]  # type: ignore[attr-defined]


def test_texts_that_repeat_stay_in_one_part() -> None:
    frame = labelled(60).with_columns(
        pl.Series("text", [f"text number {place % 20} here" for place in range(60)])
    )
    prepared = prepare_text(frame)
    found = [
        set(frame["text"][rows.tolist()])
        for rows in (prepared.split.train, prepared.split.validation, prepared.split.test)
    ]
    assert not found[0] & found[1] and not found[0] & found[2] and not found[1] & found[2]
    note = next(note for note in prepared.notes if note.about["kind"] == "repeated")
    assert note.about["count"] == 40


def test_groups_stay_in_one_part_and_repeats_join_them() -> None:
    frame = labelled(60, group=[place // 3 for place in range(60)])
    texts = frame["text"].to_list()
    texts[59] = texts[0]  # the last group repeats a text of the first
    prepared = prepare_text(frame.with_columns(pl.Series("text", texts)))
    part = np.empty(60, int)
    for number, rows in enumerate((prepared.split.train, prepared.split.validation, prepared.split.test)):
        part[rows] = number
    assert (part.reshape(20, 3) == part.reshape(20, 3)[:, :1]).all() and part[0] == part[59]


def test_a_class_that_occurs_once_goes_to_training() -> None:
    frame = pl.concat([labelled(40), pl.DataFrame({"text": ["the only one"], "label": ["lonely"]})])
    for seed in range(5):
        prepared = prepare_text(frame, seed=seed)
        assert 40 in prepared.split.train and "lonely" in prepared.spec.classes  # type: ignore[operator]
        note = next(note for note in prepared.notes if note.about["kind"] == "once")
        assert "class `lonely` occurs once" in note.english and note.level == "warning"


def test_a_class_hidden_in_a_group_is_moved_to_training() -> None:
    frame = pl.DataFrame(
        {
            "text": [f"text {place}" for place in range(60)],
            "label": ["a", "a", "b", "b", "b", "rare"] + ["a", "b"] * 27,
            "group": [0] * 6 + list(range(1, 55)),
        }
    )
    moved = 0
    for seed in range(12):
        prepared = prepare_text(frame, seed=seed)
        assert 5 in prepared.split.train
        moved += "moved" in kinds(prepared)
    assert moved


def test_rows_without_a_label_are_left_out_and_said() -> None:
    frame = labelled(60).with_columns(label=pl.when(pl.int_range(60) > 4).then("label"))
    prepared = prepare_text(frame)
    assert sum(len(part.targets) for part in parts(prepared)) == 55 and "no target" in kinds(prepared)


def test_length_is_what_most_texts_have_and_cuts_are_said() -> None:
    frame = labelled(200).with_columns(
        text=pl.when(pl.int_range(200) == 7).then(pl.lit("word " * 900)).otherwise("text")
    )
    short = prepare_text(frame, tokenizer="words")
    assert short.spec.length < 20  # type: ignore[attr-defined]
    note = next(note for note in short.notes if note.about["kind"] == "cut")
    assert note.about["share"] == 1 / 200
    long = prepare_text(frame.with_columns(text=pl.col("text") + " word" * 400))
    assert long.spec.length == 256 and all(part.features.shape[1] == 256 for part in parts(long))  # type: ignore[attr-defined]
    told = prepare_text(frame, length=3)
    assert told.spec.length == 3 and "cut" in kinds(told)  # type: ignore[attr-defined]


def test_empty_and_one_token_texts_are_texts() -> None:
    texts = ["", "a", "  ", "a b"] * 15
    prepared = prepare_text(
        pl.DataFrame(
            {
                "text": [
                    f"{text}{'x' * (place % 7)}" if text.strip() else text for place, text in enumerate(texts)
                ],
                "label": ["p", "q"] * 30,
            }
        )
    )
    assert "empty" in kinds(prepared)
    assert any((part.features[:, 0] == PAD).any() for part in parts(prepared))
    spec = prepared.spec
    assert spec.encode(pl.DataFrame({"text": ["", None]})).tolist() == [[PAD], [PAD]]


def test_many_tokens_are_mapped_and_the_same(topics: Prepared) -> None:
    mapped = prepare_text(toy_text.topics(), memory=1000, cache=Path("cache"))
    for one, other in zip(parts(mapped), parts(topics), strict=True):
        assert isinstance(one.features, np.memmap)
        np.testing.assert_array_equal(one.features[:, : other.features.shape[1]], other.features)
        np.testing.assert_array_equal(one.targets, other.targets)
    assert mapped.spec.to_json() == topics.spec.to_json()


def test_a_spec_comes_back_from_its_json(topics: Prepared) -> None:
    before = topics.spec
    after = TextSpec.from_json(before.to_json(), before.tokenizer)  # type: ignore[attr-defined]
    assert after == before
    rows = toy_text.topics(30, seed=5)
    np.testing.assert_array_equal(after.encode(rows), before.encode(rows))
    np.testing.assert_array_equal(after.encode_target(rows), before.encode_target(rows))
    assert after.decode_target(after.encode_target(rows)).tolist() == rows["topic"].to_list()
    with pytest.raises(
        SadariError, match=r"spec.json is no spec of texts \(KeyError: 'length'\); fit the run again"
    ):
        TextSpec.from_json(
            {key: value for key, value in before.to_json().items() if key != "length"}, before.tokenizer
        )  # type: ignore[attr-defined]


def test_rows_that_do_not_fit_the_spec_are_refused(topics: Prepared) -> None:
    spec = topics.spec
    with pytest.raises(
        SadariError, match=r"the rows lacks column: text; the run was trained on its texts \(columns here: x"
    ):
        spec.encode(pl.DataFrame({"x": ["a"]}))
    with pytest.raises(
        SadariError, match=r"my.csv: column text is Int64, not text; give texts as in training"
    ):
        spec.encode(pl.DataFrame({"text": [1]}), name="my.csv")
    with pytest.raises(
        SadariError, match="lacks the target column topic; add it, or predict instead of scoring"
    ):
        spec.encode_target(pl.DataFrame({"text": ["a"]}))
    with pytest.raises(SadariError, match="row 2 has no topic; leave out the rows without a target"):
        spec.encode_target(pl.DataFrame({"topic": ["food", None]}))
    with pytest.raises(
        SadariError, match="topic has the class 'war', which is in no training row; classes there: food"
    ):
        spec.encode_target(pl.DataFrame({"topic": ["food", "war"]}))


def test_a_given_tokenizer_keeps_its_ends_when_texts_are_cut() -> None:
    Path("tokenizer.json").write_text(given_json())
    frame = pl.DataFrame(
        {
            "text": [f"hello world{'s' * (place % 2)} {'hello ' * (place % 5)}" for place in range(40)],
            "label": ["a", "b"] * 20,
        }
    )
    prepared = prepare_text(frame, tokenizer="tokenizer.json", length=4)
    tokens = prepared.train.features
    assert (tokens[:, 0] == 2).all() and tokens.shape[1] == 4
    assert all(row[row >= 0][-1] == 3 for row in tokens)
    assert prepared.spec.tokenizer.kind == "given"  # type: ignore[attr-defined]


def test_recoded_keeps_texts_and_split(topics: Prepared) -> None:
    other = train_tokenizer(toy_text.topics()["text"], "characters")
    recoded = topics.recoded(other)
    assert recoded.split.fingerprint == topics.split.fingerprint and recoded.spec.width == other.size
    np.testing.assert_array_equal(recoded.test.targets, topics.test.targets)
    row = int(topics.split.test[0])
    assert (
        other.decode(recoded.test.features[0])
        == topics.table.frame.collect()["text"][row][: recoded.spec.length]
    )  # type: ignore[attr-defined]
    assert topics.recoded(other, 5).train.features.shape[1] == 5
    assert kinds(topics.recoded(other, 5)).count("cut") == 1
    same = topics.recoded(topics.spec.tokenizer)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(same.train.features, topics.train.features)
    assert same.notes == topics.notes


def test_a_tokenizer_that_knows_too_little_is_said() -> None:
    frame = pl.DataFrame(
        {"text": [f"w{place} w{place + 1} x{place}" for place in range(60)], "label": ["a", "b"] * 30}
    )
    note = next(
        note for note in prepare_text(frame, tokenizer="words").notes if note.about["kind"] == "unknown"
    )
    assert note.about["share"] > 0.1


def test_texts_and_settings_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(
        SadariError, match=r"the frame has 4 texts with a label; 5 are the least, hundreds teach"
    ):
        prepare_text(labelled(4))
    with pytest.raises(
        SadariError, match=r"the target label is one class \('a' in all 60 texts\); choose another"
    ):
        prepare_text(labelled(60).with_columns(label=pl.lit("a")))
    with pytest.raises(SadariError, match="the target label has 60 classes in 60 texts, too many to learn"):
        prepare_text(labelled(60).with_columns(label=pl.col("text")))
    with pytest.raises(
        SadariError, match="length=-1, vocabulary=0: neither may be negative; 0 chooses for you"
    ):
        prepare_text(labelled(), length=-1)
    with pytest.raises(SadariError, match="vocabulary=-5 may not be negative"):
        prepare_language(["a", "b", "c"], vocabulary=-5)
    with pytest.raises(
        SadariError, match=r"'wordy' is neither a kind of tokenizer \(words, bpe, unigram, characters\)"
    ):
        prepare_text(labelled(), tokenizer="wordy")


# Language.


def test_a_corpus_becomes_three_streams(grammar: Prepared) -> None:
    prepared = grammar
    assert (prepared.task, prepared.kind) == ("language", "text")
    assert isinstance(prepared.spec, LanguageSpec) and prepared.spec.width == prepared.spec.tokenizer.size
    assert prepared.table.task == "language" and prepared.table.target is None and prepared.table.licence
    streams = parts(prepared)
    documents = list(prepared.table.documents())  # type: ignore[attr-defined]
    for stream, rows in zip(
        streams, (prepared.split.train, prepared.split.validation, prepared.split.test), strict=True
    ):
        first = stream.tokens[: stream.starts[1]]
        assert prepared.spec.tokenizer.decode(first) == documents[rows[0]]
        assert stream.documents == len(rows)
    sizes = np.array([stream.documents for stream in streams]) / prepared.table.rows
    np.testing.assert_allclose(sizes, [0.8, 0.1, 0.1], atol=0.01)
    assert sum(int(stream.bytes.sum()) for stream in streams) == prepared.table.bytes + prepared.table.rows  # type: ignore[attr-defined]


def test_files_of_a_folder_stay_whole() -> None:
    for file in range(20):
        Path("in").mkdir(exist_ok=True)
        Path(f"in/{file}.txt").write_text("".join(f"file {file} line {line}\n" for line in range(10)))
    prepared = prepare_language("in")
    groups = prepared.table.groups  # type: ignore[attr-defined]
    found = [
        set(groups[rows]) for rows in (prepared.split.train, prepared.split.validation, prepared.split.test)
    ]
    assert [len(part) for part in found] == [16, 2, 2] and not found[0] & (found[1] | found[2])


def test_a_large_corpus_goes_to_files_and_is_the_same(
    grammar: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_IN_MEMORY", 1000)
    large = prepare_language("toy-grammar", cache=Path("cache"))
    for one, other in zip(parts(large), parts(grammar), strict=True):
        assert isinstance(one.tokens, np.memmap)
        np.testing.assert_array_equal(one.tokens, other.tokens)
    assert len(list(Path("cache").iterdir())) == 1


def test_a_tokenizer_is_learnt_from_a_part_when_there_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEARNT", 5000)
    seen: list[str] = []

    def learn(texts: Any, kind: Any, size: int) -> Tokenizer:
        seen.extend(texts)
        return train_tokenizer(seen, kind, size)

    monkeypatch.setattr(module, "train_tokenizer", learn)
    prepared = prepare_language("toy-grammar")
    assert 4000 < sum(len(text.encode()) for text in seen) < 6000
    documents = list(prepared.table.documents())  # type: ignore[attr-defined]
    assert documents.index(seen[-1]) > 0.8 * len(documents), "from everywhere in the corpus"


def test_prompts_begin_where_a_document_ends(grammar: Prepared) -> None:
    spec = grammar.spec
    assert isinstance(spec, LanguageSpec)
    prompts = spec.encode_prompts(["", "The cat"])
    assert [prompt[0] for prompt in prompts] == [spec.tokenizer.end] * 2 and len(prompts[0]) == 1
    assert spec.tokenizer.decode(prompts[1]) == "The cat"
    after = LanguageSpec.from_json(spec.to_json(), spec.tokenizer)
    assert after == spec
    with pytest.raises(
        SadariError, match=r"spec.json is no spec of a corpus \(ValueError: task 'classify'\)"
    ):
        LanguageSpec.from_json({"task": "classify"}, spec.tokenizer)


def test_too_few_documents_are_refused_and_few_files_split_by_document() -> None:
    with pytest.raises(
        SadariError, match="the texts is 2 documents; three are the least: part them by empty lines"
    ):
        prepare_language(["one", "two"])
    Path("in").mkdir()
    Path("in/a.txt").write_text("".join(f"line {place}\n" for place in range(50)))
    assert [stream.documents for stream in parts(prepare_language("in"))] == [40, 5, 5]


def test_vocabulary_follows_the_amount_of_text_and_the_task() -> None:
    sizes = (0, 100_000, 1_400_000, 3_000_000, 1_000_000_000)
    assert [vocabulary_size(size, "language") for size in sizes] == [1000, 1000, 1024, 2048, 8000]
    assert [vocabulary_size(size, "classify") for size in sizes] == [1000, 1024, 8000, 8000, 8000]

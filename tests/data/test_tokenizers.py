"""Tokenizers: text comes back to the letter, nothing half is given out, and what is given is understood."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadari.data import toy_text
from sadari.data.tokenizers import SPECIAL, Tokenizer, clean_text, train_tokenizer
from sadari.errors import SadariError

KINDS = ("bpe", "unigram", "words", "characters")
FAMILY = "👨‍👩‍👧‍👦"
TEXTS = [
    "Hello, world! It's 3.14 (pi).  Two spaces\nand a line; “quotes” — dashes.",
    f"가족 {FAMILY} 이모지 👍🏽, 국기 🇰🇷🇺🇸 끝\t자모 ㄱㄴㄷ ☺️ 1️⃣",
    "한국어(Korean)를 섞어 쓰면, 띄어쓰기도 그대로 돌아온다.",
    " leading and trailing ",
    "a text that says <|end|> and <|unknown|> and <0x41>",
    "don't ‘quote’ x_y a\n\n b",
]


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    return {kind: train_tokenizer(TEXTS * 3, kind, 500) for kind in KINDS}  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_training_text_comes_back_to_the_letter(kind: str, tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers[kind]
    for text, tokens in zip(TEXTS, tokenizer.encode(TEXTS), strict=True):
        assert tokenizer.decode(tokens) == text
        assert tokens.dtype == np.int32 and tokens.min() > 2 and tokens.max() < tokenizer.size


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@given(text=st.text())
def test_bytes_hold_any_text(kind: str, text: str, tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers[kind]
    assert tokenizer.decode(tokenizer.encode([text])[0]) == clean_text(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_keeps_everything(kind: str, tokenizers: dict[str, Tokenizer]) -> None:
    before = tokenizers[kind]
    Path("tokenizer.json").write_text(before.to_json(), encoding="utf-8")
    after = Tokenizer.load("tokenizer.json")
    assert (after.kind, after.size, after.unknown, after.start, after.end) == (kind, before.size, 0, 1, 2)
    assert after.fingerprint == before.fingerprint
    for one, other in zip(before.encode(TEXTS), after.encode(TEXTS), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [after.token(place) for place in range(3)] == list(SPECIAL)


@pytest.mark.parametrize("kind", KINDS)
def test_decomposed_text_gives_the_same_tokens(kind: str, tokenizers: dict[str, Tokenizer]) -> None:
    apart = [unicodedata.normalize("NFD", text) for text in TEXTS]
    assert apart != TEXTS
    for one, other in zip(tokenizers[kind].encode(TEXTS), tokenizers[kind].encode(apart), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["bpe", "words", "characters"])
def test_the_same_texts_give_the_same_tokenizer(kind: str, tokenizers: dict[str, Tokenizer]) -> None:
    again = train_tokenizer(TEXTS * 3, kind, 500)  # type: ignore[arg-type]
    assert again.fingerprint == tokenizers[kind].fingerprint


def test_words_and_characters_know_only_what_they_met(tokenizers: dict[str, Tokenizer]) -> None:
    words, characters = tokenizers["words"], tokenizers["characters"]
    assert words.decode(words.encode(["Hello, Zürich, 국기"])[0]) == "Hello, <|unknown|>, 국기"
    assert characters.decode(characters.encode(["가쀍가"])[0]) == "가<|unknown|>가"
    twice = " ".join(f"word{place}" for place in range(20))
    once = train_tokenizer([twice, twice, "lonely"], "words")
    assert once.encode(["lonely word3"])[0].tolist()[0] == once.unknown and once.size == 23
    few = train_tokenizer(["nothing is here twice"], "words")
    assert few.unknown not in few.encode(["twice nothing"])[0], "where nothing repeats, once is enough"


def test_words_keep_case_and_join_an_emoji() -> None:
    tokenizer = train_tokenizer([f"May may {FAMILY} 국기 🇰🇷🇺🇸."] * 2, "words")
    tokens = tokenizer.encode([f"May may {FAMILY} 국기 🇰🇷🇺🇸."])[0]
    shown = [tokenizer.token(token) for token in tokens]
    assert shown == ["May", "may", f"▁{FAMILY.replace(chr(0x200D), '<zwj>')}▁", "국기", "▁🇰🇷", "🇺🇸", "."]


def test_empty_texts_have_no_token_and_special_ones_stand_around(tokenizers: dict[str, Tokenizer]) -> None:
    for tokenizer in tokenizers.values():
        plain, around = tokenizer.encode(["", "world"]), tokenizer.encode(["", "world"], special=True)
        assert len(plain[0]) == 0 and around[0].tolist() == [tokenizer.start, tokenizer.end]
        assert around[1].tolist() == [tokenizer.start, *plain[1], tokenizer.end]
        assert tokenizer.decode(around[1]) == tokenizer.decode(plain[1])
        assert tokenizer.decode([*plain[1], -1, -1]) == tokenizer.decode(plain[1])  # padding says nothing


def test_a_text_cannot_write_special_tokens(tokenizers: dict[str, Tokenizer]) -> None:
    for tokenizer in tokenizers.values():
        tokens = tokenizer.encode(["says <|end|> and"])[0]
        assert tokenizer.end not in tokens and tokenizer.decode(tokens) == "says <|end|> and"


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_surrogate_pair_is_no_letter_and_nul_is_nothing(
    kind: str, tokenizers: dict[str, Tokenizer]
) -> None:
    odd, clean = tokenizers[kind].encode(["x \ud83d y\0", "x � y"])
    np.testing.assert_array_equal(odd, clean)


# What is given out while a text is written.


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(st.sampled_from("가각힣ab 👩🏽‍👧🇰🇷☺️é1️⃣\n.")))
def test_a_stream_says_what_decoding_says_and_nothing_half(
    kind: str, text: str, tokenizers: dict[str, Tokenizer]
) -> None:
    tokenizer = tokenizers[kind]
    tokens = tokenizer.encode([text])[0]
    stream = tokenizer.stream()
    said = [stream.add(int(token)) for token in tokens]
    last = stream.end()
    assert "".join(said) + last == tokenizer.decode(tokens)
    assert not any("�" in part for part in said)
    for before, after in pairwise([*said, last]):
        assert not (before.endswith("\u200d") and after), "a joiner waits for what it joins"


def test_a_syllable_comes_when_its_last_byte_has_come() -> None:
    tokenizer = train_tokenizer(["abc"], "bpe", 300)  # three bytes a syllable
    stream = tokenizer.stream()
    said = [stream.add(int(token)) for token in tokenizer.encode(["한글"])[0]]
    assert said == ["", "", "한", "", "", "글"]
    assert [tokenizer.token(int(token)) for token in tokenizer.encode(["한"])[0]] == ["<ed>", "<95>", "<9c>"]


def test_an_emoji_waits_for_the_joiner() -> None:
    tokenizer = train_tokenizer(TEXTS, "characters")
    stream = tokenizer.stream()
    said = [stream.add(int(token)) for token in tokenizer.encode([f"{FAMILY}가🇰🇷🇺🇸👍🏽a"])[0]]
    assert [part for part in said if part] == [f"{FAMILY}가", "🇰🇷", "🇺🇸", "👍🏽a"]
    assert stream.end() == ""


def test_bytes_that_are_no_text_become_one_sign_at_their_end() -> None:
    tokenizer = train_tokenizer(["abc"], "bpe", 300)
    syllable = tokenizer.encode(["한"])[0].tolist()
    a = tokenizer.encode(["a"])[0].tolist()
    stream = tokenizer.stream()
    assert [stream.add(token) for token in [*syllable[:2], *syllable[:1], *syllable[2:], *a]] == [
        "",
        "",
        "",
        "",
        "�a",
    ]
    assert [stream.add(token) for token in syllable[:2]] == ["", ""] and stream.end() == "�"
    assert tokenizer.decode([*syllable[:2], *syllable]) == "�한"


def test_a_stream_may_be_used_again(tokenizers: dict[str, Tokenizer]) -> None:
    stream = tokenizers["words"].stream()
    token = int(tokenizers["words"].encode(["world"])[0][0])
    assert (stream.add(token), stream.end(), stream.add(token)) == ("world", "", "world")


def test_a_number_beyond_the_vocabulary_is_no_token(tokenizers: dict[str, Tokenizer]) -> None:
    with pytest.raises(
        SadariError, match=r"9999 is no token of this tokenizer, which has [\d,]+; give its own"
    ):
        tokenizers["bpe"].decode([9999])


# Training.


def test_a_word_of_a_megabyte_trains_and_encodes() -> None:
    long = "ab" * 150_000
    for kind in KINDS:
        tokenizer = train_tokenizer([long, "hello hello"], kind, 600)  # type: ignore[arg-type]
        tokens = tokenizer.encode([long])[0]
        assert len(tokens) == 1 if kind == "words" else tokenizer.decode(tokens) == long


def test_rare_characters_of_many_leave_room_for_pieces() -> None:
    rare = "".join(chr(0xAC00 + place) for place in range(3000))
    tokenizer = train_tokenizer([*toy_text.grammar(300)["text"], rare], "unigram", 600)
    assert tokenizer.size <= 600
    assert tokenizer.decode(tokenizer.encode([rare])[0]) == rare
    assert len(tokenizer.encode(["The cats follow the river."])[0]) <= 12


def test_settings_and_texts_that_make_no_tokenizer_are_refused() -> None:
    with pytest.raises(SadariError, match="'wordpiece' is not a kind of tokenizer; choose from words, bpe"):
        train_tokenizer(TEXTS, "wordpiece")  # type: ignore[arg-type]
    with pytest.raises(
        SadariError, match="a vocabulary of 100 tokens is none for bpe; choose 260 to 1,000,000"
    ):
        train_tokenizer(TEXTS, "bpe", 100)
    with pytest.raises(SadariError, match="the texts are empty, so no tokenizer can be learnt"):
        train_tokenizer(["", " \n"], "bpe")


# Tokenizers of others.


def given_json(**changes: object) -> str:
    """A small tokenizer as another program writes it: lower-cased pieces, [CLS] before and [SEP] behind."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "##s", ",", "un", "##know", "##n"]
    special = [
        {
            "id": id,
            "content": word,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for id, word in enumerate(words[:4])
    ]
    around = {
        "type": "BertProcessing",
        "sep": ["[SEP]", 3],
        "cls": ["[CLS]", 2],
    }
    content = {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 4},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": special,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": around,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: id for id, word in enumerate(words)},
        },
    }
    return json.dumps({**content, **changes})


def test_a_given_tokenizer_maps_its_own_special_tokens() -> None:
    tokenizer = Tokenizer.from_json(given_json())
    assert (tokenizer.kind, tokenizer.size) == ("given", 11)
    assert (tokenizer.unknown, tokenizer.start, tokenizer.end) == (1, 2, 3)
    plain, around = (
        tokenizer.encode(["Hello worlds, Hello worlds"], special)[0].tolist() for special in (False, True)
    )
    assert plain == [4, 5, 6, 7, 4, 5, 6], "neither cut nor filled up, whatever its file says"
    assert around == [2, *plain, 3]
    assert tokenizer.decode(around) == "hello worlds, hello worlds"
    stream = tokenizer.stream()
    said = [stream.add(token) for token in around]
    assert "".join(said) + stream.end() == "hello worlds, hello worlds" and said[3] == ""


def test_files_that_are_no_tokenizer_are_refused() -> None:
    with pytest.raises(SadariError, match=r"the tokenizer none.json cannot be read \(No such file"):
        Tokenizer.load("none.json")
    Path("bad.json").write_bytes(b"\xff\xfe")
    with pytest.raises(SadariError, match=r"cannot be read \(it is no UTF-8 text\); give a tokenizer.json"):
        Tokenizer.load("bad.json")
    with pytest.raises(SadariError, match=r"the tokenizer is no tokenizer \(.*\); give a tokenizer.json"):
        Tokenizer.from_json('{"a": 1}')
    bare = json.loads(given_json(added_tokens=[], post_processor=None))
    bare["model"]["vocab"] = {"[UNK]": 0, "hello": 1}
    with pytest.raises(SadariError, match=r"the tokenizer has no token that ends a text; add one of \[SEP\]"):
        Tokenizer.from_json(json.dumps(bare))


def test_a_fork_says_nothing_of_parallelism() -> None:
    code = (
        "import os\nfrom sadari.data.tokenizers import train_tokenizer\n"
        "t = train_tokenizer(['a b'] * 9, 'words'); t.encode(['a b'] * 9)\n"
        "pid = os.fork()\nif pid == 0:\n    os._exit(0 if len(t.encode(['a b'] * 9)) == 9 else 1)\n"
        "assert os.waitpid(pid, 0)[1] == 0"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

"""Text to numbers and back: tokenizers trained on the user's own text, or given as a `tokenizer.json`.

kind          a token is                                            unknown
`bpe`         a piece of bytes that often stand together (default)  nothing: every byte is a token
`unigram`     a piece of a word from the likeliest cut              nothing: what is in no piece is bytes
`words`       a word, or a sign with the spaces around it           words met once in training
`characters`  a character; in Korean a syllable                     characters not met in training

All read NFC, so that text typed on a Mac (NFD) gives the same tokens, and all give trained text back to the
letter, but for what is unknown. Case is kept: without it no text comes back, and a capital tells a name from
a word. The library's own file format is the only one: what is saved here opens in any program that uses it.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from sadari.errors import SadariError

if TYPE_CHECKING:
    import tokenizers
    from jaxtyping import Int32

# The library warns when a process forks after it has used threads; a child that keeps to one thread is safe.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: os.environ.__setitem__("TOKENIZERS_PARALLELISM", "false"))

Kind = Literal["words", "bpe", "unigram", "characters"]
PAD = -1
"""Fills up the right of shorter texts; no token of any tokenizer."""
SPECIAL = ("<|unknown|>", "<|start|>", "<|end|>")
"""Our special tokens; their places are their numbers."""
LARGEST = 1_000_000
_BLOCK = 1 << 21  # characters handed to the library at once: its own notes take a hundred bytes a token
_LONGEST_WORD = 256  # characters of a word in training; what is longer is no word, and costs time squared
_BROKEN = "�"
_JOINER = "\u200d"

_LETTER = r"[\p{L}\p{M}\p{N}_]"
_SIGNS = r"\x{FE0E}\x{FE0F}\x{20E3}"  # marks that make an emoji of the sign before them
_END_OF_WORD = rf"[[\p{{L}}\p{{M}}\p{{N}}_]&&[^{_SIGNS}]]"
_TAIL = rf"[\p{{Sk}}{_SIGNS}\x{{E0020}}-\x{{E007F}}]*"  # skin tone, variation, letters of a region's flag
_EMOJI = rf"(?:[\x{{1F1E6}}-\x{{1F1FF}}]{{2}}|\p{{So}}{_TAIL}(?:\x{{200D}}\p{{So}}{_TAIL})*)"
_BETWEEN_WORDS = rf"(?<={_END_OF_WORD}) (?={_END_OF_WORD})"
_WORD = rf"{_LETTER}+(?:['’]\p{{L}}+)*| ?(?:{_EMOJI}|[^\s\p{{L}}\p{{M}}\p{{N}}_]) ?|\s+"
_PIECE = r" ?\p{L}[\p{L}\p{M}]*| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"  # of `unigram`: a word with its space

# What the special tokens are called in the files of others, in order of preference.
_UNKNOWN = ("[UNK]", "<unk>", "<|unk|>", "<UNK>", "<|unknown|>")
_START = ("[CLS]", "<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "<|endoftext|>", "<|start|>")
_END = ("[SEP]", "</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "<|end|>")


class Tokenizer:
    """Cuts texts into tokens 0 to `size` - 1, and puts tokens together to text."""

    def __init__(self, library: tokenizers.Tokenizer, kind: str, special: tuple[int | None, int, int]):
        """Use `train_tokenizer`, `from_json` or `load`."""
        self._library = library
        self.kind = kind
        """words, bpe, unigram, characters, or given."""
        self.unknown, self.start, self.end = special
        self.size = 1 + max(library.get_vocab(with_added_tokens=True).values())
        """V, special tokens included."""
        library.encode_special_tokens = True  # a text that says <|end|> means the letters
        library.no_padding()
        library.no_truncation()

    def encode(self, texts: Sequence[str], special: bool = False) -> list[Int32[np.ndarray, " T"]]:
        """The tokens of each text; an empty text has none. `special` puts start before and end behind.

        A given tokenizer puts its own special tokens where its file says. Half a surrogate pair, which is no
        character, counts as U+FFFD.
        """
        out: list[np.ndarray] = []
        own = special and self.kind == "given" and self._library.post_processor is not None
        for block in _blocks(texts):
            for found in self._library.encode_batch_fast(block, add_special_tokens=own):
                ids = np.array(found.ids, np.int32)
                out.append(
                    np.concatenate([[self.start], ids, [self.end]], dtype=np.int32)
                    if special and not own
                    else ids
                )
        return out

    def encode_flat(self, texts: Sequence[str], kind: type, end: int) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of clean texts one after another, `end` behind each, and how many each has with it.

        For millions of documents: one array, and no more of them.
        """
        tokens, lengths = array("I"), array("q")
        for found in self._library.encode_batch_fast(list(texts), add_special_tokens=False):
            ids = found.ids
            ids.append(end)
            tokens.extend(ids)
            lengths.append(len(ids))
        return np.frombuffer(tokens, np.uintc).astype(kind), np.frombuffer(lengths, np.int64)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """From where to where in a clean text each of its tokens stands."""
        return self._library.encode(text, add_special_tokens=False).offsets

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the tokens, without start, end and padding. See `stream` for bytes that are no text."""
        return self.stream().all(ids)

    def stream(self) -> TextStream:
        """To be given tokens one by one as they are generated."""
        return TextStream(self)

    def token(self, id: int) -> str:
        """The token to be looked at: spaces as ▁, ends of lines as ↵, bytes that are no letter as <ea b0>."""
        if id in self._special:
            return self._special[id]
        content = self._contents[id]
        if content is None:
            return (self._library.id_to_token(id) or "").replace(" ", "▁")
        return "".join(_shown(content))

    def to_json(self) -> str:
        """The content of a `tokenizer.json`."""
        return self._library.to_str(pretty=False)

    @classmethod
    def from_json(cls, text: str, name: str = "the tokenizer") -> Tokenizer:
        """The tokenizer that `to_json` wrote, or one of another program.

        Raises SadariError when the text is no tokenizer, or has no token that ends a text.
        """
        import tokenizers

        try:
            library = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing more particular
            raise SadariError(
                f"{name} is no tokenizer ({str(error)[:100]}); give a tokenizer.json"
            ) from error
        if [library.id_to_token(place) for place in range(3)] == list(SPECIAL):
            return cls(library, _kind(library), (0, 1, 2))
        vocabulary = library.get_vocab(with_added_tokens=True)
        unknown, start, end = (
            next((vocabulary[token] for token in names if token in vocabulary), None)
            for names in (_UNKNOWN, _START, _END)
        )
        if end is None:
            raise SadariError(f"{name} has no token that ends a text; add one of {', '.join(_END)}")
        return cls(library, "given", (unknown, end if start is None else start, end))

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """A tokenizer from its file. Raises SadariError when there is none or it cannot be used."""
        try:
            text = Path(path).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no UTF-8 text"
            raise SadariError(
                f"the tokenizer {path} cannot be read ({why}); give a tokenizer.json"
            ) from error
        return cls.from_json(text, str(path))

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal digest of all that decides how texts become tokens."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @cached_property
    def _special(self) -> dict[int, str]:
        """Tokens that stand for no text, by number."""
        special = {
            id: str(token.content)
            for id, token in self._library.get_added_tokens_decoder().items()
            if token.special
        }
        for id in (self.unknown, self.start, self.end):
            if id is not None:
                special.setdefault(id, self._library.id_to_token(id) or "")
        return special

    @cached_property
    def _contents(self) -> list[bytes | None]:
        """The bytes of each token's text; None where only the library knows how tokens become text."""
        said = self._library.decoder.__class__.__name__ if self._library.decoder else ""
        added = self._library.get_added_tokens_decoder()
        contents: list[bytes | None] = [None] * self.size
        for token, id in self._library.get_vocab(with_added_tokens=True).items():
            if id in added or self.kind in ("words", "characters"):
                contents[id] = token.encode()
            elif said == "ByteLevel":
                contents[id] = bytes(_BYTE.get(letter, 0x3F) for letter in token)
            elif self.kind == "unigram":
                byte = re.fullmatch("<0x([0-9A-F]{2})>", token)
                contents[id] = bytes.fromhex(byte[1]) if byte else token.encode()
        return contents

    @cached_property
    def _edges(self) -> np.ndarray:
        """(V, 2) of `words`: whether a token begins and ends as a word; between two words goes a space."""
        contents = [(content or b"").decode() for content in self._contents]
        edges = [(_is_word(content[:1]), _is_word(content[-1:])) for content in contents]
        edges[0] = (True, True)  # the unknown token is a word most of the time
        return np.array(edges)


class TextStream:
    """Tokens to text as they come: what is given out is whole, and never taken back.

    Held back until the next token tells: bytes that begin a letter, jamo that begin a syllable, an emoji that
    a joiner may still extend. Bytes that are no text (a language model may write them) become one U+FFFD for
    all that stand together, once it is known that they end. Text of the unknown token is `<|unknown|>`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes, self._text, self._broken, self._word = b"", "", False, False
        self._ids: list[int] = []  # of a tokenizer whose tokens have no text of their own
        self._said = 0

    def add(self, id: int) -> str:
        """Take a token in, and give out what is certain by now."""
        if (content := self._content(id)) is None:
            return self._add_to_words(id)
        self._read(content, final=False)
        whole = _whole(self._text)
        out, self._text = self._text[:whole], self._text[whole:]
        return out

    def all(self, ids: Iterable[int]) -> str:
        """The text of all tokens at once."""
        contents = []
        for id in map(int, ids):
            content = self._content(id)
            if content is None:
                self._ids.append(id)
            else:
                contents.append(content)
        self._read(b"".join(contents), final=False)
        return self.end()

    def _content(self, id: int) -> bytes | None:
        """The bytes of the next token, a space before them where one goes without saying."""
        tokenizer = self._tokenizer
        if id < 0 or (id in tokenizer._special and id != tokenizer.unknown):
            return b""
        if id >= tokenizer.size:
            raise SadariError(
                f"{id} is no token of this tokenizer, which has {tokenizer.size:,}; give its own tokens"
            )
        content = tokenizer._contents[id]
        if content is not None and tokenizer.kind == "words":
            begins, ends = tokenizer._edges[id]
            content = b" " + content if self._word and begins else content
            self._word = bool(ends)
        return content

    def end(self) -> str:
        """What was held back; the stream is as new then."""
        if self._ids:
            out = self._tokenizer._library.decode(self._ids, skip_special_tokens=True)[self._said :]
        else:
            self._read(b"", final=True)
            out = self._text
        self.__init__(self._tokenizer)  # type: ignore[misc]
        return out

    def _add_to_words(self, id: int) -> str:
        """Where only all tokens together make text, its last word may still change."""
        self._ids.append(id)
        text = self._tokenizer._library.decode(self._ids, skip_special_tokens=True)
        whole = max(text.rfind(" "), self._said)
        out, self._said = text[self._said : whole], whole
        return out

    def _read(self, content: bytes, final: bool) -> None:
        """Move bytes to text as far as they are letters."""
        rest = self._bytes + content
        while rest:
            try:
                good, rest, skip = rest.decode(), b"", 0
            except UnicodeDecodeError as error:
                good, rest = rest[: error.start].decode(), rest[error.start :]
                skip = error.end - error.start
                if error.reason == "unexpected end of data" and not final:
                    skip = 0
            if good:
                self._text += _BROKEN * self._broken + good
                self._broken = False
            if not skip:
                break
            self._broken, rest = True, rest[skip:]
        self._bytes = rest
        if final and self._broken:
            self._text += _BROKEN


def train_tokenizer(texts: Iterable[str], kind: Kind = "bpe", size: int = 8000) -> Tokenizer:
    """A tokenizer of at most `size` tokens, learnt from `texts`.

    `bpe` and `unigram` have 256 bytes whatever the size; half of unigram's other tokens may be single
    characters, the most common ones, and what is rarer is written in bytes. The same texts give the same
    tokenizer, but for `unigram`, whose scores the library sums in no fixed order: the third decimal differs.
    Raises SadariError for another kind, a size that holds nothing, and texts without a letter.
    """
    if kind not in get_args(Kind):
        raise SadariError(f"{kind!r} is not a kind of tokenizer; choose from {', '.join(get_args(Kind))}")
    least = {"bpe": 260, "unigram": 300}.get(kind, 4)
    if not least <= size <= LARGEST:
        raise SadariError(
            f"a vocabulary of {size:,} tokens is none for {kind}; choose {least} to {LARGEST:,}"
        )
    clean = [_cut_words(clean_text(text)) for text in texts]
    if not any(text.strip() for text in clean):
        raise SadariError(
            "the texts are empty, so no tokenizer can be learnt from them; give texts with words"
        )
    if kind == "unigram":
        clean = _common(clean, (size - len(SPECIAL) - len(_BYTE)) // 2)
    library = _untrained(kind)
    library.train_from_iterator(clean, _trainer(kind, size, least=2), length=len(clean))
    if kind == "words" and library.get_vocab_size() < len(SPECIAL) + 10:  # next to nothing is met twice
        library = _untrained(kind)
        library.train_from_iterator(clean, _trainer(kind, size, least=1), length=len(clean))
    if kind == "unigram":
        library = _with_bytes(library)
    return Tokenizer(library, kind, (0, 1, 2))


def clean_text(text: str) -> str:
    """The text in NFC, half surrogate pairs as U+FFFD, without NUL: what every text is before it is read."""
    text = unicodedata.normalize("NFC", text).replace("\0", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = re.sub("[\ud800-\udfff]", _BROKEN, text)
    return text


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Clean texts in blocks that the library can hold beside its notes on them."""
    block: list[str] = []
    size = 0
    for text in texts:
        block.append(clean_text(text))
        size += len(text)
        if size >= _BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _cut_words(text: str) -> str:
    """The text with spaces in words that are too long to be words."""
    if len(text) <= _LONGEST_WORD:
        return text
    return re.sub(rf"(\S{{{_LONGEST_WORD}}})(?=\S)", r"\1 ", text)


def _common(texts: list[str], most: int) -> list[str]:
    """The texts with a space for every character that is not among the `most` common."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    rare = {ord(letter): " " for letter, _ in counts.most_common()[most:]}
    return [text.translate(rare) for text in texts] if rare else texts


def _untrained(kind: str) -> tokenizers.Tokenizer:
    """Model, pre-tokenizer and decoder of a kind."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    if kind == "bpe":
        library = Tokenizer(models.BPE())
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        library.decoder = decoders.ByteLevel()
    elif kind == "unigram":
        library = Tokenizer(models.Unigram())
        library.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECE), "isolated")
        library.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    else:
        library = Tokenizer(models.WordLevel(unk_token=SPECIAL[0]))
        library.pre_tokenizer = pre_tokenizers.Split(Regex("(?m:.)"), "isolated")
        if kind == "words":
            library.pre_tokenizer = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(_BETWEEN_WORDS), "removed"),
                    pre_tokenizers.Split(Regex(_WORD), "isolated"),
                ]
            )
        library.decoder = decoders.Fuse()
    library.normalizer = normalizers.NFC()
    return library


def _trainer(kind: str, size: int, least: int) -> Any:
    from tokenizers import pre_tokenizers, trainers

    common: dict[str, Any] = {"vocab_size": size, "special_tokens": list(SPECIAL), "show_progress": False}
    if kind == "bpe":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        return trainers.BpeTrainer(min_frequency=least, initial_alphabet=alphabet, **common)
    if kind == "unigram":
        common["vocab_size"] = size - len(_BYTE)
        return trainers.UnigramTrainer(unk_token=SPECIAL[0], **common)
    return trainers.WordLevelTrainer(min_frequency=least if kind == "words" else 1, **common)


def _with_bytes(library: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same unigram tokenizer with 256 bytes behind its pieces, for letters that are in no piece."""
    import json

    import tokenizers

    content = json.loads(library.to_str())
    pieces = content["model"]["vocab"]
    lowest = min(score for _, score in pieces)
    pieces += [(f"<0x{byte:02X}>", lowest - 10) for byte in range(256)]
    content["model"]["byte_fallback"] = True
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def _kind(library: tokenizers.Tokenizer) -> str:
    """What `train_tokenizer` was asked for when it made this."""
    model = library.model.__class__.__name__
    if model != "WordLevel":
        return model.lower()
    return "words" if library.pre_tokenizer.__class__.__name__ == "Sequence" else "characters"


def _byte_letters() -> dict[str, int]:
    """The 256 visible letters by which byte-level vocabularies (GPT-2's and ours) write bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE = _byte_letters()


def _shown(content: bytes) -> Iterator[str]:
    """Letters, and bytes that are none in angle brackets."""
    while content:
        try:
            yield _visible(content.decode())
            return
        except UnicodeDecodeError as error:
            end = error.start
            while end < len(content) and content[end] >= 0x80 and not _letter_at(content, end):
                end += 1
            end = max(end, error.end)
            yield _visible(content[: error.start].decode()) + f"<{content[error.start : end].hex(' ')}>"
            content = content[end:]


def _visible(text: str) -> str:
    for sign, shown in (" ▁", "\n↵", "\t⇥"):
        text = text.replace(sign, shown)
    return text.replace(_JOINER, "<zwj>")


def _letter_at(content: bytes, place: int) -> bool:
    """Whether a whole letter begins there."""
    for length in (2, 3, 4):
        try:
            content[place : place + length].decode()
            return True
        except UnicodeDecodeError:
            continue
    return False


def _whole(text: str) -> int:
    """How many letters of the text nothing that follows can change the look of."""
    end = len(text)
    while end and "ᄀ" <= text[end - 1] <= "ᇿ":  # conjoining jamo
        end -= 1
    if end < len(text):
        return end
    place = end
    while place and _extends(text[place - 1]):
        place -= 1
    if not place:
        return 0 if text else end
    if unicodedata.category(text[place - 1]) != "So" and text[end - 1] != _JOINER:
        return end
    place -= 1
    flag = place
    while flag and _is_flag(text[flag - 1]) and _is_flag(text[place]):
        flag -= 1
    place -= (place - flag + 1) % 2 == 0  # two letters make a flag
    while place and text[place - 1] == _JOINER:  # joined to the emoji before
        place -= 1
        while place and _extends(text[place - 1]):
            place -= 1
        place = max(0, place - 1)
    return place


def _is_word(letter: str) -> bool:
    """Whether a letter is one of a word, as `_END_OF_WORD` has it."""
    return letter not in ("", "\ufe0e", "\ufe0f", "\u20e3") and (
        letter == "_" or unicodedata.category(letter)[0] in "LMN"
    )


def _extends(letter: str) -> bool:
    """A sign that is part of the emoji before it: joiner, variation, skin tone, keycap, letter of a flag."""
    return (
        letter in "\u200d\ufe0f\ufe0e\u20e3"
        or "\U0001f3fb" <= letter <= "\U0001f3ff"
        or "\U000e0020" <= letter <= "\U000e007f"
    )


def _is_flag(letter: str) -> bool:
    return "\U0001f1e6" <= letter <= "\U0001f1ff"

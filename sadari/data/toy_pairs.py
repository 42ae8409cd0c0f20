"""Pairs made on the spot whose rule is known: what an encoder-decoder can learn, and how far it carries.

toy-reverse  3 17 4 -> 4 17 3: the first word to be written is the last one read; the longer, the harder for
             one vector between reader and writer
toy-sums     12+345 -> 357: the last digit decides first, and a carry goes against the direction of writing
toy-dates    March 5th, 2021 or 2021년 3월 5일 -> 2021-03-05: many spellings, one form

No pair is met twice. Where there are too few different ones, there are fewer rows than asked for.
"""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl

_MONTHS = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)
_DIGITS = "영일이삼사오육칠팔구"
_DRAWN = 1.5  # pairs drawn for one that is kept, since some come twice
_FIRST, _DAYS = date(1900, 1, 1), 73_049  # to the end of 2099


def reverse(rows: int = 52_000, seed: int = 0, *, longest: int = 25, numbers: int = 50) -> pl.DataFrame:
    """Strings of 1 to `longest` whole numbers below `numbers`, and the same from back to front.

    The form of JoeyNMT's reverse task, whose parts have 50,000, 1,000 and 1,000 strings.
    """
    draw = np.random.default_rng(seed)
    names = np.array([str(number) for number in range(numbers)], object)
    lengths = draw.integers(1, longest + 1, int(_DRAWN * rows))
    strings = [list(names[draw.integers(numbers, size=length)]) for length in lengths]
    return _distinct(
        rows, digits=[" ".join(words) for words in strings], reversed=[" ".join(w[::-1]) for w in strings]
    )


def sums(rows: int = 15_000, seed: int = 0, *, digits: int = 3) -> pl.DataFrame:
    """Two numbers of 1 to `digits` digits, short ones nearly as often as long ones, and their sum."""
    draw = np.random.default_rng(seed)
    one, other = draw.integers(10 ** draw.integers(1, digits + 1, (2, int(_DRAWN * rows))))
    written = [f"{a}+{b}" for a, b in zip(one, other, strict=True)]
    return _distinct(rows, sum=written, result=[str(total) for total in one + other])


def dates(rows: int = 12_000, seed: int = 0) -> pl.DataFrame:
    """Days from 1900 to 2099 as people write them, in English and Korean, and as ISO 8601 has them."""
    draw = np.random.default_rng(seed)
    days = [_FIRST + timedelta(days=int(number)) for number in draw.integers(_DAYS, size=int(_DRAWN * rows))]
    spellings = draw.integers(len(_SPELLINGS), size=len(days))
    written = [_SPELLINGS[place](day) for place, day in zip(spellings, days, strict=True)]
    return _distinct(rows, date=written, iso=[day.isoformat() for day in days])


def _distinct(rows: int, **columns: list[str]) -> pl.DataFrame:
    """The first `rows` pairs that differ from all before them."""
    return pl.DataFrame(columns).unique(maintain_order=True).head(rows)


def _ordinal(number: int) -> str:
    ending = "th" if 11 <= number <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _in_words(number: int) -> str:
    """A number below 10,000 in Korean: 2021 is 이천이십일; a leading one goes without saying."""
    out = ""
    for power, name in ((1000, "천"), (100, "백"), (10, "십"), (1, "")):
        digit = number // power % 10
        if digit:
            out += ("" if digit == 1 and name else _DIGITS[digit]) + name
    return out


def _month_in_words(month: int) -> str:
    return {6: "유", 10: "시"}.get(month) or _in_words(month)  # 유월 and 시월 lose a consonant


_SPELLINGS = (
    lambda day: f"{_MONTHS[day.month - 1]} {_ordinal(day.day)}, {day.year}",
    lambda day: f"{day.day} {_MONTHS[day.month - 1]} {day.year}",
    lambda day: f"the {_ordinal(day.day)} of {_MONTHS[day.month - 1]} {day.year}",
    lambda day: f"{_MONTHS[day.month - 1][:3]} {day.day} {day.year}",
    lambda day: f"{day.year}년 {day.month}월 {day.day}일",
    lambda day: f"{_in_words(day.year)}년 {_month_in_words(day.month)}월 {_in_words(day.day)}일",
    lambda day: f"{day.year}. {day.month}. {day.day}.",
)

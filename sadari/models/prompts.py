"""Prompts: the sentences that names of classes are put into before a text tower reads them.

A tower that learnt from captions has met whole sentences, so a name in one is nearer to what it knows;
several average out what each says besides (Radford et al. 2021, 2103.00020, section 3.1.4).

    classes    강아지|개,고양이        commas between classes, | between the names of one
    templates  "{} 사진","{} 그림"     {} where the name stands
    prompts    강아지 사진, 강아지 그림, 개 사진, 개 그림; 고양이 사진, 고양이 그림
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

PLAIN = ("{}",)
# English: the paper's own, and the seven that its authors kept of eighty (openai/CLIP, notebooks/
# Prompt_Engineering_for_ImageNet.ipynb); Korean: the same, without particles that hang on a last letter
TEMPLATES = {
    "plain": PLAIN,
    "en": (
        "a photo of a {}.", "itap of a {}.", "a bad photo of the {}.", "a origami {}.",
        "a photo of the large {}.", "a {} in a video game.", "art of the {}.", "a photo of the small {}.",
    ),
    "ko": (
        "{} 사진", "내가 찍은 {} 사진", "잘 나오지 않은 {} 사진", "종이접기로 만든 {}",
        "커다란 {} 사진", "비디오 게임 속의 {}", "{} 그림", "작은 {} 사진",
    ),
}  # fmt: skip
PROMPTS = ("auto", *TEMPLATES)
"""What `prompts_of` can be asked for."""
_HANGUL = re.compile("[ㄱ-ㆎ가-힣]")


def prompts_of(classes: Sequence[str], prompts: str, templates: Sequence[str] = ()) -> list[list[str]]:
    """What is read for each class: each of its names in each template.

    prompts  plain, en or ko, or auto: the name alone and the templates of its letters' language
    """
    return [
        [
            template.replace("{}", name)
            for name in names_of(written)
            for template in templates or _templates(name, prompts)
        ]
        for written in classes
    ]


def names_of(written: str) -> list[str]:
    """The names of one class, without the spaces around them."""
    return [name.strip() for name in written.split("|") if name.strip()]


def spoken(label: str) -> str:
    """A label as it would be said: `ice_cream` and `ice-cream` are ice cream."""
    return " ".join(re.sub("[_-]+", " ", label).split()) or label


def split(text: str) -> list[str]:
    """What stands between commas; what holds one stands in double quotes."""
    rows = csv.reader([text], skipinitialspace=True)
    return [part for row in rows for part in row if part.strip()]


def joined(parts: Sequence[str]) -> str:
    """The text that `split` takes apart again."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(parts)
    return text.getvalue()


def _templates(name: str, prompts: str) -> tuple[str, ...]:
    if prompts != "auto":
        return TEMPLATES[prompts]
    return (*PLAIN, *TEMPLATES["ko" if _HANGUL.search(name) else "en"])

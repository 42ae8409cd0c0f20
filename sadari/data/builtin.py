"""Data without a file of one's own: bundled tables, generated ones, and sets that `sadari data get` fetches.

One row a set; readers stand in builtin_tables, builtin_text, builtin_pairs, builtin_images and
builtin_captions, makers in the toy files. A row whose reader is not built yet is listed all the same:
`sadari data get NAME` fetches, checks and unpacks it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import polars as pl

from sadari.data import (
    builtin_captions,
    builtin_images,
    builtin_pairs,
    builtin_tables,
    builtin_text,
    fetch,
    toy,
    toy_pairs,
    toy_text,
)
from sadari.errors import SadariError
from sadari.lang import Lang


@dataclass(frozen=True)
class Builtin:
    """One row of `sadari data`."""

    name: str
    """What stands in place of a file's path."""
    kind: str
    """table, text, pairs, images, captions, dialogues, edits, video, or weights (a small trained model)."""
    task: str
    """What it is usually asked for: regress, classify, language, translate ..."""
    rows: int
    """Examples."""
    columns: int
    """Features beside the target; 0 where there are no columns."""
    target: str | None
    """The column to predict."""
    licence: str
    summary: tuple[str, str]
    """One line in English and in Korean."""
    source: str = ""
    """The fetched set that it is read from, where that has another name."""
    tokenizer: str = ""
    """The kind of tokenizer that suits it, where that is not bpe."""
    official_test: int = 0
    """How many of the last rows are the data set's own test split."""
    read: Callable[[Path | None], pl.DataFrame] | None = None
    """Makes the table, given the cache folder; None where only fetching is built."""

    @property
    def fetched(self) -> bool:
        """Whether it comes by `sadari data get` instead of with the installation."""
        return (self.source or self.name) in fetch.SOURCES

    @property
    def how(self) -> str:
        """How to get it: a command, or where it comes from."""
        if self.fetched:
            return f"sadari data get {self.source or self.name}"
        return "comes with scikit-learn" if self.read in _BUNDLED else "made on the spot"

    def say(self, lang: Lang) -> str:
        return self.summary[lang == "ko"]


def open_builtin(name: str, cache: Path | None = None) -> tuple[pl.DataFrame, Builtin]:
    """The raw rows of a built-in table, in their own order, and its description.

    Raises SadariError for a name that is none, a set that is not fetched yet, or one that has no reader.
    """
    if name not in BUILTIN:
        near = get_close_matches(name, BUILTIN, n=3, cutoff=0.5) or list(BUILTIN)[:6]
        raise SadariError(f"no built-in data {name!r}; near it: {', '.join(near)} (`sadari data` lists all)")
    entry = BUILTIN[name]
    if entry.read is None:
        raise SadariError(
            f"{name} holds {entry.kind}, which no rung reads yet; to have its files: sadari data get {name}"
        )
    return entry.read(cache), entry


_BUNDLED = (*builtin_tables.BUNDLED, builtin_images.digits_images)
_BSD, _OURS = "BSD-3-Clause", "Apache-2.0"

# fmt: off
BUILTIN: dict[str, Builtin] = {
    entry.name: entry
    for entry in (
        # Tables that come with scikit-learn.
        Builtin(
            "diabetes", "table", "regress", 442, 10, "progression", _BSD,
            ("Ten measurements of patients, and how far diabetes had gone a year later",
             "환자의 측정값 열 가지와 일 년 뒤 당뇨병의 진행 정도"),
            read=builtin_tables.diabetes,
        ),
        Builtin(
            "linnerud", "table", "regress", 20, 3, "Weight", _BSD,
            ("Three exercises of twenty men, and their weight: too few rows to tell much",
             "남성 스무 명의 운동 기록 세 가지와 몸무게: 결론을 내리기에는 너무 적은 자료"),
            read=builtin_tables.linnerud,
        ),
        Builtin(
            "breast-cancer", "table", "classify", 569, 30, "diagnosis", _BSD,
            ("Thirty measurements of cell nuclei, malignant or benign",
             "세포핵의 측정값 서른 가지와 악성·양성 여부"),
            read=builtin_tables.breast_cancer,
        ),
        Builtin(
            "wine", "table", "classify", 178, 13, "cultivar", _BSD,
            ("Thirteen chemical analyses of wines from three growers",
             "재배자 셋의 포도주를 화학 분석한 값 열세 가지"),
            read=builtin_tables.wine,
        ),
        Builtin(
            "iris", "table", "classify", 150, 4, "species", _BSD,
            ("Four lengths of iris flowers, three species",
             "붓꽃 세 종의 길이 네 가지"),
            read=builtin_tables.iris,
        ),
        Builtin(
            "digits", "table", "classify", 1797, 64, "digit", _BSD,
            ("Handwritten digits, 8 x 8 pixels as 64 columns",
             "손으로 쓴 숫자, 8 x 8 픽셀을 열 64개로"),
            read=builtin_tables.digits,
        ),
        # Tables made on the spot.
        Builtin(
            "mnist1d", "table", "classify", 5000, 40, "digit", _OURS,
            ("Ten digits drawn in one dimension (arXiv 2011.14439): the least task that separates the rungs",
             "1차원으로 그린 숫자 열 개(arXiv 2011.14439): 단들의 차이가 드러나는 가장 작은 과제"),
            official_test=1000, read=lambda _: toy.mnist1d(),
        ),
        Builtin(
            "mnist1d-shuffled", "table", "classify", 5000, 40, "digit", _OURS,
            ("mnist1d with its moments in another order: nothing is lost but which stand side by side",
             "순서를 섞은 mnist1d: 어떤 순간이 서로 이웃하는지 말고는 잃은 것이 없음"),
            official_test=1000, read=lambda _: toy.mnist1d(shuffled=True),
        ),
        Builtin(
            "toy-linear", "table", "regress", 1000, 5, "target", _OURS,
            ("Planted truth: a weighted sum of all features, and noise",
             "정답을 심은 자료: 모든 특성의 가중합과 잡음"),
            read=lambda _: toy.planted("linear"),
        ),
        Builtin(
            "toy-product", "table", "regress", 1000, 5, "target", _OURS,
            ("Planted truth: the product of two features, which no line sees, and noise",
             "정답을 심은 자료: 직선이 보지 못하는 두 특성의 곱과 잡음"),
            read=lambda _: toy.planted("product"),
        ),
        Builtin(
            "toy-noise", "table", "regress", 1000, 5, "target", _OURS,
            ("Planted truth: none, the target knows nothing of the features",
             "정답을 심은 자료: 목표값이 특성과 아무 관계가 없음"),
            read=lambda _: toy.planted("noise"),
        ),
        Builtin(
            "toy-wave", "table", "regress", 300, 1, "y", _OURS,
            ("One feature and a bent curve, to look at how each rung bends",
             "특성 하나와 굽은 곡선: 단마다 곡선이 얼마나 휘는지 보는 자료"),
            read=lambda _: toy.wave(),
        ),
        Builtin(
            "toy-circle", "table", "classify", 600, 2, "side", _OURS,
            ("A ring around a ring",
             "고리를 둘러싼 고리"),
            read=lambda _: toy.plane("circle"),
        ),
        Builtin(
            "toy-moons", "table", "classify", 600, 2, "side", _OURS,
            ("Two crescents that interlock",
             "맞물린 초승달 두 개"),
            read=lambda _: toy.plane("moons"),
        ),
        Builtin(
            "toy-spiral", "table", "classify", 600, 2, "side", _OURS,
            ("Two spiral arms",
             "나선 팔 두 개"),
            read=lambda _: toy.plane("spiral"),
        ),
        # Texts made on the spot.
        Builtin(
            "toy-topics", "text", "classify", 900, 0, "topic", _OURS,
            ("Three topics told by their words, in Korean and English: a bag of words is enough",
             "낱말이 알려 주는 세 주제(한국어와 영어): 낱말을 세기만 해도 맞히는 글"),
            read=lambda _: toy_text.topics(),
        ),
        Builtin(
            "toy-order", "text", "classify", 1200, 0, "order", _OURS,
            ("Pairs of texts with the same words in another order: a bag of words is at chance",
             "낱말은 같고 차례만 다른 글의 짝: 낱말을 세어서는 맞힐 수 없는 글"),
            read=lambda _: toy_text.order(),
        ),
        Builtin(
            "toy-recall", "text", "classify", 1200, 0, "season", _OURS,
            ("The first word tells, sixty others follow: to see who remembers it",
             "첫 낱말이 답이고 예순 낱말이 뒤따르는 글: 끝까지 기억하는지 보는 자료"),
            read=lambda _: toy_text.recall(),
        ),
        Builtin(
            "toy-grammar", "text", "language", 3000, 0, None, _OURS,
            ("Sentences of a small grammar, in Korean and English",
             "작은 문법으로 지은 한국어와 영어 문장"),
            read=lambda _: toy_text.grammar(),
        ),
        # Pairs made on the spot.
        Builtin(
            "toy-reverse", "pairs", "translate", 52000, 0, "reversed", _OURS,
            ("Strings of 1 to 25 numbers, to be written from back to front",
             "수 1~25개를 뒤에서부터 거꾸로 쓰는 과제"),
            read=lambda _: toy_pairs.reverse(), tokenizer="words",
        ),
        Builtin(
            "toy-sums", "pairs", "translate", 14658, 0, "result", _OURS,
            ("Two numbers of up to three digits, and their sum",
             "세 자리 이하의 두 수와 그 합"),
            read=lambda _: toy_pairs.sums(), tokenizer="characters",
        ),
        Builtin(
            "toy-dates", "pairs", "translate", 12000, 0, "iso", _OURS,
            ("Dates as people write them in English and Korean, to be written as 2021-03-05",
             "영어와 한국어로 적은 날짜를 2021-03-05 꼴로 쓰는 과제"),
            read=lambda _: toy_pairs.dates(), tokenizer="characters",
        ),
        # Sets that are fetched.
        Builtin(
            "diamonds", "table", "regress", 53940, 9, "price", "GPL-2.0 (ggplot2), MIT (package)",
            ("Prices of diamonds by weight, cut, colour, clarity and size",
             "무게, 세공, 색, 투명도, 크기에 따른 다이아몬드 값"),
            read=builtin_tables.diamonds,
        ),
        Builtin(
            "wiki", "text", "classify", 9033, 0, "topic", "CC-BY-SA-4.0",
            ("Summaries of English Wikipedia articles in 11 topics",
             "11개 주제의 영어 위키백과 요약문"),
            read=builtin_text.wiki,
        ),
        Builtin(
            "wiki-text", "text", "language", 10033, 0, None, "CC-BY-SA-4.0",
            ("Titles and summaries of English Wikipedia articles, to learn English from",
             "영어를 배우는 자료: 영어 위키백과의 제목과 요약문"),
            source="wiki", read=builtin_text.wiki_text,
        ),
        Builtin(
            "reviews", "text", "classify", 14178, 0, "rating", "MIT",
            ("Snippets of film and product reviews in English, rated by people",
             "사람이 긍정·부정을 매긴 영어 영화평과 상품평"),
            read=builtin_text.reviews,
        ),
        Builtin(
            "help-ko", "text", "classify", 2540, 0, "application", "MPL-2.0",
            ("Help pages of an office suite in Korean, by application",
             "사무용 프로그램의 한국어 도움말과 그 프로그램"),
            source="libreoffice-help", read=builtin_text.help_ko,
        ),
        Builtin(
            "help-en", "text", "classify", 2540, 0, "application", "MPL-2.0",
            ("Help pages of an office suite in English, by application",
             "사무용 프로그램의 영어 도움말과 그 프로그램"),
            source="libreoffice-help", read=builtin_text.help_en,
        ),
        Builtin(
            "help-ko-text", "text", "language", 2540, 0, None, "MPL-2.0",
            ("Help pages of an office suite, to learn Korean from",
             "한국어를 배우는 자료: 사무용 프로그램 도움말"),
            source="libreoffice-help", read=builtin_text.help_ko_text,
        ),
        Builtin(
            "help-en-text", "text", "language", 2540, 0, None, "MPL-2.0",
            ("Help pages of an office suite, to learn English from",
             "영어를 배우는 자료: 사무용 프로그램 도움말"),
            source="libreoffice-help", read=builtin_text.help_en_text,
        ),
        Builtin(
            "homeassistant-ko", "text", "language", 1149, 0, None, "Apache-2.0",
            ("Interface strings of home automation, to learn Korean from",
             "한국어를 배우는 자료: 홈 오토메이션의 화면 문구"),
            source="homeassistant", read=builtin_text.homeassistant_ko,
        ),
        Builtin(
            "korean-law", "text", "language", 238, 0, None, "GPL-3.0-or-later",
            ("The constitution of Korea and ten bills, in Korean",
             "대한민국 헌법과 법률안 열 건"),
            read=builtin_text.korean_law,
        ),
        Builtin(
            "homeassistant", "pairs", "translate", 35356, 0, "ko", "Apache-2.0",
            ("Interface strings in English and Korean",
             "영어와 한국어로 된 화면 문구"),
            read=builtin_pairs.homeassistant,
        ),
        Builtin(
            "help-pairs", "pairs", "translate", 17844, 0, "ko", "MPL-2.0",
            ("Help pages of an office suite in English and Korean, real prose",
             "사무용 프로그램 도움말의 영어와 한국어 문장"),
            source="libreoffice-help", read=builtin_pairs.help_pairs,
        ),
        Builtin(
            "help-questions", "pairs", "translate", 11339, 0, "paragraph", "MPL-2.0",
            ("Headings of help pages and the paragraph that answers, in English and Korean",
             "도움말의 제목과 그에 답하는 문단(영어와 한국어)"),
            source="libreoffice-help", read=builtin_pairs.help_questions,
        ),
        Builtin(
            "wiki-summaries", "pairs", "translate", 9862, 0, "summary", "CC-BY-SA-4.0",
            ("Summaries of English Wikipedia articles and their description in a line",
             "영어 위키백과 요약문과 한 줄 설명"),
            source="wiki", read=builtin_pairs.wiki_summaries,
        ),
        Builtin(
            "erpnext-ko", "pairs", "translate", 8702, 0, "ko", "MIT",
            ("Business strings in English and Korean, partly made by machine: noise to clean",
             "영어와 한국어로 된 업무 문구, 일부는 기계 번역: 정제 연습용"),
            read=builtin_pairs.erpnext_ko,
        ),
        Builtin(
            "mnist", "images", "classify", 10000, 0, "digit", "MIT",
            ("Handwritten digits, 28 x 28",
             "손으로 쓴 숫자, 28 x 28"),
            read=builtin_images.mnist,
        ),
        Builtin(
            "digits-images", "images", "classify", 1797, 0, "digit", _BSD,
            ("Handwritten digits as the pictures they are, 8 x 8",
             "손으로 쓴 숫자를 그림 그대로, 8 x 8"),
            read=builtin_images.digits_images,
        ),
        Builtin(
            "emoji", "images", "classify", 8668, 0, "category", "CC-BY-4.0, CC-BY-SA-4.0, Apache-2.0, MIT",
            ("1,914 emoji drawn by five artists, by category; an emoji stays in one part",
             "다섯 작가가 그린 이모지 1,914개와 그 분류; 한 이모지는 한쪽에만 속함"),
            source="emoji-artists", read=builtin_images.emoji,
        ),
        Builtin(
            "openmoji", "captions", "match", 3944, 0, None, "CC-BY-SA-4.0 pictures, BSD-3-Clause names",
            ("Emoji drawings with their names in English and Korean; skin tones make edits",
             "이모지 그림과 영어·한국어 이름; 피부색은 편집 과제가 됨"),
            read=builtin_captions.openmoji,
        ),
        Builtin(
            "emoji-captions", "captions", "match", 8668, 0, None, "CC-BY-4.0, CC-BY-SA-4.0, Apache-2.0, MIT",
            ("1,914 emoji drawn by five artists, with names and keywords in English and Korean",
             "다섯 작가가 그린 이모지 1,914개와 영어·한국어 이름, 핵심어"),
            source="emoji-artists", read=builtin_captions.emoji_captions,
        ),
        Builtin(
            "easy-vqa", "dialogues", "converse", 48248, 0, None, "MIT",
            ("Questions and answers about 5,000 pictures of coloured shapes",
             "색 도형 그림 5,000장에 관한 질문과 대답"),
        ),
        Builtin(
            "carphone", "video", "magnify", 4, 0, None, "BSD-3-Clause",
            ("Short test videos of video research, to look at only",
             "영상 연구에 쓰이는 짧은 시험 영상, 보기만 하는 자료"),
        ),
        Builtin(
            "efficientnet-lite0", "weights", "classify", 0, 0, None, "Apache-2.0",
            ("An image encoder with 4.65 M parameters, trained on ImageNet",
             "ImageNet으로 학습한 매개변수 465만 개의 그림 인코더"),
        ),
        Builtin(
            "minilm", "weights", "classify", 0, 0, None, "Apache-2.0",
            ("A sentence encoder for English (all-MiniLM-L6-v2); it does not know Korean",
             "영어 문장 인코더(all-MiniLM-L6-v2); 한국어는 모름"),
        ),
    )
}
# fmt: on

"""What the report says, in both languages, and how it writes numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from sadari.lang import Lang, in_unit, unit_of
from sadari.metrics import METRICS, Metric

# What is paid for by the token where a language is scored by the document.
PRICED = ("macs", "microseconds_per_example", "microseconds_at_256", "price axis")
TEXTS = {
    "title": ("Climb of {name}", "{name} 등반 보고서"),
    "about": (
        "{name} · predicts “{target}” ({task}) · {rows:,} rows",
        "{name} · “{target}” 예측({task}) · {rows:,}행",
    ),
    "about of texts": (
        "{name} · tells “{target}” ({task}) · {rows:,} texts",
        "{name} · “{target}” 맞히기({task}) · 글 {rows:,}편",
    ),
    "about of a language": (
        "{name} · foretells the next token ({task}) · {rows:,} documents",
        "{name} · 다음 토큰 맞히기({task}) · 문서 {rows:,}편",
    ),
    "about of pictures": (
        "{name} · tells “{target}” ({task}) · {rows:,} pictures",
        "{name} · “{target}” 맞히기({task}) · 그림 {rows:,}장",
    ),
    "about of captions": (
        "{name} · brings pictures and captions together ({task}) · {rows:,} pictures",
        "{name} · 그림과 설명 짝짓기({task}) · 그림 {rows:,}장",
    ),
    "answer": ("the answer", "답"),
    "ladder": ("The ladder", "사다리"),
    "ladder lead": (
        "Each rung was trained on the same {train:,} rows within {budget} and scored on the same {test:,} "
        "test rows that none of them had seen. A dot is the {metric}, its bar the 95% interval.",
        "모든 단을 같은 {train:,}행으로 {budget} 안에서 훈련하고, 아무도 본 적 없는 같은 시험 "
        "{test:,}행으로 채점했습니다. 점은 {metric}, 막대는 95% 구간입니다.",
    ),
    "ladder lead of pictures": (
        "Each rung was trained on the same {train:,} pictures within {budget} and scored on the same "
        "{test:,} test pictures that none of them had seen. A dot is the {metric}, its bar the 95% interval.",
        "모든 단을 같은 그림 {train:,}장으로 {budget} 안에서 훈련하고, 아무도 본 적 없는 같은 시험 그림 "
        "{test:,}장으로 채점했습니다. 점은 {metric}, 막대는 95% 구간입니다.",
    ),
    "steps budget": ("{count:,} steps", "{count:,}걸음"),
    "seconds budget": ("{count:g} seconds", "{count:g}초"),
    "worse": ("worse", "나쁨"),
    "better": ("better", "좋음"),
    "ladder alt": (
        "{name}: {metric} {score}, 95% interval {low} to {high}",
        "{name}: {metric} {score}, 95% 구간 {low}~{high}",
    ),
    "judge name": ("gradient boosting", "그래디언트 부스팅"),
    "judge name of texts": ("tf-idf with logistic regression", "tf-idf와 로지스틱 회귀 조합"),
    "judge name of a language": ("an interpolated Kneser-Ney n-gram", "크네저-나이 n-gram"),
    "judge better": (
        "Outside the ladder, {judge} does better than {rung} by {gain} (better with a probability of "
        "{better}): there is something in the data that this ladder did not find.",
        "사다리 밖의 {judge}은 {rung} 단보다 {gain} 낫습니다(나을 확률 {better}). 데이터에 이 사다리가 찾지 "
        "못한 것이 남아 있습니다.",
    ),
    "judge equal": (
        "Outside the ladder, {judge} and {rung} cannot be told apart on these rows (difference {gain}, 95% "
        "interval {low} to {high}).",
        "사다리 밖의 {judge}과 {rung} 단은 이 행들로는 우열을 가릴 수 없습니다(차이 {gain}, 95% 구간 {low} "
        "~ {high}).",
    ),
    "judge worse": (
        "Outside the ladder, {judge} does worse than {rung} by {gain}: the ladder is not flattered by weak "
        "company.",
        "사다리 밖의 {judge}은 {rung} 단보다 {gain} 못합니다. 비교 상대가 약해서 좋아 보이는 것이 아닙니다.",
    ),
    "scores": ("Scores", "점수"),
    "scores lead": (
        "Gains are paired: both rungs answer the same rows. Above 0 is better, and the probability counts "
        "how often it stays better when the rows are drawn again.",
        "차이는 같은 행끼리 짝지어 잽니다. 0보다 크면 더 좋은 것이고, 확률은 행을 다시 뽑아도 더 좋은 "
        "비율입니다.",
    ),
    "rung": ("rung", "단"),
    "interval": ("{low} to {high}", "{low} ~ {high}"),
    "gain below": ("gain over the rung below", "아래 단보다"),
    "gain best": ("against the best ({best})", "가장 좋은 단({best})과 비교"),
    "probability": ("better with {better}", "나을 확률 {better}"),
    "is best": ("the best", "가장 좋음"),
    "price": ("Price", "값"),
    "price lead": (
        "What each rung costs to keep, to train and to ask.",
        "단마다 간직하고, 훈련하고, 물어보는 데 드는 값입니다.",
    ),
    "parameters": ("parameters", "매개변수"),
    "macs": ("multiply-adds a row", "행당 곱셈-덧셈"),
    "train_seconds": ("training", "훈련"),
    "microseconds_per_example": ("a row, one at a time", "한 행씩 물을 때"),
    "microseconds_at_256": ("a row, 256 at a time", "256행씩 물을 때"),
    "bytes": ("on disk", "디스크"),
    "peak_memory": ("memory to train", "훈련 메모리"),
    "price chart": ("What a better score costs", "더 나은 점수의 값"),
    "price axis": ("microseconds a row, one at a time", "한 행씩 물을 때 행당 마이크로초"),
    "price caption": (
        "Up is better, left is cheaper; each step to the right of the scale is ten times the time.",
        "위일수록 좋고 왼쪽일수록 쌉니다. 눈금 한 칸마다 시간이 열 배입니다.",
    ),
    "sizes chart": ("More data, or a taller rung?", "더 많은 데이터일까, 더 높은 단일까?"),
    "sizes axis": ("training rows", "훈련 행 수"),
    "sizes caption": (
        "{metric} on the test rows after learning from an eighth, a quarter, a half and all of the training "
        "rows, with 95% intervals.",
        "훈련 행의 1/8, 1/4, 1/2, 전부로 배운 뒤 시험 행의 {metric}입니다. 막대는 95% 구간입니다.",
    ),
    "point": ("{name} {x}: {y}", "{name} {x}: {y}"),
    "samples": ("What each rung writes", "단마다 쓰는 글"),
    "samples lead": (
        "The beginning of a test document, and how each goes on, drawn with the same seed.",
        "시험 글의 첫머리와, 같은 시드로 뽑아 이어 쓴 글입니다.",
    ),
    "pairs samples": ("Ten of the test pairs, not picked", "고르지 않은 시험 쌍 열 개"),
    "pairs samples lead": (
        "Sources spread evenly over the test part, with the target that the data has and what each rung "
        "writes.",
        "시험 부분에 고루 퍼진 원문과 데이터에 있는 대상 글, 단마다 쓴 글입니다.",
    ),
    "reference": ("in the data", "데이터"),
    "truth": ("how it goes on", "실제 글"),
    "strip": (
        "Some of the training pictures, as the rungs see them: {reading}.",
        "훈련 그림 몇 장입니다. 단은 그림을 이렇게 봅니다: {reading}.",
    ),
    "strip of many": (
        "Some of the training pictures, of {shown} of the {classes:,} classes, as the rungs see them: "
        "{reading}.",
        "클래스 {classes:,}가지 가운데 {shown}가지의 훈련 그림입니다. 단은 그림을 이렇게 봅니다: {reading}.",
    ),
    "reading": (
        "{size} x {size} pixels, {colours}",
        "{size} x {size} 픽셀, {colours}",
    ),
    "grey": ("grey", "흑백"),
    "colour": ("in colour", "컬러"),
    "files": (
        ", from files of {width:,} x {height:,} as a rule",
        ", 원래 파일은 보통 {width:,} x {height:,}",
    ),
    "fit crop": ("; cropped to their middle", ", 가운데만 잘라 씀"),
    "fit pad": ("; with white margins", ", 흰 여백을 두름"),
    "fit squash": ("; squashed into a square", ", 정사각형으로 눌러 맞춤"),
    "mistakes": ("The surest mistakes", "가장 확신한 실수"),
    "mistakes lead": (
        "{rung} gets {wrong:,} of the {test:,} test pictures wrong ({shown} shown, the surest first). Would "
        "you have known? If not, the picture is hard; if you agree with {rung}, the label may be wrong.",
        "{rung} 단은 시험 그림 {test:,}장 가운데 {wrong:,}장을 틀립니다(확신이 큰 것부터 {shown}장). "
        "사람도 틀릴 만하면 어려운 그림이고, {rung} 단의 답이 맞아 보이면 라벨이 틀렸을 수 있습니다.",
    ),
    "said": ("said {answer}, {share} sure", "답 {answer}, 확신 {share}"),
    "truth is": ("label {label}", "라벨 {label}"),
    "nobody": ("no rung gets it right", "맞힌 단 없음"),
    "others": ("right: {rungs}", "맞힌 단: {rungs}"),
    "retrieval": ("What is found", "무엇을 찾나"),
    "retrieval lead": (
        "How often the right partner is among the 1, 5 or 10 nearest of the whole test part: pictures that a "
        "caption looks for, and captions that a picture looks for.",
        "시험 부분 전체에서 가장 가까운 1, 5, 10개 안에 짝이 드는 비율입니다. 설명으로 그림을 찾을 때와 "
        "그림으로 설명을 찾을 때를 따로 잽니다.",
    ),
    "all captions": ("All captions", "모든 설명"),
    "captions in": ("Captions in {language}", "{language} 설명"),
    "language en": ("English", "영어"),
    "language ko": ("Korean", "한국어"),
    "recall text": ("picture found at {cut}", "그림 찾기 {cut}"),
    "recall image": ("caption found at {cut}", "설명 찾기 {cut}"),
    "median rank": ("median rank", "순위 중앙값"),
    "found": ("Captions and what they find", "설명이 찾아낸 그림"),
    "found lead": (
        "{shown} captions of the test part, not picked, and the test pictures that are nearest to each by "
        "{rung}, the nearest first; framed ones are right.",
        "시험 부분에서 고르지 않은 설명 {shown}개와, {rung} 단에서 가장 가까운 시험 그림을 가까운 순서로 "
        "보입니다. 테두리가 있는 것이 맞는 그림입니다.",
    ),
    "looks": ("A look inside", "안을 들여다보면"),
    "data": ("The data", "데이터"),
    "no notes": ("Nothing stood out.", "눈에 띄는 것이 없었습니다."),
    "method": ("How this was measured", "어떻게 쟀나"),
    "rule": ("the rule", "규칙"),
    "score": ("score", "점수"),
    "signatures": ("signatures", "서명"),
    "shown beside": ("shown beside", "곁에 보인 수"),
    "intervals": ("intervals", "구간"),
    "intervals said": (
        "95%: shares of right answers by Wilson's formula, all else by 2,000 bootstrap resamples of the "
        "test rows (bias-corrected and accelerated); differences are paired on the same resamples.",
        "95%: 맞힌 비율은 윌슨 공식, 나머지는 시험 행을 2,000번 다시 뽑은 부트스트랩(BCa)입니다. 차이는 "
        "같은 재표본에서 짝지어 쟀습니다.",
    ),
    "split": ("split", "나눔"),
    "split said": (
        "{train:,} rows to train, {validation:,} to validate (early stopping, choosing), {test:,} to test, "
        "opened once; seed {seed}",
        "훈련 {train:,}행, 검증 {validation:,}행(멈출 때와 고를 것을 정함), 시험 {test:,}행(한 번만 엶). "
        "시드 {seed}",
    ),
    "training": ("training", "훈련"),
    "training said": (
        "budget {budget} a rung; networks from {starts} seeds at once, the best on the validation rows "
        "kept; {tuned}",
        "단마다 예산 {budget}. 신경망은 시드 {starts}개로 한꺼번에 훈련해 검증 행에서 가장 좋은 것을 남김. "
        "{tuned}",
    ),
    "training said of pictures": (
        "budget {budget} a rung; from the validation pictures the best weights are kept; {tuned}",
        "단마다 예산 {budget}. 검증 그림에서 가장 좋은 가중치를 남김. {tuned}",
    ),
    "untuned": ("default settings", "기본 설정"),
    "tuned": ("{count} settings tried for each rung", "단마다 설정 {count}가지를 시험함"),
    "prices said": ("prices", "값"),
    "judge": ("the judge", "심판"),
    "judge said": (
        "{judge}: scikit-learn's histogram gradient boosting on the same rows, columns and budget, its "
        "{trees} rounds chosen on the validation rows; never part of the verdict",
        "{judge}: 같은 행, 열, 예산으로 훈련한 scikit-learn의 히스토그램 그래디언트 부스팅. 나무 "
        "{trees}회는 검증 행으로 정했고, 판정에는 끼지 않음",
    ),
    "judge said of texts": (
        "{judge}: scikit-learn's, on the raw texts of the same split; {reading}, {features:,} of them, and "
        "C = {strength:g}, chosen on the validation texts; never part of the verdict",
        "{judge}: 같은 나눔의 원문에 scikit-learn의 것을 씀. {reading} {features:,}가지와 C = {strength:g}는 "
        "검증 글로 정했고, 판정에는 끼지 않음",
    ),
    "judge said of a language": (
        "{judge}: modified Kneser-Ney smoothing on the same tokens, its order {order} chosen on the "
        "validation texts; never part of the verdict",
        "{judge}: 같은 토큰에 수정 크네저-나이 평활화. 차수 {order}는 검증 글로 정했고, 판정에는 끼지 않음",
    ),
    "tokens": ("tokens", "토큰"),
    "tokens said": (
        "{tokenizer}, {vocabulary:,} different ones; the first {length:,} of a text are read",
        "{tokenizer}, {vocabulary:,}가지. 글마다 앞의 {length:,}개를 읽음",
    ),
    "tokens said of captions": (
        "{pictures}; captions {columns} in {tokenizer} tokens, {vocabulary:,} different ones, at most "
        "{length:,} a caption",
        "{pictures}. 설명 {columns}: {tokenizer} 토큰 {vocabulary:,}가지, 하나에 최대 {length:,}개",
    ),
    "tokens said of a language": (
        "{tokenizer}, {vocabulary:,} different ones; {train:,} to train, {validation:,} to validate, "
        "{test:,} to test",
        "{tokenizer}, {vocabulary:,}가지. 훈련 {train:,}개, 검증 {validation:,}개, 시험 {test:,}개",
    ),
    "rungs": ("the rungs", "단의 뜻"),
    "source": ("source", "출처"),
    "licence": ("licence", "라이선스"),
    "fingerprint": ("fingerprint", "지문"),
    "columns": ("columns", "열"),
    "pictures": ("pictures", "그림"),
    "columns said": (
        "{columns:,}, encoded as {features:,} numbers",
        "{columns:,}개, 수 {features:,}개로 부호화",
    ),
    "classes": ("classes", "클래스"),
    "versions": ("versions", "버전"),
    "again": ("to repeat it", "다시 하려면"),
    "rung notes": ("What the fits said", "훈련이 남긴 말"),
    "made by": (
        "Made by Sadari {version} in {seconds:.0f} seconds.",
        "Sadari {version}, {seconds:.0f}초 만에 만듦.",
    ),
}


OWN = {  # endings of templates that speak of one kind of data, the first that there is
    "text": (" of texts",),
    "images": (" of pictures",),
    "captions": (" of captions", " of pictures"),
}


@dataclass(frozen=True)
class Words:
    """Sentences and numbers of one report in one language. Values from outside are escaped here, once."""

    lang: Lang
    metric: Metric
    decimals: int
    kind: str = "table"
    task: str = ""

    @classmethod
    def of(cls, content: Mapping[str, Any], lang: Lang) -> Words:
        """Scores get as many decimals as make the narrowest interval's half width readable to two digits."""
        halves = [(rung["high"] - rung["low"]) / 2 for rung in content["rungs"] if rung["high"] > rung["low"]]
        decimals = max(0, min(6, 1 - math.floor(math.log10(min(halves))))) if halves else 3
        kind, task = content.get("kind", "table"), content.get("task", "")
        return cls(lang, METRICS[content["metric"]["name"]], decimals, kind, task)

    def __call__(self, key: str, **values: Any) -> str:
        safe = {name: escape(value) if isinstance(value, str) else value for name, value in values.items()}
        kinds = OWN.get(self.kind, ()) if self.task != "language" else (" of a language",)
        name = next((key + own for own in kinds if key + own in TEXTS), key)
        template = TEXTS[name][self.lang == "ko"]
        return in_unit(template, unit_of(self.kind, self.task, key in PRICED)).format(**safe)

    def score(self, value: float) -> str:
        shown = f"{100 * value:.1f}%" if self.metric.shares else f"{value:,.{self.decimals}f}"
        negative = shown.startswith("-") and any(digit in shown for digit in "123456789")
        return shown.replace("-", "−" if negative else "")  # no minus before nothing

    def span(self, interval: Mapping[str, Any]) -> str:
        """An interval of scores, the sign for per cent left to the score beside it."""
        low, high = (self.score(interval[key]).removesuffix("%") for key in ("low", "high"))
        return self("interval", low=low, high=high)

    def gain(self, value: float, unit: bool = False) -> str:
        shown = 100 * value if self.metric.shares else value
        decimals = 1 if self.metric.shares else self.decimals
        word = ("%p" if self.lang == "ko" else " points") if unit and self.metric.shares else ""
        return f"{shown:+,.{decimals}f}".replace("-", "−") + word

    def either(self, pair: Mapping[str, str]) -> str:
        """The text of this language, escaped."""
        return escape(pair[self.lang])


def probability(value: float) -> str:
    """Two decimals, never 0 or 1: nothing here is certain."""
    return ">0.99" if value > 0.995 else "<0.01" if value < 0.005 else f"{value:.2f}"


def count(value: float | None) -> str:
    """A number of things: 12,345 or 1.2 M."""
    if value is None:
        return "–"
    return f"{value / 1e6:,.1f} M" if value >= 1e6 else f"{value:,.0f}"


def size(value: float | None) -> str:
    """Bytes as kB or MB."""
    if value is None:
        return "–"
    return f"{value / 1e6:,.1f} MB" if value >= 1e6 else f"{value / 1e3:,.1f} kB"


def duration(seconds: float) -> str:
    """Seconds, or milliseconds below a tenth."""
    return f"{seconds:,.1f} s" if seconds >= 0.1 else f"{1e3 * seconds:,.1f} ms"


def micro(value: float) -> str:
    """Microseconds, or nanoseconds below one, with two or three digits."""
    if value < 0.995:
        return f"{1e3 * value:.2g} ns" if value < 0.0995 else f"{1e3 * value:.0f} ns"
    return f"{value:,.0f} µs" if value >= 99.5 else f"{value:.3g} µs"


def ticks(low: float, high: float, wanted: int = 5) -> Sequence[float]:
    """Round numbers from `low` to `high`: steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]

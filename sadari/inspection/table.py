"""The table of views: which runs each can open, and why not the others. Plain data, read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

REGRESS, CLASSIFY = ("mean", "line"), ("prior", "logistic")
LINEAR, NETWORKS = ("line", "logistic"), ("shallow", "deep", "deep-skip")


@dataclass(frozen=True)
class ViewInfo:
    """Where a view lives, and the runs that it can open."""

    module: str
    function: str
    tasks: tuple[str, ...]
    rungs: tuple[str, ...]
    summary_en: str
    summary_ko: str
    many: bool = False
    """It takes the runs of a whole climb at once."""
    kinds: tuple[str, ...] = ("table", "series")
    """Kinds of data that it knows how to show."""
    data: bool = False
    """It looks at the data alone: prepared data does as well as a run."""
    eyes: bool = False
    """It looks at the network that is shown pictures: a rung from the foundation is opened where its eye is
    one of `rungs`."""

    def fits(self, task: str, rung: str, kind: str = "table", eye: str = "") -> bool:
        """Whether it opens a rung; `eye` is the network of one from the foundation, as `eye_of` tells it."""
        opens = rung in self.rungs or (self.eyes and eye in self.rungs)
        return task in self.tasks and opens and kind in self.kinds


def _view(
    name: str,
    tasks: tuple[str, ...],
    rungs: tuple[str, ...],
    summary_en: str,
    summary_ko: str,
    many: bool = False,
    kinds: tuple[str, ...] = ("table", "series"),
    data: bool = False,
    eyes: bool = False,
) -> tuple[str, ViewInfo]:
    word = name.replace("-", "_")
    module = f"sadari.inspection.{word}"
    return name, ViewInfo(module, word, tasks, rungs, summary_en, summary_ko, many, kinds, data, eyes)


BOTH = ("regress", "classify")
EVERY = (*REGRESS, *CLASSIFY, *NETWORKS)
READERS = ("one-hot", "embedding", "rnn", "lstm", "attention", "transformer", "probe", "fine-tune")
ANY = ("table", "series", "text")
WRITERS = ("rnn", "lstm", "lstm-attention", "transformer")
RESIDUAL = ("resnet", "distilled")
CONVOLUTIONS = ("alexnet", "vgg", *RESIDUAL, "efficientnet")  # the last is no rung, but many an eye
TRAINED = ("shallow", "alexnet", "vgg", *RESIDUAL, "vit", "fine-tune")
PICTURES = ("nearest", "logistic", "zero-shot", "retrieval", "probe", *TRAINED)
MATCHERS = ("bag-of-words", "clip", "siglip", "locked")

VIEWS: dict[str, ViewInfo] = dict(
    (
        _view(
            "curve", BOTH, EVERY,
            "the prediction along one feature, every rung over the data",
            "한 특성을 따라 변하는 예측을 모든 단에 대해 데이터 위에 그린다",
            many=True,
        ),
        _view(
            "residuals", ("regress",), (*REGRESS, *NETWORKS, "convolution", "rnn", "lstm"),
            "what is left over: target minus prediction, and the rows that are worst",
            "남은 오차: 목표에서 예측을 뺀 값, 그리고 가장 크게 빗나간 행",
        ),
        _view(
            "calibration", ("classify",), (*CLASSIFY, *NETWORKS, "convolution", *READERS, *PICTURES),
            "whether 80% means 80 %: probability said against share that came true",
            "80%라고 말하면 정말 80%인가: 말한 확률과 실제 비율",
            kinds=(*ANY, "images"),
        ),
        _view(
            "confusion", ("classify",), (*CLASSIFY, *NETWORKS, "convolution", *READERS, *PICTURES),
            "which class is taken for which",
            "어느 클래스를 어느 클래스로 잘못 보는가",
            kinds=(*ANY, "images"),
        ),
        _view(
            "boundary", ("classify",), (*CLASSIFY, *NETWORKS),
            "where the answer changes over two features",
            "두 특성 위에서 답이 바뀌는 곳",
        ),
        _view(
            "weights", BOTH, (*LINEAR, *NETWORKS),
            "what each feature weighs",
            "특성마다의 무게",
        ),
        _view(
            "surface", BOTH, (*LINEAR, *NETWORKS),
            "the loss over two weights, with the path of descent",
            "두 가중치 위의 손실 지형과 경사 하강이 지나간 길",
        ),
        _view(
            "learning-rate", BOTH, (*LINEAR, *NETWORKS),
            "the loss after some steps at each learning rate, and the rate that is too large",
            "학습률마다 몇 걸음 뒤의 손실, 그리고 너무 큰 학습률",
        ),
        _view(
            "regions", BOTH, NETWORKS,
            "the straight pieces of a relu network, counted exactly",
            "relu 신경망을 이루는 곧은 조각을 정확히 센다",
        ),
        _view(
            "flexibility", BOTH, ("shallow",),
            "1, 3, 10 and 100 hidden units on the same data",
            "같은 데이터에 은닉 유닛 1, 3, 10, 100개",
        ),
        _view(
            "gradients", BOTH, ("deep", "deep-skip"),
            "how much gradient reaches each layer, with and without direct connections",
            "직접 연결이 있을 때와 없을 때 층마다 닿는 기울기의 크기",
        ),
        _view(
            "attention", ("classify", "language"), ("attention", "transformer", "probe", "fine-tune"),
            "what each head looks at in a text, and how much of each word reaches the answer",
            "글에서 헤드마다 어디를 보는지, 각 낱말이 답에 얼마나 닿는지",
            kinds=("text",),
        ),
        _view(
            "memory", (*BOTH, "language"), ("rnn", "lstm", "attention", "transformer"),
            "how much of the loss's gradient reaches each earlier step, beside a fresh RNN and LSTM",
            "손실의 기울기가 앞선 단계마다 얼마나 닿는가, 갓 만든 RNN·LSTM과 나란히",
            kinds=("text", "series"),
        ),
        _view(
            "gates", (*BOTH, "language"), ("lstm", "attention"),
            "what one unit of an LSTM forgets, writes and shows, token by token",
            "LSTM의 유닛 하나가 토큰마다 무엇을 잊고 쓰고 보이는가",
            kinds=("text", "series"),
        ),
        _view(
            "following", ("language",), ("n-gram", "rnn", "lstm", "transformer"),
            "what it expects after a beginning: the likeliest tokens and their odds",
            "첫머리 다음에 무엇이 오리라 보는가: 가장 그럴듯한 토큰과 확률",
            kinds=("text",),
        ),
        _view(
            "words", ("classify", "language"), ("embedding", "rnn", "lstm", "attention", "transformer"),
            "which words are near each other, where one-hot has all equally far",
            "어느 낱말이 서로 가까운가, 원-핫에서는 모두 똑같이 멀다",
            kinds=("text",),
        ),
        _view(
            "speed", ("classify", "language"), ("rnn", "lstm", "transformer"),
            "tokens a second against the length of a text, in training and in writing",
            "글 길이에 따른 초당 토큰 수, 훈련할 때와 쓸 때",
            kinds=("text",),
        ),
        _view(
            "alignment", ("translate",), ("lstm-attention", "transformer"),
            "where in the source each written word looked",
            "쓴 낱말마다 원문의 어디를 보았는가",
            kinds=("pairs",),
        ),
        _view(
            "bottleneck", ("translate",), ("lookup", *WRITERS),
            "BLEU and chrF against the length of the source, every rung beside the others",
            "원문 길이에 따른 BLEU와 chrF, 모든 단을 나란히",
            many=True, kinds=("pairs",),
        ),
        _view(
            "forcing", ("translate",), WRITERS,
            "the loss along a target, behind the true words and behind its own",
            "쓴 글을 따라 변하는 손실, 참 낱말 뒤에서와 자기가 쓴 낱말 뒤에서",
            kinds=("pairs",),
        ),
        _view(
            "beam", ("translate",), WRITERS,
            "the search for one translation as a tree, and what wider beams bring",
            "번역 하나를 찾는 탐색을 나무로, 그리고 빔을 넓히면 무엇이 달라지는가",
            kinds=("pairs",),
        ),
        _view(
            "receptive-field", ("classify",), CONVOLUTIONS,
            "how much of a picture a place of each stage can see, and how much of it counts",
            "단계마다 한 자리가 그림을 얼마나 볼 수 있고 그중 얼마가 중요한가",
            kinds=("images",), eyes=True,
        ),
        _view(
            "shapes", ("classify",), CONVOLUTIONS,
            "size, weights, arithmetic and memory stage by stage, and without padding or pooling",
            "단계마다의 크기·가중치·계산·메모리, 그리고 패딩이나 풀링이 없을 때",
            kinds=("images",), eyes=True,
        ),
        _view(
            "filters", ("classify",), ("logistic", "shallow", *CONVOLUTIONS, "vit"),
            "the first layer's weights as pictures",
            "첫 층의 가중치를 그림으로",
            kinds=("images",), eyes=True,
        ),
        _view(
            "features", ("classify",), CONVOLUTIONS,
            "what the filters of some stages answer to one picture",
            "그림 한 장에 대한 몇 단계 필터의 답",
            kinds=("images",), eyes=True,
        ),
        _view(
            "where", ("classify",), (*CONVOLUTIONS, "vit"),
            "the part of a picture that an answer comes from, put to the test",
            "답이 그림의 어디에서 왔는지, 그리고 그 시험",
            kinds=("images",), eyes=True,
        ),
        _view(
            "mistakes", ("classify",), PICTURES,
            "the pictures that it is surest about and wrong, and the labels that it doubts",
            "확신했지만 틀린 그림, 그리고 의심스러운 라벨",
            kinds=("images",),
        ),
        _view(
            "depth", ("classify",), ("prior", *PICTURES),
            "plain networks of 20, 32 and 56 layers against residual ones, trained here",
            "평범한 망과 지름길이 있는 망을 20·32·56층으로 훈련해 견준다",
            kinds=("images",),
        ),
        _view(
            "transfer", ("classify",), ("prior", *PICTURES),
            "the score against the number of labelled pictures, from nothing and from a pretrained network",
            "라벨 붙은 그림 수에 따른 점수, 처음부터 배울 때와 배워 온 것이 있을 때",
            kinds=("images",),
        ),
        _view(
            "rate", ("classify",), TRAINED,
            "what more training does to it at each learning rate, and the rate that destroys what it knew",
            "더 훈련하면 학습률마다 어떻게 되는지, 그리고 배운 것을 잃는 학습률",
            kinds=("images",),
        ),
        _view(
            "similarity", ("match",), MATCHERS,
            "some pictures against some captions, every pair by its likeness",
            "그림 몇 장과 설명 몇 개, 쌍마다 얼마나 닮았는가",
            kinds=("captions",),
        ),
        _view(
            "space", ("match",), MATCHERS,
            "pictures and captions on one map, and the gap between them before and after training",
            "그림과 설명을 한 지도에, 훈련 앞뒤로 둘 사이의 틈과 함께",
            kinds=("captions",),
        ),
        _view(
            "losses", ("match",), MATCHERS,
            "how hard each loss pushes a false pair apart, over the likeness of this run's pairs",
            "손실마다 거짓 쌍을 얼마나 밀어내는지, 이 실행의 쌍들이 닮은 정도 위에",
            kinds=("captions",),
        ),
        _view(
            "patches", ("match",), MATCHERS,
            "which places of a picture speak for a caption",
            "그림의 어느 곳이 설명에 힘을 싣는가",
            kinds=("captions",),
        ),
        _view(
            "prompts", ("match",), MATCHERS,
            "how well captions are found, against the sentence that they are put into",
            "설명을 어떤 문장에 넣느냐에 따라 얼마나 잘 찾는가",
            kinds=("captions",),
        ),
        _view(
            "augment", ("classify",), ("prior", *PICTURES),
            "what each random change makes of the pictures; a data set does as well as a run",
            "무작위 변환마다 바뀌는 그림(실행 대신 데이터도 볼 수 있다)",
            kinds=("images",), data=True,
        ),
    )
)  # fmt: skip


# Why a network is not opened by a view that opens others.
REASONS = {
    ("receptive-field", "vit"): "every patch of a vit sees the whole picture from the first layer on",
    ("features", "vit"): "a vit has no maps of filters; `where` shows which patches its answer comes from",
    ("shapes", "vit"): "a vit has as many patches of the same width in every layer",
}


def eye_of(config: Mapping[str, Any]) -> str:
    """The network that a run of pictures begins from, by its config: resnet, efficientnet; "" for none."""
    words = config["model"].get("backbone") if config.get("kind") == "images" else None
    return words.partition("network=")[2].partition(" ")[0] if isinstance(words, str) else ""


def views_for(task: str, rung: str, kind: str = "table", eye: str = "") -> list[str]:
    """Names of the views that fit a run, in the order of the table; `eye` as `ViewInfo.fits` has it."""
    return [name for name, info in VIEWS.items() if info.fits(task, rung, kind, eye)]

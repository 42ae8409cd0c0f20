"""The ladders, as one explicit table. Plain data: importing this file imports no tensor library.

A rung that is not there yet has no module; a later chapter fills it in and changes nothing else here.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import Any

from sadari.errors import SadariError


@dataclass(frozen=True)
class Rung:
    """One model on a task's ladder, and the limit of the rung below it that it answers."""

    name: str
    answers: str
    answers_ko: str
    paper: str = ""
    module: str = ""
    model: str = ""
    config: str = ""
    """Name of the config's class in that module; empty for the model's name with Config behind it."""

    @property
    def config_name(self) -> str:
        return self.config or f"{self.model}Config"

    @property
    def here(self) -> bool:
        """Whether the rung can be fitted today."""
        return bool(self.module)

    def load(self) -> Any:
        """The model's class. Imports the model's file, and with it torch."""
        if not self.here:
            raise SadariError(
                f"rung {self.name!r} is on the ladder but not built yet; `sadari rungs` marks those that are"
            )
        return getattr(importlib.import_module(self.module), self.model)


@dataclass(frozen=True)
class Ladder:
    """The rungs of one task on one kind of data, bottom to top."""

    task: str
    kind: str
    rungs: tuple[Rung, ...]
    judge: str = ""
    """The model from outside the ladder that keeps it honest."""

    @property
    def title(self) -> str:
        return self.task if self.task not in ("regress", "classify") else f"{self.task} {self.kind}"

    @property
    def names(self) -> list[str]:
        return [rung.name for rung in self.rungs]

    @property
    def here(self) -> tuple[Rung, ...]:
        return tuple(rung for rung in self.rungs if rung.here)


_SHALLOW = Rung(
    "shallow",
    "A line cannot bend, and cannot see that two features matter together; one layer of hidden units can.",
    "직선은 휘지 못하고 두 특성이 함께 작용하는 것도 보지 못한다. 은닉 유닛 한 층이면 가능하다.",
    "Cybenko 1989; Prince 2023, Understanding Deep Learning, ch. 3",
    "sadari.models.shallow",
    "Shallow",
)
_DEEP = Rung(
    "deep",
    "One wide layer needs very many units for folded patterns; layers reuse each other's folds.",
    "넓은 한 층은 접힌 패턴에 아주 많은 유닛이 든다. 여러 층은 앞 층의 접힘을 다시 쓴다.",
    "Montufar et al. 2014 (1402.1869); Prince 2023, ch. 4",
    "sadari.models.deep",
    "Deep",
)
_DEEP_SKIP = Rung(
    "deep-skip",
    "A very deep plain network loses its gradient on the way down; direct connections carry it through.",
    "아주 깊은 평범한 망은 내려오는 길에 기울기를 잃는다. 직접 연결이 기울기를 그대로 전한다.",
    "He et al. 2015 (1512.03385); Prince 2023, ch. 11",
    "sadari.models.deep_skip",
    "DeepSkip",
)
_PRIOR = Rung(
    "prior",
    "The ground: say the most frequent class, look at nothing.",
    "바닥: 아무것도 보지 않고 가장 흔한 클래스를 말한다.",
    "",
    "sadari.models.prior",
    "Prior",
)
_MEAN = Rung(
    "mean",
    "The ground: say the mean, look at nothing.",
    "바닥: 아무것도 보지 않고 평균을 말한다.",
    "",
    "sadari.models.mean",
    "Mean",
)
_LINE = Rung(
    "line",
    "A constant ignores the features; a line weighs each of them.",
    "상수는 특성을 무시한다. 직선은 특성마다 무게를 준다.",
    "Legendre 1805; Gauss 1809; Hoerl & Kennard 1970 (ridge)",
    "sadari.models.line",
    "Line",
)
_LOGISTIC = Rung(
    "logistic",
    "The prior gives everyone the same answer; logistic regression weighs the features.",
    "사전 확률은 모두에게 같은 답을 준다. 로지스틱 회귀는 특성에 무게를 주어 확률로 바꾼다.",
    "Cox 1958",
    "sadari.models.logistic",
    "Logistic",
)
_SERIES = (
    Rung(
        "convolution",
        "A dense network learns each place anew; filters look for the same shapes at every place.",
        "밀집 신경망은 자리마다 새로 배운다. 필터는 모든 자리에서 같은 모양을 찾는다.",
        "LeCun et al. 1989; Greydanus 2020 (2011.14439)",
        "sadari.models.series_convolution",
        "SeriesConvolution",
    ),
    Rung(
        "rnn",
        "A filter sees as far as it is long; a recurrent network carries what it read along.",
        "필터는 제 길이만큼만 본다. 순환 신경망은 읽은 것을 지니고 간다.",
        "Elman 1990",
        "sadari.models.rnn",
        "RNNSeries",
        "RNNConfig",
    ),
    Rung(
        "lstm",
        "A plain recurrence forgets over long distances; gates keep what matters.",
        "단순한 순환은 먼 것을 잊는다. 게이트가 중요한 것을 지킨다.",
        "Hochreiter & Schmidhuber 1997; Gers et al. 2000",
        "sadari.models.lstm",
        "LSTMSeries",
        "LSTMConfig",
    ),
)

LADDERS: tuple[Ladder, ...] = (
    Ladder(
        "regress",
        "table",
        (
            _MEAN,
            _LINE,
            _SHALLOW,
            _DEEP,
            _DEEP_SKIP,
        ),
        "gradient boosting",
    ),
    Ladder(
        "classify",
        "table",
        (
            _PRIOR,
            _LOGISTIC,
            _SHALLOW,
            _DEEP,
            _DEEP_SKIP,
        ),
        "gradient boosting",
    ),
    Ladder("classify", "series", (_PRIOR, _LOGISTIC, _SHALLOW, _DEEP, *_SERIES), "gradient boosting"),
    Ladder("regress", "series", (_MEAN, _LINE, _SHALLOW, _DEEP, *_SERIES), "gradient boosting"),
    Ladder(
        "classify",
        "text",
        (
            _PRIOR,
            Rung(
                "one-hot",
                "The prior does not read; counting words does, though every two words are equally far apart.",
                "사전 확률은 읽지 않는다. 단어를 세면 읽는 셈이지만 모든 단어 사이의 거리가 같다.",
                "Harris 1954; Cox 1958",
                "sadari.models.one_hot",
                "OneHot",
            ),
            Rung(
                "embedding",
                "In one-hot no two words are alike; in an embedding related words are near.",
                "원-핫에서는 닮은 단어가 없다. 임베딩에서는 관련된 단어가 가깝다.",
                "Mikolov et al. 2013 (1301.3781, 1310.4546); Joulin et al. 2016 (1607.01759)",
                "sadari.models.embedding",
                "Embedding",
            ),
            Rung(
                "rnn",
                "An average of words forgets their order; a recurrent network reads them in turn.",
                "단어의 평균은 순서를 잊는다. 순환 신경망은 차례대로 읽는다.",
                "Elman 1990",
                "sadari.models.rnn",
                "RNN",
            ),
            Rung(
                "lstm",
                "A plain recurrence forgets over long distances; gates keep what matters.",
                "단순한 순환은 먼 것을 잊는다. 게이트가 중요한 것을 지킨다.",
                "Hochreiter & Schmidhuber 1997; Gers et al. 2000",
                "sadari.models.lstm",
                "LSTM",
            ),
            Rung(
                "attention",
                "The last state must hold everything; attention looks back at each word.",
                "마지막 상태에 모두 담아야 한다. 어텐션은 단어마다 되돌아본다.",
                "Bahdanau et al. 2014 (1409.0473)",
                "sadari.models.attention",
                "Attention",
            ),
            Rung(
                "transformer",
                "A recurrence takes one step after another; self-attention reads all words at once.",
                "순환은 한 걸음씩 간다. 셀프 어텐션은 모든 단어를 한꺼번에 읽는다.",
                "Vaswani et al. 2017 (1706.03762)",
                "sadari.models.transformer",
                "Transformer",
            ),
            Rung(
                "probe",
                "A few labelled texts cannot teach a language; an encoder that has read much knows one.",
                "라벨 붙은 글 몇 편으로는 언어를 배울 수 없다. 많이 읽은 인코더는 이미 안다.",
                "Devlin et al. 2018 (1810.04805); Reimers & Gurevych 2019 (1908.10084)",
                "sadari.models.encoder",
                "Probe",
            ),
            Rung(
                "fine-tune",
                "A frozen encoder was made for other texts; fine-tuning makes it yours.",
                "고정된 인코더는 다른 글을 읽고 배웠다. 미세 조정은 내 글에 맞춘다.",
                "Howard & Ruder 2018 (1801.06146); Devlin et al. 2018 (1810.04805)",
                "sadari.models.encoder",
                "FineTune",
            ),
        ),
        "tf-idf + logistic",
    ),
    Ladder(
        "language",
        "text",
        (
            Rung(
                "n-gram",
                "The ground: count which word follows the last few.",
                "바닥: 앞의 몇 단어 뒤에 무엇이 오는지 센다.",
                "Shannon 1948; Ney et al. 1994",
                "sadari.models.n_gram",
                "NGram",
            ),
            Rung(
                "rnn",
                "Counts know only what they have seen; a recurrent state shares between similar histories.",
                "셈은 본 것만 안다. 순환 상태는 비슷한 이력끼리 나눈다.",
                "Mikolov et al. 2010",
                "sadari.models.rnn",
                "RNNLanguage",
            ),
            Rung(
                "lstm",
                "A plain recurrence forgets; gates remember.",
                "단순한 순환은 잊는다. 게이트는 기억한다.",
                "Hochreiter & Schmidhuber 1997; Zaremba et al. 2014 (1409.2329)",
                "sadari.models.lstm",
                "LSTMLanguage",
            ),
            Rung(
                "transformer",
                "One state is a narrow door; self-attention sees the whole context.",
                "상태 하나는 좁은 문이다. 셀프 어텐션은 문맥 전체를 본다.",
                "Vaswani et al. 2017 (1706.03762); Radford et al. 2019",
                "sadari.models.gpt",
                "GPT",
            ),
        ),
        "interpolated Kneser-Ney n-gram",
    ),
    Ladder(
        "translate",
        "pairs",
        (
            Rung(
                "lookup",
                "The ground: copy the target of the nearest source.",
                "바닥: 가장 가까운 원문의 번역을 베낀다.",
                "",
                "sadari.models.lookup",
                "Lookup",
            ),
            Rung(
                "rnn",
                "Copying cannot compose; an encoder-decoder writes new sentences.",
                "베끼기는 새 문장을 짓지 못한다. 인코더-디코더는 새 문장을 쓴다.",
                "Cho et al. 2014 (1406.1078)",
                "sadari.models.seq2seq",
                "RNNTranslator",
                "Seq2SeqConfig",
            ),
            Rung(
                "lstm",
                "Long sources fade; gates keep them.",
                "긴 원문은 흐려진다. 게이트가 지킨다.",
                "Sutskever et al. 2014 (1409.3215)",
                "sadari.models.seq2seq",
                "LSTMTranslator",
                "Seq2SeqConfig",
            ),
            Rung(
                "lstm-attention",
                "One vector cannot hold a page; attention rereads the source at each word.",
                "벡터 하나에 한 쪽을 담을 수 없다. 어텐션은 단어마다 원문을 다시 읽는다.",
                "Bahdanau et al. 2014 (1409.0473); Luong et al. 2015 (1508.04025)",
                "sadari.models.lstm_attention",
                "LSTMAttention",
            ),
            Rung(
                "transformer",
                "Recurrence is slow and short-sighted; attention alone is neither.",
                "순환은 느리고 멀리 보지 못한다. 어텐션만으로는 그렇지 않다.",
                "Vaswani et al. 2017 (1706.03762)",
                "sadari.models.translator",
                "Translator",
            ),
        ),
    ),
    Ladder(
        "classify",
        "images",
        (
            _PRIOR,
            Rung(
                "nearest",
                "The prior sees no picture; the nearest stored picture lends its label.",
                "사전 확률은 그림을 보지 않는다. 가장 가까운 그림이 라벨을 빌려준다.",
                "Cover & Hart 1967",
                "sadari.models.nearest",
                "Nearest",
            ),
            Rung(
                "logistic",
                "Search keeps every picture; weights keep one template a class.",
                "검색은 그림을 모두 지닌다. 가중치는 클래스마다 틀 하나를 지닌다.",
                "Cox 1958",
                "sadari.models.pixels",
                "PixelLogistic",
            ),
            Rung(
                "shallow",
                "One template a class is too few; hidden units make many.",
                "클래스마다 틀 하나는 모자라다. 은닉 유닛이 여러 개를 만든다.",
                "Cybenko 1989",
                "sadari.models.pixels",
                "PixelShallow",
            ),
            Rung(
                "alexnet",
                "Every pixel gets its own weight; convolution shares weights over places.",
                "픽셀마다 가중치가 다르다. 합성곱은 자리마다 가중치를 나눠 쓴다.",
                "Krizhevsky et al. 2012; Krizhevsky 2014 (1404.5997)",
                "sadari.models.alexnet",
                "AlexNet",
            ),
            Rung(
                "vgg",
                "Large filters are costly; stacks of 3 x 3 see as far for less.",
                "큰 필터는 비싸다. 3 x 3을 쌓으면 더 싸게 같은 넓이를 본다.",
                "Simonyan & Zisserman 2014 (1409.1556)",
                "sadari.models.vgg",
                "VGG",
            ),
            Rung(
                "resnet",
                "Deeper plain nets train worse; shortcuts let them be deep.",
                "깊은 평범한 망은 더 못 배운다. 지름길이 깊이를 허락한다.",
                "He et al. 2015 (1512.03385)",
                "sadari.models.resnet",
                "ResNet",
            ),
            Rung(
                "vit",
                "Convolution sees neighbours first; attention sees the whole picture at once.",
                "합성곱은 이웃부터 본다. 어텐션은 그림 전체를 한꺼번에 본다.",
                "Dosovitskiy et al. 2020 (2010.11929)",
                "sadari.models.vit",
                "ViT",
            ),
            Rung(
                "zero-shot",
                "All of these need labels; words can be labels.",
                "모두 라벨이 필요하다. 말이 라벨이 될 수 있다.",
                "Radford et al. 2021 (2103.00020)",
                "sadari.models.zero_shot",
                "ZeroShot",
            ),
            Rung(
                "retrieval",
                "Words alone are vague; labelled pictures near in a foundation model's features vote.",
                "말만으로는 흐릿하다. 기반 모델의 특징에서 가까운 그림들이 투표한다.",
                "Cover & Hart 1967; Wu et al. 2018 (1805.01978)",
                "sadari.models.retrieval",
                "Retrieval",
            ),
            Rung(
                "probe",
                "Neighbours count every feature alike; a linear layer weighs what tells the classes.",
                "이웃은 모든 특징을 똑같이 친다. 선형층은 클래스를 가르는 것에 무게를 준다.",
                "Kornblith et al. 2018 (1805.08974)",
                "sadari.models.backbone",
                "Probe",
            ),
            Rung(
                "fine-tune",
                "Frozen features are someone else's; fine-tuning makes them yours.",
                "고정된 특징은 남의 것이다. 미세 조정은 내 것으로 만든다.",
                "Howard & Ruder 2018 (1801.06146)",
                "sadari.models.backbone",
                "FineTune",
            ),
            Rung(
                "distilled",
                "The best model is too big to ship; a small one learns from it.",
                "가장 좋은 모델은 싣기에 너무 크다. 작은 모델이 그것에게 배운다.",
                "Hinton et al. 2015 (1503.02531)",
                "sadari.models.distilled",
                "Distilled",
            ),
        ),
    ),
    Ladder(
        "match",
        "captions",
        (
            Rung(
                "bag-of-words",
                "The ground: words and pixels, averaged into one space.",
                "바닥: 단어와 픽셀을 평균해 한 공간에 놓는다.",
                "Weston et al. 2011 (WSABIE)",
                "sadari.models.bag_of_words",
                "BagOfWords",
            ),
            Rung(
                "clip",
                "Averages match topics only; two encoders trained together match meaning.",
                "평균은 주제만 맞춘다. 함께 배운 두 인코더는 뜻을 맞춘다.",
                "Radford et al. 2021 (2103.00020)",
                "sadari.models.clip",
                "CLIP",
            ),
            Rung(
                "siglip",
                "Softmax needs the whole batch; a sigmoid judges each pair alone.",
                "소프트맥스는 배치 전체가 필요하다. 시그모이드는 쌍마다 따로 판단한다.",
                "Zhai et al. 2023 (2303.15343)",
                "sadari.models.siglip",
                "SigLIP",
            ),
            Rung(
                "locked",
                "Few pairs cannot teach two encoders; keep trained ones and learn the bridge.",
                "적은 쌍으로 인코더 둘을 가르칠 수 없다. 배운 것을 잠그고 다리만 배운다.",
                "Zhai et al. 2021 (2111.07991)",
                "sadari.models.locked",
                "Locked",
            ),
        ),
    ),
    Ladder(
        "converse",
        "dialogues",
        (
            Rung(
                "nearest caption",
                "The ground: answer with the caption of the nearest picture.",
                "바닥: 가장 가까운 그림의 설명으로 답한다.",
            ),
            Rung(
                "llava stage 1",
                "A caption cannot answer a question; a projector lets a language model see.",
                "설명은 질문에 답하지 못한다. 프로젝터가 언어 모델에 눈을 준다.",
                "Liu et al. 2023 (2304.08485)",
            ),
            Rung(
                "llava stage 2",
                "Seeing is not conversing; instructions teach it to answer.",
                "보는 것은 대화가 아니다. 지시문이 답하는 법을 가르친다.",
                "Liu et al. 2023 (2310.03744)",
            ),
        ),
    ),
    Ladder(
        "edit",
        "edits",
        (
            Rung("identity", "The ground: change nothing.", "바닥: 아무것도 바꾸지 않는다."),
            Rung(
                "nearest edit",
                "Nothing is edited; the nearest known edit is applied.",
                "편집이 없다. 가장 가까운 편집을 적용한다.",
            ),
            Rung(
                "pix2pix",
                "Copies do not fit a new picture; diffusion draws the edit the words ask for.",
                "베낀 편집은 새 그림에 맞지 않는다. 확산이 말이 청한 편집을 그린다.",
                "Brooks et al. 2022 (2211.09800)",
            ),
        ),
    ),
    Ladder(
        "magnify",
        "video",
        (
            Rung(
                "linear Eulerian",
                "The ground: amplify the change of each pixel.",
                "바닥: 픽셀마다 변화를 키운다.",
                "Wu et al. 2012",
            ),
            Rung(
                "learned magnifier",
                "Linear amplification amplifies noise too; a network learns to magnify motion alone.",
                "선형 증폭은 잡음도 키운다. 신경망은 움직임만 키우도록 배운다.",
                "Oh et al. 2018 (1804.02684)",
            ),
        ),
    ),
)


def ladder_for(task: str, kind: str = "table") -> Ladder:
    """The ladder of a task on a kind of data. Raises SadariError naming the tasks there are."""
    for ladder in LADDERS:
        if (ladder.task, ladder.kind) == (task, kind):
            return ladder
    tasks = ", ".join(sorted({ladder.task for ladder in LADDERS if ladder.kind == kind and ladder.here}))
    raise SadariError(f"--task {task!r} is no task for {kind} data; choose one of: {tasks}")


def find_rung(name: str, task: str | None = None, kind: str | None = "table") -> Rung:
    """The rung `name` on the ladder of a task on a kind of data; of any task or kind where one is None.

    Raises SadariError with the rungs there are and the nearest spelling, or when the rung is not built yet.
    """
    if task and kind:
        ladders = [ladder_for(task, kind)]
    else:
        ladders = [ladder for ladder in LADDERS if ladder.task == (task or ladder.task)]
        ladders = [ladder for ladder in ladders if ladder.kind == (kind or ladder.kind)]
    rungs: dict[str, Rung] = {}
    for ladder in ladders:
        for rung in ladder.rungs:
            if rung.name not in rungs or (rung.here and not rungs[rung.name].here):
                rungs[rung.name] = rung
    if name in rungs:
        if not rungs[name].here:
            raise SadariError(
                f"rung {name!r} is not built yet; these are: {', '.join(n for n in rungs if rungs[n].here)}"
            )
        return rungs[name]
    elsewhere = next((ladder for ladder in LADDERS if name in ladder.names), None)
    if task and elsewhere is not None:
        hint = f"it stands on the ladder {elsewhere.title!r}; the rungs of {task!r} are: {', '.join(rungs)}"
    else:
        near = difflib.get_close_matches(name, rungs, n=1)
        hint = (f"did you mean {near[0]!r}? " if near else "") + f"rungs here: {', '.join(rungs)}"
    where = f" for {task or kind}" if task or kind else ""
    raise SadariError(f"no rung {name!r}{where}; {hint}")

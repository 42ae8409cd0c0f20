"""Probe and fine-tune: folders in the hub's layout, the reference's vectors, what freezes, what moves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import polars.testing
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sadari.data.fetch import cached
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.layers.tokens import PAD, is_real
from sadari.losses import make_loss
from sadari.models import encoder
from sadari.models.encoder import FineTune, FineTuneConfig, Probe, ProbeConfig, unknown_share
from sadari.models.one_hot import OneHot
from sadari.pretrained import find_pretrained
from sadari.runs import Run
from sadari.sentences import sentence_vectors

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "cat",
    "dog",
    "pet",
    "rain",
    "snow",
    "sun",
    "##s",
    "ᄒ",
    "##ᅡ",
    "##ᆫ",
]
SENTENCES = ["cats", "dog pet cat", "rain snow sun rain snow", "sun", ""]


def tokenizer_of(words: list[str]) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(words[:4])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(4)  # of the file's own; the model's limit counts, not this
    tokenizer.enable_padding(length=12)
    return tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT as its users save it, told to pool by the mean and normalise."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("hub") / "tiny"
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=16,
    )
    model = BertModel(config)
    with torch.no_grad():
        for parameter in model.parameters():  # far from BERT's small first weights, so that a mix-up shows
            parameter.copy_(0.3 * torch.randn_like(parameter) + (parameter == 1))
    model.save_pretrained(path)
    tokenizer_of(WORDS).save(str(path / "tokenizer.json"))
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    (path / "modules.json").write_text(
        json.dumps([{"path": place, "type": f"sentence_transformers.models.{kind}"} for place, kind in kinds])
    )
    (path / "1_Pooling").mkdir()
    pooling = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 8}))
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The folder, to be spoilt."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def reference_vectors(folder: Path, sentences: list[str], most: int, pooling: str = "mean") -> np.ndarray:
    """What transformers makes of them: pooled and, for the mean, normalised."""
    from tokenizers import Tokenizer
    from transformers import BertModel

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(most)
    tokenizer.no_padding()
    model = BertModel.from_pretrained(folder).eval()
    rows = []
    for sentence in sentences:
        with torch.no_grad():
            h = model(torch.tensor([tokenizer.encode(sentence).ids])).last_hidden_state[0]
        rows.append(F.normalize(h.mean(0), dim=0) if pooling == "mean" else h[0])
    return torch.stack(rows).numpy()


def tokens_of(folder: Path, sentences: list[str]) -> Tensor:
    tokenizer = tokenizer_of(WORDS)
    tokenizer.no_padding()
    ids = [torch.tensor(tokenizer.encode(sentence).ids) for sentence in sentences]
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=PAD)


@pytest.mark.proof("probe", "parity")
@pytest.mark.proof("fine-tune", "parity")
def test_gives_the_references_vectors(folder: Path) -> None:
    expected = reference_vectors(folder, SENTENCES, most=8)
    np.testing.assert_allclose(sentence_vectors(SENTENCES, str(folder)), expected, rtol=0, atol=1e-5)
    tokens = tokens_of(folder, SENTENCES)
    for rung in (Probe, FineTune):
        model = rung(rung.Config(weights=str(folder)), len(WORDS), 2).eval()
        short = reference_vectors(folder, SENTENCES, most=4)  # as `tokens_of` cuts them
        torch.testing.assert_close(model.vectors(tokens), torch.from_numpy(short), rtol=0, atol=1e-5)
        torch.testing.assert_close(model.encode(tokens), torch.from_numpy(short), rtol=0, atol=1e-5)


def test_pools_as_the_folder_says(copy: Path) -> None:
    settings = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (copy / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    modules = json.loads((copy / "modules.json").read_text())[:2]
    (copy / "modules.json").write_text(json.dumps(modules))
    expected = reference_vectors(copy, SENTENCES, most=8, pooling="cls")
    np.testing.assert_allclose(sentence_vectors(SENTENCES, str(copy)), expected, rtol=0, atol=1e-5)
    for name in ("modules.json", "sentence_bert_config.json"):
        (copy / name).unlink()
    found = find_pretrained(str(copy))
    assert (found.pooling, found.normalise, found.most) == ("mean", False, 16)


def test_reads_the_names_of_older_files(folder: Path, copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    old = {}
    for name, value in load_file(copy / "model.safetensors").items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        old[f"bert.{name}"] = value.to(torch.float16)
    old["cls.predictions.bias"] = torch.zeros(3)
    save_file(old, copy / "model.safetensors")
    ours, halved = (sentence_vectors(SENTENCES, str(path)) for path in (folder, copy))
    np.testing.assert_allclose(ours, halved, rtol=0, atol=5e-3)


def test_minilm_gives_the_references_vectors() -> None:
    try:
        path = cached("minilm")
    except SadariError as error:
        pytest.skip(f"the sentence encoder is not fetched: {error}")
    sentences = [
        "A cat sits on the mat.",
        "A kitten rests on a rug!",
        "Stock markets fell sharply in Seoul today.",
        "Überraschung, naïve café 😀 파일",
        "",
        "word " * 400,
    ]
    ours = sentence_vectors(sentences)
    np.testing.assert_allclose(ours, reference_vectors(path, sentences, most=256), rtol=0, atol=1e-4)
    likeness = ours @ ours.T
    assert likeness[0, 1] > 0.5 > 0.2 > likeness[0, 2]


def spoil(**changes: Any) -> Callable[[Path], None]:
    """Change config.json; None takes an entry away."""

    def apply(path: Path) -> None:
        config = json.loads((path / "config.json").read_text()) | changes
        kept = {name: value for name, value in config.items() if value is not None}
        (path / "config.json").write_text(json.dumps(kept))

    return apply


def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        (path / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return apply


def weights(change: Callable[[dict[str, Tensor]], None]) -> Callable[[Path], None]:
    """Change the tensors of model.safetensors."""

    def apply(path: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = {name: value.clone() for name, value in load_file(path / "model.safetensors").items()}
        change(tensors)
        save_file(tensors, path / "model.safetensors")

    return apply


def cut_short(path: Path) -> None:
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[:-100])


def only_a_pickle(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


QUERY = "encoder.layer.0.attention.self.query.weight"
MODULE = '[{"type": "x.Pooling", "path": "../.."}]'
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (lambda path: (path / "config.json").unlink(), "has no config.json; a folder in the hub's"),
    "broken config": (write("config.json", "{"), "config.json cannot be read as JSON"),
    "config of another kind": (write("config.json", "[]"), "config.json holds list, not dict"),
    "huge config": (write("config.json", " " * (1 << 21)), "config.json is larger than 1,048,576 bytes"),
    "another model": (spoil(model_type="gpt2"), "model_type is 'gpt2', and only 'bert' is known here"),
    "another bend": (spoil(hidden_act="relu"), "hidden_act is 'relu', and only 'gelu' is known here"),
    "no width": (spoil(hidden_size=None), "hidden_size is None, a whole number from 1 to 65,536 is needed"),
    "absurd size": (spoil(vocab_size=10**12), "vocab_size is 1000000000000, a whole number from 1 to"),
    "odd heads": (spoil(num_attention_heads=5), "a hidden_size of 24 cannot be cut into 5 heads"),
    "eps": (spoil(layer_norm_eps=0), "layer_norm_eps is 0, a number between 0 and 1 is needed"),
    "no weights": (lambda path: (path / "model.safetensors").unlink(), "has no model.safetensors; save it"),
    "a pickle": (only_a_pickle, r"no model.safetensors \(pytorch_model.bin is not opened: such files can"),
    "cut short": (cut_short, "model.safetensors cannot be read as safetensors"),
    "weights of nothing": (write("model.safetensors", b"\xff" * 64), "cannot be read as safetensors"),
    "other sizes": (spoil(intermediate_size=41), r"is F32 \(40, 24\), its config.json asks for numbers"),
    "fewer layers": (spoil(num_hidden_layers=1), "has encoder.layer.1.[a-zA-Z.]*, which this encoder has"),
    "a tensor too few": (weights(lambda t: t.pop(QUERY)), f"has no {QUERY}; its weights are not those of"),
    "whole numbers": (
        weights(lambda t: t.update({QUERY: t[QUERY].long()})),
        "query.weight is I64 .*asks for numbers",
    ),
    "no tokenizer": (lambda path: (path / "tokenizer.json").unlink(), "has no tokenizer.json"),
    "empty tokenizer": (write("tokenizer.json", "{}"), "tokenizer.json holds no tokenizer; fetch it again"),
    "modules": (write("modules.json", '[{"type": "x.Dense"}]'), "has a module 'Dense'; only Transformer"),
    "way out": (write("modules.json", MODULE), "names the folder '../..'; one inside its own is needed"),
    "pooling": (
        write("1_Pooling/config.json", '{"pooling_mode_max_tokens": true}'),
        r"a text's vector is made by \['pooling_mode_max_tokens'\]; only the mean",
    ),
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_folder_is_refused_with_its_fault(
    copy: Path, fault: Callable[[Path], None], message: str
) -> None:
    fault(copy)
    with pytest.raises(SadariError, match=message):
        sentence_vectors(["cat"], str(copy))


def test_weights_that_are_nowhere_are_refused() -> None:
    with pytest.raises(SadariError, match=r"weights 'no/where': neither a folder nor built in \(minilm\)"):
        ProbeConfig(weights="no/where")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"penalty": -1.0}, "penalty -1.0: a penalty is 0 or more; use penalty=0.1"),
        ({"encoder": "width=8"}, "encoder 'width=8': layers is missing; leave it empty"),
        ({"encoder": encoder.SMALLEST.replace("mean", "max")}, "pooling is max; leave it empty"),
        ({"dropout": 1.0}, r"dropout 1.0: the share dropped lies in \[0, 1\)"),
        ({"frozen": 3}, "frozen 3: the encoder has 2 layers; use frozen=0 to 2"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SadariError, match=message):
        FineTuneConfig(**{"weights": "", **settings})


def test_tokens_of_another_vocabulary_are_refused(folder: Path) -> None:
    with pytest.raises(SadariError, match=r"a vocabulary of 9, the encoder .* knows 14; recode the texts"):
        Probe(ProbeConfig(weights=str(folder)), 9, 2)


def test_a_config_stands_on_its_own_once_made(copy: Path) -> None:
    """A run is opened where the folder is not: sizes come from its config, weights from its own file."""
    config = FineTuneConfig(weights=str(copy))
    model = FineTune(config, len(WORDS), 2)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == FineTune.parameter_count(config, len(WORDS), 2)
    assert (
        FineTune.macs(config, len(WORDS), 2, length=3) == 3 * 2 * (4 * 24**2 + 2 * 24 * 40 + 2 * 3 * 24) + 48
    )
    assert (FineTune.most(config), json.loads(FineTune.tokenizer_json(config))["truncation"]) == (8, None)
    shutil.rmtree(copy)
    again = FineTune(FineTuneConfig(**vars(config)), len(WORDS), 2)
    again.load_state_dict(model.state_dict())
    tokens = tokens_of(copy, SENTENCES)
    assert torch.equal(model.eval()(tokens), again.eval()(tokens))


def test_padding_changes_no_answer(folder: Path) -> None:
    tokens = tokens_of(folder, SENTENCES)
    for rung in (Probe, FineTune):
        model = rung(rung.Config(weights=str(folder)), len(WORDS), 2).eval()
        singles = torch.cat([model(row[row >= 0][None]) for row in tokens])
        torch.testing.assert_close(model(tokens), singles, rtol=0, atol=1e-6)
        assert model(torch.full((1, 3), PAD)).isfinite().all()


def test_many_texts_are_encoded_in_blocks_of_like_length(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "BLOCK", 10)
    tokens = tokens_of(folder, [SENTENCES[i % 5] for i in range(23)])
    model = Probe(ProbeConfig(weights=str(folder)), len(WORDS), 2)
    torch.testing.assert_close(model.encode(tokens), model.vectors(tokens), rtol=0, atol=1e-6)
    assert model.training and not model.encoder.training
    blocks = list(encoder._blocks(is_real(tokens).sum(-1)))
    assert sorted(torch.cat(blocks).tolist()) == list(range(23)) and len(blocks) > 5


LOSS = make_loss("binary", classes=2)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_probe_fits_the_line_and_leaves_the_encoder_bitwise(
    folder: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool
) -> None:
    from sklearn.linear_model import LogisticRegression

    monkeypatch.setattr(encoder, "_has_bf16", lambda: bf16)
    tokens = tokens_of(folder, ["cat", "dog", "pets", "rain", "snow sun", "sun", "rain sun", "cat dog"] * 4)
    targets = torch.tensor([0, 0, 0, 1, 1, 1, 1, 0] * 4)
    model = Probe(ProbeConfig(weights=str(folder), penalty=1.0), len(WORDS), LOSS.outputs)
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    assert model.can_solve(LOSS)
    facts = model.solve(tokens, targets, LOSS)
    assert all(torch.equal(before[name], value) for name, value in model.encoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())
    reference = LogisticRegression(tol=1e-8).fit(model.vectors(tokens).numpy(), targets.numpy())
    close = 0.05 if bf16 else 1e-3
    np.testing.assert_allclose(model.output.weight.detach(), reference.coef_, rtol=0, atol=close)
    assert facts["encoding"] == ("bf16" if bf16 else "fp32")
    assert facts["converged"] and facts["texts_per_second"] > 0 and not facts["notes"]


def test_fine_tuning_begins_from_the_probe_and_moves_everything(folder: Path) -> None:
    tokens = tokens_of(folder, ["cat", "dog", "rain", "sun"])
    targets = torch.tensor([0, 0, 1, 1])
    probe = Probe(ProbeConfig(weights=str(folder)), len(WORDS), LOSS.outputs).eval()
    model = FineTune(FineTuneConfig(weights=str(folder)), len(WORDS), LOSS.outputs).eval()
    probe.solve(tokens, targets, LOSS)
    model.begin(tokens, targets, LOSS)
    torch.testing.assert_close(model(tokens), probe(tokens), rtol=0, atol=1e-6)
    assert not hasattr(model, "can_solve")
    LOSS(model(tokens), targets).mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    half = FineTune(FineTuneConfig(weights=str(folder), frozen=1), len(WORDS), LOSS.outputs)
    LOSS(half(tokens), targets).mean().backward()
    moved = {name for name, parameter in half.named_parameters() if parameter.grad is not None}
    assert moved and all(name.startswith(("encoder.encoder.layer.1.", "output.")) for name in moved)


def test_first_weights_follow_their_laws() -> None:
    torch.manual_seed(0)
    model = FineTune(
        FineTuneConfig(weights="", encoder=encoder.SMALLEST.replace("width=8", "width=32")), 300, 3
    )
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            margin = 5 / parameter.numel() ** 0.5
            assert parameter.std().item() == pytest.approx(0.02, rel=margin), name
        else:
            assert (parameter == float(name.endswith("LayerNorm.weight"))).all(), name
    assert model.begin(torch.zeros(4, 2, dtype=torch.long), torch.arange(4) % 3, make_loss("squared")) == {
        "notes": []
    }


def test_hangul_is_said_to_be_foreign(folder: Path) -> None:
    tokenizer = json.dumps(json.loads((folder / "tokenizer.json").read_text()))
    korean = tokens_of(folder, ["한", "하", "힣 cat"])
    spelt, unknown = unknown_share(korean, tokenizer)
    assert (spelt, unknown) == (4 / 6, 1 / 6)  # ᄒ ᅡ, ᄒ ᅡ, 힣 is unknown, cat
    assert unknown_share(tokens_of(folder, SENTENCES), tokenizer) == (0.0, 0.0)
    targets = torch.tensor([0, 1, 0])
    (note,) = Probe(ProbeConfig(weights=str(folder)), len(WORDS), 1).solve(korean, targets, LOSS)["notes"]
    assert note.level == "warning"
    assert "67% of the tokens are single letters of Hangul" in note.english and "17%" in note.english
    assert "67%가 한글 낱자" in note.korean


def plant(path: Path, vectors: dict[str, Tensor], scale: float = 0.02) -> Path:
    """A tiny BERT that has learnt which words go together: those that share a vector."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *vectors]
    sizes = dict(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    sizes |= dict(intermediate_size=32, max_position_embeddings=16, type_vocab_size=2)
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "bert", **sizes}))
    tokenizer_of(words).save(str(path / "tokenizer.json"))
    fresh = ProbeConfig(
        weights="", encoder="width=16 layers=1 heads=2 inner=32 longest=16 types=2 pooling=mean normalise=1"
    )
    state = {
        name: value.clone() * (scale / 0.02 if value.ndim > 1 else 1)
        for name, value in Probe(fresh, len(words), 1).encoder.state_dict().items()
    }
    for place, vector in enumerate(vectors.values(), start=4):
        state["embeddings.word_embeddings.weight"][place] = vector
    save_file(state, path / "model.safetensors")
    return path


def read(words: list[str], texts: list[str]) -> Tensor:
    tokenizer = tokenizer_of(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = [torch.tensor(tokenizer.encode(text).ids) for text in texts]
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=PAD)


def right(model: torch.nn.Module, tokens: Tensor, targets: Tensor) -> float:
    with torch.no_grad():
        return ((model.eval()(tokens)[:, 0] > 0) == targets.bool()).double().mean().item()


@pytest.mark.proof("probe", "claim")
def test_a_few_labels_reach_words_that_they_never_showed(tmp_path: Path) -> None:
    """Five labelled texts a class. To a bag of words a new word is nothing; the encoder knows its kin."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(2, 16, generator=generator)
    words = [f"{kind}{i}" for kind in ("animal", "sky") for i in range(10)]
    near = [kinds[i // 10] + 0.3 * torch.randn(16, generator=generator) for i in range(20)]
    path = plant(tmp_path / "planted", dict(zip(words, near, strict=True)))
    seen, new = ([i for i in range(20) if (i % 10 < 5) is part] for part in (True, False))
    train, test = (read(words, [f"{words[i]} {words[i]}" for i in rows]) for rows in (seen, new))
    kind, other = (torch.tensor([i // 10 for i in rows]) for rows in (seen, new))
    probe = Probe(ProbeConfig(weights=str(path)), 24, LOSS.outputs)
    probe.solve(train, kind, LOSS)
    bag = OneHot(OneHot.Config(), 24, LOSS.outputs)
    bag.solve(train, kind, LOSS)
    assert right(probe, test, other) == 1.0
    assert right(bag, train, kind) == 1.0 and right(bag, test, other) <= 0.5


@pytest.mark.proof("fine-tune", "claim")
def test_fine_tuning_learns_what_the_frozen_vectors_leave_out(tmp_path: Path) -> None:
    """Which of two words comes first: the mean of frozen vectors hardly tells, the trained encoder does."""
    words = [f"w{i}" for i in range(8)]
    generator = torch.Generator().manual_seed(0)
    path = plant(tmp_path / "planted", {word: torch.randn(16, generator=generator) for word in words})

    def texts(rows: int, seed: int) -> tuple[Tensor, Tensor]:
        draw = np.random.default_rng(seed)
        pairs = [draw.choice(8, 2, replace=False) for _ in range(rows)]
        return read(words, [f"w{a} w{b}" for a, b in pairs]), torch.tensor([int(a < b) for a, b in pairs])

    train, test = texts(64, 0), texts(200, 1)
    probe = Probe(ProbeConfig(weights=str(path)), 12, LOSS.outputs)
    probe.solve(*train, LOSS)
    model = FineTune(FineTuneConfig(weights=str(path), dropout=0.0), 12, LOSS.outputs)
    model.begin(*train, LOSS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        LOSS(model(train[0]), train[1]).mean().backward()
        optimizer.step()
    assert right(probe, *test) < 0.7
    assert right(model, *test) > 0.8


ANIMALS, SKY = ["cat", "dog", "cow", "고양이"], ["rain", "snow", "sun", "비"]


@pytest.mark.parametrize(
    "rung",
    [pytest.param(rung, marks=pytest.mark.proof(rung, "trains")) for rung in ("probe", "fine-tune")],
)
def test_fits_texts_and_answers_from_its_folder_alone(rung: str, tmp_path: Path) -> None:
    """The run holds encoder and tokenizer: it answers raw texts where the encoder's own folder is gone."""
    generator = torch.Generator().manual_seed(0)
    path = plant(tmp_path / "planted", {w: torch.randn(16, generator=generator) for w in ANIMALS + SKY}, 0.3)
    draw = np.random.default_rng(0)
    kinds = [bool(k) for k in draw.integers(0, 2, 120)]
    texts = [" ".join(draw.choice(ANIMALS if k else SKY, 4)) for k in kinds]
    table = pl.DataFrame({"text": texts, "kind": ["동물" if k else "sky" for k in kinds]})
    table.write_csv(tmp_path / "texts.csv")
    given: dict[str, Any] = {"target": "kind", "kind": "text", "model": {"weights": str(path)}}
    if rung == "fine-tune":
        given |= {"budget": "20steps"}
    run = fit(rung, tmp_path / "texts.csv", out=tmp_path / "run", **given)
    answers = run.predict(table, probabilities=True)
    assert (answers["prediction"] == table["kind"]).mean() > 0.95
    shutil.rmtree(path)
    again = Run.load((tmp_path / "run").rename(tmp_path / "옮긴 곳"))
    pl.testing.assert_frame_equal(again.predict(table, probabilities=True), answers)
    counted = sum(value.numel() for value in again.model.state_dict().values())
    assert counted == type(again.model).parameter_count(again.model.config, again.spec.width, 1)

"""Transformer: BERT's and torch's encoders on copied weights, exact counts, laws; all words at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers.tokens import PAD, is_real
from sadari.models.rnn import RNN
from sadari.models.transformer import (
    Encoder,
    EncoderConfig,
    Transformer,
    TransformerConfig,
    laws,
    mean_of,
    sinusoid,
)

SMALL_BERT = EncoderConfig(vocabulary=50, width=32, layers=2, heads=4, inner=64, longest=16)
TEXTS = torch.tensor([[3, 7, 9, 2, 11], [4, 8, 1, PAD, PAD], [5, PAD, PAD, PAD, PAD]])


def build(inputs: int = 50, outputs: int = 3, **settings: Any) -> Transformer:
    torch.manual_seed(0)
    sizes = {"width": 16, "heads": 4, "layers": 2, **settings}
    return Transformer(TransformerConfig(**sizes), inputs, outputs).eval()


def randomise(module: nn.Module) -> None:
    """Draw every parameter anew, biases and norms too, so that a mix-up of any two shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + (parameter == 1))


@pytest.mark.proof("transformer", "parity")
@pytest.mark.parametrize("plain", [False, True])
def test_equals_transformers_bert_on_copied_weights(plain: bool) -> None:
    """The same names, outputs and gradients, padded texts too; only what stands on padding may differ."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=16,
    )
    reference = BertModel(config, add_pooling_layer=False).eval()
    ours = Encoder(SMALL_BERT).eval()
    randomise(reference)
    assert set(ours.state_dict()) == set(reference.state_dict())
    ours.load_state_dict(reference.state_dict())
    real = is_real(TEXTS)
    expected = reference(TEXTS.clamp(min=0), attention_mask=real.long()).last_hidden_state
    out = ours(TEXTS, (lambda name, value: value) if plain else None)
    torch.testing.assert_close(out[real], expected[real], rtol=0, atol=1e-5)
    for answer in (out, expected):
        answer[real].square().sum().backward()
    theirs = dict(reference.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, theirs[name].grad, rtol=1e-4, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_bert_base_has_as_many_parameters_as_published() -> None:
    with torch.device("meta"):
        encoder = Encoder(EncoderConfig())
    count = sum(parameter.numel() for parameter in encoder.parameters())
    pooler = 768 * 769
    assert count == Encoder.parameter_count(EncoderConfig()) == 108_891_648
    assert count + pooler == 109_482_240


@pytest.mark.proof("transformer", "parity")
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_equals_torch_transformer_encoder_on_copied_weights(norm: str) -> None:
    """Vaswani's arithmetic as torch has it, query, key and value in one matrix there, three here."""
    sizes = EncoderConfig(
        vocabulary=50, width=32, layers=2, heads=4, inner=64, types=0, norm=norm, positions="none", eps=1e-5
    )
    ours = Encoder(sizes).eval()
    randomise(ours)
    layer = nn.TransformerEncoderLayer(
        32, 4, 64, activation="gelu", batch_first=True, norm_first=norm == "pre", dropout=0.0
    )
    last = nn.LayerNorm(32) if norm == "pre" else None
    reference = nn.TransformerEncoder(layer, 2, norm=last, enable_nested_tensor=False)
    state = ours.encoder.state_dict()
    copied: dict[str, Tensor] = {}
    for i in range(2):
        for part in ("weight", "bias"):
            here = f"layer.{i}."
            three = [state[f"{here}attention.self.{name}.{part}"] for name in ("query", "key", "value")]
            copied[f"layers.{i}.self_attn.in_proj_{part}"] = torch.cat(three)
            for theirs, name in (
                ("self_attn.out_proj", "attention.output.dense"),
                ("norm1", "attention.output.LayerNorm"),
                ("linear1", "intermediate.dense"),
                ("linear2", "output.dense"),
                ("norm2", "output.LayerNorm"),
            ):
                copied[f"layers.{i}.{theirs}.{part}"] = state[f"{here}{name}.{part}"]
    if last is not None:
        copied |= {f"norm.{part}": state[f"LayerNorm.{part}"] for part in ("weight", "bias")}
    reference.load_state_dict(copied)
    real = is_real(TEXTS)
    embedded = ours.embeddings(TEXTS)
    expected = reference(embedded, src_key_padding_mask=~real)
    torch.testing.assert_close(ours(TEXTS)[real], expected[real], rtol=0, atol=2e-5)


def test_the_waves_are_vaswanis() -> None:
    waves = sinusoid(30, 6)
    assert waves.shape == (30, 6)
    for place in (0, 7, 29):
        for i in range(3):
            angle = torch.tensor(place / 10000 ** (2 * i / 6))
            torch.testing.assert_close(waves[place, 2 * i], angle.sin(), rtol=0, atol=1e-5)
            torch.testing.assert_close(waves[place, 2 * i + 1], angle.cos(), rtol=0, atol=1e-5)
    assert sinusoid(4, 5).shape == (4, 5)


VARIANTS = [
    {},
    {"norm": "post"},
    {"positions": "learned", "longest": 8},
    {"positions": "none"},
    {"pooling": "cls"},
    {"pooling": "cls", "positions": "learned", "longest": 5, "inner": 24, "layers": 1},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_variants_count_learn_and_ignore_padding(settings: dict[str, Any]) -> None:
    model = build(**settings)
    assert sum(p.numel() for p in model.parameters()) == Transformer.parameter_count(model.config, 50, 3)
    output = model(TEXTS)
    singles = torch.cat([model(row[row >= 0][None]) for row in TEXTS])
    torch.testing.assert_close(output, singles, rtol=0, atol=1e-6)
    torch.testing.assert_close(model(F.pad(TEXTS, (0, 0)).to(torch.int32)), output)
    output.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # one number added to all scores of a query changes no weight: a key's bias has no slope but rounding
        assert parameter.grad.abs().sum() > 0 or name.endswith("key.bias"), name


def test_a_text_without_tokens_is_answered() -> None:
    empty = torch.full((2, 4), PAD)
    for pooling in ("mean", "cls"):
        model = build(pooling=pooling)
        output = model(empty)
        assert output.isfinite().all() and torch.equal(output[0], output[1])
        output.sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert torch.equal(mean_of(torch.ones(1, 4, 2), is_real(empty[:1])), torch.zeros(1, 2))


def test_a_recorder_gets_every_layers_weights_and_changes_nothing() -> None:
    model, seen = build(layers=2), {}

    def record(name: str, value: Tensor) -> Tensor:
        seen[name] = value
        return value

    output = model(TEXTS, record)
    torch.testing.assert_close(output, model(TEXTS), rtol=0, atol=1e-5)
    assert list(seen) == [
        "embedded",
        "layer0.attention",
        "layer0",
        "layer1.attention",
        "layer1",
        "pooled",
        "output",
    ]
    real = is_real(TEXTS)
    for i in range(2):
        weights = seen[f"layer{i}.attention"]
        assert weights.shape == (3, 4, 5, 5)
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 5))
        assert (weights * ~real[:, None, None]).sum() == 0  # nothing looks at padding


def test_first_weights_follow_their_laws() -> None:
    for settings in ({}, {"norm": "post", "positions": "learned"}):
        model = build(inputs=400, width=64, layers=3, **settings)
        table = laws(model)
        assert set(table) == {name for name, _ in model.named_parameters()}
        for name, parameter in model.named_parameters():
            law, deviation = table[name]
            if law == "normal":
                sample = parameter.detach().flatten()
                margin = 5 / len(sample) ** 0.5
                assert sample.std().item() == pytest.approx(deviation, rel=margin), name
                assert abs(sample.mean().item()) < margin * deviation, name
            else:
                assert (parameter == float(law == "one")).all(), name


def test_what_the_layers_add_does_not_grow_with_their_number() -> None:
    """The 2 L branches of a fresh model sum to about as much whatever L is."""
    tokens = torch.randint(0, 400, (4, 32), generator=torch.Generator().manual_seed(0))
    sizes: list[float] = []
    for layers in (1, 4, 16):
        model = build(inputs=400, width=64, layers=layers)
        seen: list[Tensor] = []
        model.encoder.encoder.LayerNorm.register_forward_hook(lambda m, x, y, seen=seen: seen.append(x[0]))
        model(tokens)
        sizes.append(seen[0].std().item())
    assert max(sizes) < 1.5 * min(sizes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 30}, "width 30 is not divisible by 4 heads; use heads=3"),
        ({"layers": 0}, "layers 0: a transformer needs at least 1 layer; use layers=1"),
        ({"inner": -1}, "inner -1: a dense layer has at least 1 unit; use inner=0 for 4 widths"),
        ({"dropout": 1.0}, r"dropout 1.0: the share dropped lies in \[0, 1\); use dropout=0.1"),
        ({"longest": 0}, "longest 0: positions reach over at least 1 token; use longest=512"),
        ({"norm": "mid"}, "no norm 'mid'; choose one of pre, post"),
        ({"positions": "rotary"}, "no positions 'rotary'; choose one of sinusoid, learned, none"),
        ({"pooling": "max"}, "no pooling 'max'; choose one of mean, cls"),
    ],
)
def test_settings_that_make_no_transformer_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SadariError, match=message):
        TransformerConfig(**settings)


def test_texts_longer_than_learned_positions_are_refused() -> None:
    model = build(positions="learned", longest=4)
    with pytest.raises(SadariError, match="a text of 5 tokens, but there are positions for 4; cut texts to"):
        model(TEXTS)


def test_macs_are_those_of_its_matrices() -> None:
    """A text of 5 tokens, width 16, inner 64, 2 layers: by hand."""
    layer = 5 * (4 * 16 * 16 + 2 * 16 * 64) + 2 * 5 * 5 * 16
    assert Transformer.macs(TransformerConfig(width=16, layers=2), 50, 3, length=5) == 2 * layer + 16 * 3
    cls = TransformerConfig(width=16, layers=2, pooling="cls")
    assert Transformer.macs(cls, 50, 3, length=4) == 2 * layer + 16 * 3


def test_without_positions_the_order_of_words_is_invisible() -> None:
    turned = TEXTS[:1].flip(1)
    for positions in ("none", "sinusoid", "learned"):
        model = build(positions=positions)
        moved = (model(TEXTS[:1]) - model(turned)).abs().max()
        assert moved < 1e-6 if positions == "none" else moved > 1e-6, positions


def recall(rows: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    """The middle one of `length` tokens is the class, the others are filler of 20 kinds."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 4, (rows,), generator=generator)
    filler = torch.randint(4, 24, (rows, length), generator=generator)
    filler[:, length // 2] = targets
    return filler, targets


def learn(model: nn.Module, length: int, steps: int) -> float:
    """Share of new texts put right after some steps of Adam."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for step in range(steps):
        tokens, targets = recall(32, length, seed=step)
        optimizer.zero_grad()
        F.cross_entropy(model(tokens), targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    tokens, targets = recall(200, length, seed=steps + 1)
    with torch.no_grad():
        return (model.eval()(tokens).argmax(-1) == targets).double().mean().item()


@pytest.mark.proof("transformer", "claim")
def test_what_stands_100_tokens_away_is_one_step_away() -> None:
    """One word tells the class, far from either end: a chain of steps has lost it, this has not."""
    torch.manual_seed(0)
    chain = RNN(RNN.Config(width=32), 24, 4)
    assert learn(chain, 200, steps=60) < 0.5
    assert learn(build(24, 4, width=32, layers=1, dropout=0.0), 200, steps=60) > 0.95

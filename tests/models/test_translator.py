"""Translator: torch's Transformer on copied weights; a cache as none; padding, counts, laws; it learns."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers.tokens import PAD
from sadari.models.translator import VARIANTS, Translator, TranslatorConfig, laws, waves

V, W = 23, 29  # source and target tokens
START, END = 1, 2
SMALL = TranslatorConfig(layers=2, decoder_layers=3, width=16, heads=4, inner=24, dropout=0.0)


def build(config: TranslatorConfig = SMALL, seed: int = 0) -> Translator:
    """A model whose every number is drawn, biases and norms too, so that a mix-up of any two shows."""
    torch.manual_seed(seed)
    model = Translator(config, W if config.share else V, W)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape) + (parameter == 1))
    return model.eval()


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(3, V, shape, generator=torch.Generator().manual_seed(seed))


def pair(B: int = 3, S: int = 7, T: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sources of unequal length, and targets that begin with START."""
    source, target = tokens(B, S, seed=seed), tokens(B, T, seed=seed + 1)
    for b in range(B):
        source[b, max(1, S - 2 * b) :] = PAD
    target[:, 0] = START
    return source, target


# ---------------------------------------------------------------------- parity


def copied(model: Translator) -> nn.Transformer:
    """torch's Transformer with the model's weights; without a norm at the ends where ours has none."""
    config = model.config
    theirs = nn.Transformer(
        config.width, config.heads, config.layers, config.depth, config.units, 0.0, config.activation,
        batch_first=True, norm_first=config.norm_first,
    ).eval()  # fmt: skip
    if not config.norm_first:
        theirs.encoder.norm = theirs.decoder.norm = None
    theirs.encoder.enable_nested_tensor = theirs.encoder.use_nested_tensor = False
    state, ours = {}, model.state_dict()
    for side, own, parts in (
        ("encoder", "encoder", {"norm1": "norm1", "norm2": "norm3"}),
        ("decoder", "layers", {"norm1": "norm1", "norm2": "norm2", "norm3": "norm3"}),
    ):
        parts |= {"linear1": "feed.up", "linear2": "feed.down", "self_attn.out_proj": "attention.out"}
        parts |= {"multihead_attn.out_proj": "cross.out"} if side == "decoder" else {}
        for i in range(config.layers if side == "encoder" else config.depth):
            for kind in ("weight", "bias"):
                here, there = f"{own}.{i}.", f"{side}.layers.{i}."
                state |= {f"{there}{theirs}.{kind}": ours[f"{here}{o}.{kind}"] for theirs, o in parts.items()}
                state[f"{there}self_attn.in_proj_{kind}"] = ours[f"{here}attention.qkv.{kind}"]
                if side == "decoder":
                    both = [ours[f"{here}cross.{part}.{kind}"] for part in ("query", "kv")]
                    state[f"{there}multihead_attn.in_proj_{kind}"] = torch.cat(both)
    if config.norm_first:
        for kind in ("weight", "bias"):
            state[f"encoder.norm.{kind}"] = ours[f"encoder_norm.{kind}"]
            state[f"decoder.norm.{kind}"] = ours[f"norm.{kind}"]
    theirs.load_state_dict(state)
    return theirs


@pytest.mark.proof("transformer", "parity")
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_equals_torch_transformer_on_copied_weights(norm_first: bool, activation: str, plain: bool) -> None:
    """Answers and the gradients of what goes in, sources padded."""
    model = build(replace(SMALL, norm_first=norm_first, activation=activation, begin="word"))
    theirs, (source, target) = copied(model), pair()
    causal = torch.ones(6, 6, dtype=torch.bool).triu(1)
    x, y = (
        (4 * F.embedding(text.clamp(min=0), table.weight) * (text >= 0)[..., None] + waves(len(text[0]), 16))
        for text, table in ((source, model.source_embedding), (target, model.embedding))
    )  # sqrt(16) = 4
    expected = theirs(
        x, y, tgt_mask=causal, src_key_padding_mask=source < 0, memory_key_padding_mask=source < 0
    )
    answer = model.hidden(source, target, plain=plain)
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5)
    tables = (model.source_embedding.weight, model.embedding.weight)
    for own, their in zip(*(torch.autograd.grad(h.square().sum(), tables) for h in (answer, expected)),
                          strict=True):  # fmt: skip
        torch.testing.assert_close(own, their, rtol=1e-4, atol=1e-4 * float(their.abs().max()))


@pytest.mark.parametrize("width", [16, 6, 7])
def test_places_are_marians_and_the_papers(width: int) -> None:
    from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

    expected = MarianSinusoidalPositionalEmbedding(1200, width).create_weight()
    torch.testing.assert_close(waves(1200, width), expected, rtol=0, atol=1e-6)
    paper = torch.tensor(
        [
            [(math.cos if j % 2 else math.sin)(t / 10000 ** ((j - j % 2) / width)) for j in range(width)]
            for t in range(50)
        ]
    )
    torch.testing.assert_close(waves(50, width, "interleaved"), paper, rtol=0, atol=1e-6)


# ---------------------------------------------------------------------- two ways, same answer


def test_padding_changes_no_answer() -> None:
    """A padded batch is its single rows; in a source PAD may stand anywhere, and what is empty is read."""
    model = build()
    source, target = pair()
    target[1, 4:] = PAD
    batch = model(F.pad(source, (0, 3), value=PAD), F.pad(target, (0, 2), value=PAD))
    for b in range(3):
        S, T = int((source[b] >= 0).sum()), int((target[b] >= 0).sum())
        alone = model(source[b : b + 1, :S], target[b : b + 1, :T])
        torch.testing.assert_close(batch[b : b + 1, :T], alone, rtol=0, atol=1e-5)
    source[0, 3] = PAD
    seen: dict[str, Tensor] = {}
    model(source, target, lambda name, value: seen.setdefault(name, value))
    for name in ("encoder.1.self", "layers.2.cross"):
        assert not seen[name][0, :, :, 3].any()
    assert model(torch.full((2, 4), PAD), target[:2]).isfinite().all()


def test_no_target_token_sees_a_later_one() -> None:
    model = build()
    source, target = pair(T=9)
    other = target.clone()
    other[:, 5:] = tokens(3, 4, seed=9)
    a, b = model(source, target), model(source, other)
    torch.testing.assert_close(a[:, :5], b[:, :5], rtol=0, atol=1e-6)
    assert not torch.allclose(a[:, 5:], b[:, 5:])


def test_names_its_inner_values_on_the_plain_path_which_equals_the_fused() -> None:
    model = build()
    source, target = pair()
    seen: dict[str, Tensor] = {}
    answer = model(source, target, lambda name, value: seen.setdefault(name, value))
    assert list(seen) == [
        "source", "encoder.0.self", "encoder.0", "encoder.1.self", "encoder.1", "memory", "target",
        "layers.0.self", "layers.0.cross", "layers.0", "layers.1.self", "layers.1.cross", "layers.1",
        "layers.2.self", "layers.2.cross", "layers.2", "hidden", "output",
    ]  # fmt: skip
    cross, own = seen["layers.1.cross"], seen["layers.1.self"]
    assert cross.shape == (3, 4, 6, 7) and own.shape == (3, 4, 6, 6)
    torch.testing.assert_close(cross.sum(-1), torch.ones(3, 4, 6))
    assert not own.triu(1).any() and not cross.masked_select((source < 0)[:, None, None]).any()
    torch.testing.assert_close(model(source, target), answer, rtol=0, atol=1e-5)
    torch.testing.assert_close(model(source, target, plain=True), answer, rtol=0, atol=1e-6)


def test_alignment_is_the_mean_of_a_layers_heads() -> None:
    model = build()
    source, target = pair()
    seen: dict[str, Tensor] = {}
    model(source, target, lambda name, value: seen.setdefault(name, value))
    for layer, name in ((-1, "layers.2.cross"), (0, "layers.0.cross")):
        found = model.alignment(source, target, layer)
        torch.testing.assert_close(found, seen[name].mean(1))
        torch.testing.assert_close(found.sum(-1), torch.ones(3, 6))
        assert not found.masked_select((source < 0)[:, None]).any()
    with pytest.raises(SadariError, match="layer 3: the decoder has 3, from 0 to 2; use layer=-1"):
        model.alignment(source, target, 3)


CONFIGS = st.builds(
    lambda D, heads, **rest: TranslatorConfig(width=D * heads, heads=heads, dropout=0.0, **rest),
    D=st.integers(1, 4),
    heads=st.sampled_from([1, 2, 4]),
    layers=st.integers(1, 2),
    decoder_layers=st.integers(0, 3),
    inner=st.sampled_from([0, 5]),
    activation=st.sampled_from(["relu", "swish", "gelu"]),
    norm_first=st.booleans(),
    positions=st.sampled_from(["halves", "interleaved"]),
    begin=st.sampled_from(["zero", "word"]),
    scaled=st.booleans(),
    share=st.booleans(),
    tied=st.booleans(),
    bias=st.booleans(),
)


@settings(max_examples=30)
@given(
    config=CONFIGS,
    moves=st.lists(
        st.tuples(st.integers(1, 40), st.lists(st.integers(0, 99), min_size=1, max_size=6)), max_size=5
    ),
    seed=st.integers(0, 99),
)
def test_with_a_cache_as_without_in_steps_of_any_length_and_any_order(config, moves, seed) -> None:
    """Each move writes some tokens to each row, then keeps, drops, repeats and mixes rows at will."""
    model = build(config, seed)
    source, _ = pair(seed=seed)
    text = torch.empty(3, 0, dtype=torch.int64)
    owner = torch.arange(3)
    with torch.no_grad():
        state = model.start(source)
        for count, wanted in [*moves, (1, [0])]:
            new = tokens(len(text), count, seed=seed + count)
            text = torch.cat((text, new), dim=1)
            logits, state = model.step(new, state)
            expected = model(source[owner], text)[:, -1]
            torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
            rows = torch.tensor(wanted) % len(text)
            text, owner, state = text[rows], owner[rows], model.reorder(state, rows)
            assert torch.equal(state.origin.repeat_interleave(state.each), owner)


def test_cached_equals_uncached_to_a_hundred_thousandth_through_a_beam_search() -> None:
    """Greedy at the usual sizes, five beams a sentence, sentences that leave; to 1e-5."""
    torch.manual_seed(0)
    model = Translator(TranslatorConfig(layers=2, width=64), V, W).eval()
    source, text, owner = pair()[0], torch.full((3, 1), START), torch.arange(3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        logits, state = model.step(text, model.start(source))
        for step in range(70):
            torch.testing.assert_close(logits, model(source[owner], text)[:, -1], rtol=0, atol=1e-5)
            if step == 0:
                rows = torch.arange(3).repeat_interleave(5)
            else:  # within a sentence, and after 40 steps the second is done
                sentences = owner.unique()
                if step == 40:
                    sentences = sentences[sentences != 1]
                first = torch.stack([(owner == s).nonzero()[0, 0] for s in sentences])
                drawn = torch.randint(5, (len(sentences), 5), generator=generator)
                rows = (first[:, None] + drawn).flatten()
            before = state
            state, owner = model.reorder(state, rows), owner[rows]
            if step not in (0, 40):
                assert state.cross is before.cross  # nothing of the sources was copied
            new = torch.randint(3, W, (len(rows), 1), generator=generator)
            text = torch.cat((text[rows], new), dim=1)
            logits, state = model.step(new, state)
    assert state.past.shape == (2, 2, 10, 4, 80, 16) and len(state.cross[0][0]) == 2


def test_reorder_copies_only_what_changes() -> None:
    model = build()
    source, target = pair()
    with torch.no_grad():
        _, start = model.step(target[:, :3], model.start(source))
        assert model.reorder(start, torch.arange(3)) is start
        wide = model.reorder(start, torch.tensor([0, 0, 1, 1, 2, 2]))
        assert wide.cross is start.cross and wide.each == 2 and wide.past.shape[2] == 6
        within = model.reorder(wide, torch.tensor([1, 1, 2, 3, 5, 4]))
        assert within.cross is start.cross and within.past is not wide.past
        fewer = model.reorder(within, torch.tensor([4, 5, 0, 1]))
        assert fewer.origin.tolist() == [2, 0] and fewer.each == 2 and fewer.cross[0][0].shape[0] == 2
        uneven = model.reorder(wide, torch.tensor([0, 2, 3]))
        assert uneven.origin.tolist() == [0, 1, 1] and uneven.each == 1
        assert model.reorder(uneven, torch.tensor([0, 2, 1])).cross is uneven.cross
        written = wide.past[..., :3, :].clone()
        few = model.reorder(wide, torch.tensor([0, 0, 2, 3, 5, 5]))  # nothing is written over that is needed
        assert few.past is wide.past and few.cross is wide.cross
        assert torch.equal(few.past[..., :3, :], written[:, :, [0, 0, 2, 3, 5, 5]])
        left = model.reorder(few, torch.tensor([0, 1, 4, 5]))  # the second source's rows leave
        assert left.origin.tolist() == [0, 2] and left.past.data_ptr() == few.past.data_ptr()
        assert torch.equal(left.past[..., :3, :], written[:, :, [0, 0, 5, 5]])
        even = model.reorder(uneven, torch.tensor([1, 2]))
        assert even.origin.tolist() == [1] and even.each == 2


def test_learns_on_after_it_has_written_in_inference_mode() -> None:
    """The table of places that a decoding has made serves training too."""
    model = build()
    source, target = pair()
    with torch.inference_mode():
        expected, _ = model.step(target, model.start(source))
    answer = model(source, target)
    torch.testing.assert_close(answer[:, -1], expected, rtol=0, atol=1e-5)
    answer.square().mean().backward()
    assert model.embedding.weight.grad.any()


def test_bf16_is_near_float32_and_with_a_cache_as_without() -> None:
    torch.manual_seed(0)
    model = Translator(TranslatorConfig(layers=2, width=64), V, W).eval()
    source, target = pair()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = model(source, target).float()
        state, steps = model.start(source), []
        assert state.past.dtype == torch.bfloat16
        for t in range(6):
            logits, state = model.step(target[:, t : t + 1], state)
            steps.append(logits.float())
    whole = model(source, target)
    assert (half - whole).norm() < 0.02 * whole.norm()
    assert (torch.stack(steps, 1) - whole).norm() < 0.02 * whole.norm()


# ---------------------------------------------------------------------- counts, laws, settings


@pytest.mark.parametrize(("variant", "count"), [("base", 63_082_496), ("big", 214_245_376)])
def test_the_papers_sizes(variant: str, count: int) -> None:
    config = TranslatorConfig(**VARIANTS[variant])
    assert Translator.parameter_count(config, 37_000, 37_000) == count
    with torch.device("meta"):
        model = Translator(config, 37_000, 37_000)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    layers = count - model.embedding.weight.numel()
    assert layers == {"base": 44_138_496, "big": 176_357_376}[variant]


@given(config=CONFIGS)
def test_formulas_count_the_parameters_and_the_multiply_adds(config: TranslatorConfig) -> None:
    model = Translator(config, W if config.share else V, W)
    inputs = W if config.share else V
    count = sum(parameter.numel() for parameter in model.parameters())
    assert Translator.parameter_count(config, inputs, W) == count
    assert not config.share or model.source_embedding is None
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear))
    looked = 2 * config.width * 9 * (config.layers + 2 * config.depth)
    assert Translator.macs(config, inputs, W, 9) == 9 * (linear + looked)


def test_every_parameter_gets_a_gradient() -> None:
    for config in (SMALL, replace(SMALL, norm_first=True, tied=False), replace(SMALL, share=True)):
        model = Translator(config, W if config.share else V, W)
        source, target = pair()
        model(source, target).square().mean().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            if not name.endswith(("qkv.bias", "kv.bias")):  # a key's bias moves no softmax
                assert parameter.grad.any(), name


def test_first_weights_obey_their_laws_and_the_first_loss_is_near_ln_v() -> None:
    torch.manual_seed(0)
    model = Translator(TranslatorConfig(tied=False), 900, 1000)
    table = laws(model)
    assert set(table) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        law, value = table[name]
        if law == "constant":
            assert (parameter == value).all(), name
        else:
            assert parameter.std().item() == pytest.approx(value, rel=0.05), name
            assert abs(parameter.mean().item()) < 0.05 * value
    assert table["layers.1.cross.query.weight"] == ("normal", 384**-0.5)
    assert table["encoder.0.norm3.weight"] == ("constant", 1.0)
    text = torch.randint(900, (4, 30))
    last = Translator(TranslatorConfig(norm_first=False), 900, 1000)
    first = Translator(TranslatorConfig(), 900, 1000)  # its stream still says the word that was read
    for each, more in ((model, 1.0), (last, 1.0), (first, 2.0)):
        loss = F.cross_entropy(each(text, text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
        assert math.log(1000) < loss.item() < math.log(1000) + more


def test_the_decoder_begins_from_its_place_alone_or_from_a_word() -> None:
    source, target = pair()
    other = target.clone()
    other[:, 0] = 9
    for begin, same in (("zero", True), ("word", False)):
        model = build(replace(SMALL, begin=begin))
        assert torch.allclose(model(source, target), model(source, other), atol=1e-6) == same


def test_dropout_silences_in_training_only() -> None:
    model = Translator(replace(SMALL, dropout=0.5), V, W)
    source, target = pair()
    assert not torch.equal(model(source, target), model(source, target))
    model.eval()
    assert torch.equal(model(source, target), model(source, target))


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"layers": 0}, "layers 0: a source is read by at least 1 layer; use layers=3"),
        ({"decoder_layers": -1}, "decoder_layers -1: a target is written by .* use decoder_layers=0"),
        ({"width": 30, "heads": 4}, "width 30 is not divisible by 4 heads"),
        ({"inner": -1}, "inner -1: a feed-forward part has units; use inner=0"),
        ({"dropout": 1.0}, r"dropout 1.0: the share dropped lies in \[0, 1\)"),
        ({"activation": "tanh"}, "no activation 'tanh'; choose one of relu, swish, gelu"),
        ({"positions": "learned"}, "no positions 'learned'; choose one of halves, interleaved"),
        ({"begin": "end"}, "no begin 'end'; choose one of zero, word"),
    ],
)
def test_settings_that_make_no_model_are_told(given_: dict[str, Any], message: str) -> None:
    with pytest.raises(SadariError, match=message):
        TranslatorConfig(**given_)


def test_two_vocabularies_share_no_table() -> None:
    with pytest.raises(SadariError, match=r"23 source tokens and 29 target tokens .* use share=False"):
        Translator(replace(SMALL, share=True), V, W)


# ---------------------------------------------------------------------- it learns


@pytest.mark.parametrize("norm_first", [False, True])
def test_learns_to_turn_digits_round(norm_first: bool) -> None:
    """Greedy decoding with a cache gives the reversed digits, of texts that were never met."""
    torch.manual_seed(0)
    config = TranslatorConfig(layers=2, width=64, norm_first=norm_first, share=True, dropout=0.0)
    model = Translator(config, 13, 13)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.98))

    def drawn(B: int) -> tuple[Tensor, Tensor]:
        digits, lengths = torch.randint(3, 13, (B, 6)), torch.randint(2, 7, (B, 1))
        place = torch.arange(7)
        source = torch.where(place < lengths, F.pad(digits, (0, 1)), PAD)
        back = source.gather(1, (lengths - 1 - place).clamp(min=0))
        target = torch.where(place < lengths, back, PAD)
        return (
            source.scatter(1, lengths, END),
            F.pad(target.scatter(1, lengths, END), (1, 0), value=START),
        )

    for step in range(400):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 50, (50 / (step + 1)) ** 0.5)
        source, target = drawn(64)
        logits = model(source, target[:, :-1])
        loss = F.cross_entropy(logits.transpose(1, 2), target[:, 1:], ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    source, target = drawn(100)
    written = torch.full((100, 1), START)
    with torch.no_grad():
        state, token = model.start(source), written
        for _ in range(7):
            logits, state = model.step(token, state)
            token = logits.argmax(-1, keepdim=True)
            written = torch.cat((written, token), dim=1)
    right = ((written == target) | (target < 0)).all(1).float().mean().item()
    print("LOSS", loss.item(), "RIGHT", right)
    assert right >= 0.9

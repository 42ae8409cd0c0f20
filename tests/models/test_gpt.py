"""GPT: equal to transformers' GPT-2 and Llama on the same weights; with a cache as without; counted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers.vocabulary import vocabulary_loss
from sadari.models import gpt
from sadari.models.gpt import GPT, VARIANTS, GPTConfig, laws
from sadari.models.gpt_names import READERS

V = 101


def reference(kind: str, **settings: Any) -> nn.Module:
    """transformers' model of two layers, its weights large enough that a mistake would show."""
    import transformers

    torch.manual_seed(0)
    model: nn.Module
    if kind == "gpt2":
        ends = {"bos_token_id": 0, "eos_token_id": 0}
        config: Any = transformers.GPT2Config(
            n_layer=2, n_embd=32, n_head=4, n_positions=64, vocab_size=V, **{**ends, **settings}
        )
        model = transformers.GPT2LMHeadModel(config)
    else:
        sizes = {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        }
        places = {"max_position_embeddings": 64}
        config = transformers.LlamaConfig(
            num_hidden_layers=2, vocab_size=V, **{**sizes, **places, **settings}
        )
        model = transformers.LlamaForCausalLM(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(seed))


KINDS = [
    ("gpt2", {}),
    ("gpt2", {"activation_function": "gelu", "n_inner": 48}),
    ("llama", {}),
    ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    (
        "llama",
        {
            "num_key_value_heads": 4,
            "max_position_embeddings": 131072,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
    ),
]


@pytest.mark.proof("transformer", "parity")
@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_logits_and_gradients_equal_transformers(kind: str, settings: dict[str, Any]) -> None:
    theirs = reference(kind, **settings)
    ours = GPT.from_reference(theirs.state_dict(), settings=theirs.config.to_dict()).eval()
    text = tokens(3, 50)
    expected = theirs(text).logits
    torch.testing.assert_close(ours(text), expected, rtol=0, atol=1e-5)
    loss, own = (
        F.cross_entropy(logits[:, :-1].flatten(0, 1), text[:, 1:].flatten())
        for logits in (expected, ours(text))
    )
    loss.backward()
    own.backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    _, renamed = READERS[kind](theirs.config.to_dict(), gradients)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, renamed[name], rtol=0, atol=1e-5)


def test_stretched_rotary_waves_equal_transformers_far_into_a_text() -> None:
    _, settings = KINDS[-1]
    waves = reference("llama", **settings).model.rotary_emb.inv_freq  # (D / 2,)
    config = GPTConfig(width=64, heads=4, positions="rotary", rotary_base=500000.0, stretch=32.0)
    cos, sin = gpt.turns(config, 30_000, torch.device("cpu"))
    angle = (29_999 * waves).repeat(2)
    torch.testing.assert_close(cos[-1], angle.cos(), rtol=0, atol=2e-3)
    torch.testing.assert_close(sin[-1], angle.sin(), rtol=0, atol=2e-3)
    unstretched, _ = gpt.turns(
        GPTConfig(width=64, heads=4, rotary_base=500000.0), 30_000, torch.device("cpu")
    )
    assert not torch.allclose(cos[-1], unstretched[-1], atol=0.1)


@pytest.mark.proof("transformer", "parity")
def test_the_fused_loss_gives_the_gradients_of_the_plain_one() -> None:
    model = GPT(GPTConfig(layers=2, width=16, heads=2, context=32), V, V)
    text = tokens(2, 21)
    F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten()).backward()
    plain = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    hidden, _ = model.hidden(text[:, :-1])
    vocabulary_loss(hidden.flatten(0, 1), model.head.weight, None, text[:, 1:].flatten(), 7).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, plain[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "vocabulary", "parameters"),
    [
        ("gpt2", 50257, 124_439_808),
        ("gpt2-medium", 50257, 354_823_168),
        ("gpt2-large", 50257, 774_030_080),
        ("gpt2-xl", 50257, 1_557_611_200),
        ("llama", 128256, 1_235_814_400),
        ("llama-3b", 128256, 3_212_749_824),
    ],
)
def test_variants_have_the_parameters_of_the_published_models(variant, vocabulary, parameters) -> None:
    config = GPTConfig(**VARIANTS[variant])
    assert GPT.parameter_count(config, vocabulary, vocabulary) == parameters
    with torch.device("meta"):
        model = GPT(config, vocabulary, vocabulary)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


CONFIGS = st.builds(
    lambda D, heads, share, **rest: GPTConfig(
        width=2 * D * heads, heads=heads, kv_heads=heads // share, **rest
    ),
    D=st.integers(1, 4),
    heads=st.sampled_from([2, 4]),
    share=st.sampled_from([1, 2]),
    layers=st.integers(1, 3),
    inner=st.sampled_from([0, 5]),
    context=st.integers(1, 12),
    positions=st.sampled_from(["learned", "rotary"]),
    norm=st.sampled_from(["layernorm", "rmsnorm"]),
    activation=st.sampled_from(["gelu", "gelu_new", "swiglu"]),
    bias=st.booleans(),
    tied=st.booleans(),
)


@given(config=CONFIGS, size=st.integers(1, 30))
def test_formulas_count_the_parameters_and_the_multiply_adds(config: GPTConfig, size: int) -> None:
    model = GPT(config, size, size)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    assert GPT.parameter_count(config, size, size) == sum(shape.numel() for shape in shapes.values())
    looked_up = ("embedding.weight", "positions.weight")
    products = sum(s.numel() for name, s in shapes.items() if len(s) == 2 and name not in looked_up)
    seen = min(9, config.context)
    expected = products + 2 * config.layers * config.width * seen
    assert GPT.macs(config, size, size, 9) == expected


def unwatched(model: GPT, text: Tensor) -> Tensor:
    """Logits after each prefix (B, T, V), each from all that is in view of it, without a cache."""
    context, out = model.config.context, []
    for n in range(1, text.shape[1] + 1):
        first = 0
        if model.positions is not None:  # the view moves on by `hop` when it is full
            hop = context + 1 - max(1, context // 2)
            while n - first > context:
                first += hop
        out.append(model(text[:, first:n])[:, -1])
    return torch.stack(out, dim=1)


@given(config=CONFIGS, cuts=st.lists(st.integers(1, 15), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_with_a_cache_as_without_in_steps_of_any_length_and_past_the_context(config, cuts, seed) -> None:
    torch.manual_seed(seed)
    model = GPT(config, V, V).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    text = tokens(2, sum(cuts), seed=seed)
    with torch.no_grad():
        expected, state, read = unwatched(model, text), model.start(2), 0
        for cut in cuts:
            logits, state = model.step(text[:, read : read + cut], state)
            read += cut
            torch.testing.assert_close(logits, expected[:, read - 1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", ["learned", "rotary"])
def test_a_long_text_a_token_at_a_time_in_little_memory(variant: str) -> None:
    config = GPTConfig(layers=2, width=16, heads=4, kv_heads=2, context=16, positions=variant)
    torch.manual_seed(0)
    model, text = GPT(config, V, V).eval(), tokens(2, 100)
    with torch.no_grad():
        expected, state, found = unwatched(model, text), model.start(2), []
        for t in range(100):
            logits, state = model.step(text[:, t : t + 1], state)
            found.append(logits)
    torch.testing.assert_close(torch.stack(found, dim=1), expected, rtol=0, atol=1e-5)
    assert all(part.shape[2] <= 2 * 16 for part in (*state.keys, *state.values))
    assert state.tokens.shape[1] <= 16


def test_reorder_keeps_drops_and_repeats_rows() -> None:
    model, text = GPT(GPT.TINY, V, V).eval(), tokens(3, 8)
    with torch.no_grad():
        _, state = model.step(text[:, :5], model.start(3))
        rows = torch.tensor([2, 0, 2, 2])
        logits, state = model.step(text[rows, 5:], model.reorder(state, rows))
        torch.testing.assert_close(logits, model(text[rows])[:, -1], rtol=0, atol=1e-5)


def test_no_token_sees_a_later_one() -> None:
    model, text = GPT(GPT.TINY, V, V).eval(), tokens(1, 20)
    other = text.clone()
    other[0, 11:] = tokens(1, 9, seed=1)
    a, b = model(text), model(other)
    assert torch.equal(a[:, :11], b[:, :11]) and not torch.allclose(a[:, 11:], b[:, 11:])


def test_padding_at_the_right_changes_no_real_token() -> None:
    model, text = GPT(GPT.TINY, V, V).eval(), tokens(1, 12)
    padded = F.pad(text, (0, 5), value=-1)
    torch.testing.assert_close(model(padded)[:, :12], model(text), rtol=0, atol=1e-6)


def test_names_its_inner_values_on_the_plain_path_which_equals_the_fused() -> None:
    model, text = GPT(GPT.TINY, V, V).eval(), tokens(2, 7)
    seen: dict[str, Tensor] = {}
    answer = model(text, lambda name, value: seen.setdefault(name, value))
    assert list(seen) == [
        "embedded", "layer0.attention", "layer0", "layer1.attention", "layer1", "hidden", "output",
    ]  # fmt: skip
    weights = seen["layer1.attention"]
    assert weights.shape == (2, 2, 7, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 7))
    assert not weights.triu(1).any()
    torch.testing.assert_close(model(text), answer, rtol=0, atol=1e-6)


def test_attention_by_products_equals_the_fused_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config = GPTConfig(layers=2, width=32, heads=4, kv_heads=2, context=32)
    model, text = GPT(config, V, V), tokens(2, 20)
    fused = model(text)
    fused.square().mean().backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    calls = []
    monkeypatch.setattr(gpt, "by_products_is_faster", lambda q, k: calls.append(1) or True)
    answer = model(text)
    answer.square().mean().backward()
    assert len(calls) == 2
    torch.testing.assert_close(answer, fused, rtol=0, atol=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=0, atol=1e-6)


def test_attention_by_products_is_for_bf16_on_a_processor_and_short_texts() -> None:
    q = torch.empty(2, 4, 64, 8, dtype=torch.bfloat16)
    assert gpt.by_products_is_faster(q, q)
    assert not gpt.by_products_is_faster(q.float(), q.float())
    long = torch.empty(1, 8, 4096, 1, dtype=torch.bfloat16)
    assert not gpt.by_products_is_faster(long, long)


def test_bf16_is_near_float32() -> None:
    model, text = GPT(GPTConfig(layers=2, width=64, heads=4, context=64), V, V).eval(), tokens(2, 64)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(text).float()
    assert (half - model(text)).norm() < 0.02 * model(text).norm()


def test_first_weights_obey_their_laws_and_the_first_loss_is_ln_v() -> None:
    torch.manual_seed(0)
    config = GPTConfig(layers=3, width=128, heads=4, context=64, activation="swiglu")
    model = GPT(config, 1000, 1000)
    table = laws(model)
    assert set(table) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        law, value = table[name]
        if law == "constant":
            assert (parameter == value).all()
        else:
            assert parameter.std().item() == pytest.approx(value, rel=0.05)
            assert abs(parameter.mean().item()) < 0.05 * value
    assert table["blocks.1.feed.down.weight"] == ("normal", 0.02 / math.sqrt(6))
    assert table["head.weight"] == ("normal", 0.02) and table["norm.weight"] == ("constant", 1.0)
    text = torch.randint(1000, (4, 65))
    loss = F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(1000), abs=0.1)


@pytest.mark.proof("transformer", "claim")
def test_recalls_from_far_back_what_was_said_only_once() -> None:
    """Which token followed the last time: in reach of attention, whatever the distance (Olsson 2022)."""
    torch.manual_seed(0)
    size, half = 20, 12
    config = GPTConfig(layers=2, width=48, heads=2, context=2 * half, positions="rotary")
    model = GPT(config, size, size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for step in range(200):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 30)
        first = torch.rand(64, size).argsort(1)[:, :half]
        text = torch.cat((first, first), dim=1)
        loss = F.cross_entropy(model(text[:, :-1]).transpose(1, 2)[:, :, half:], text[:, half + 1 :])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("LOSS", loss.item())
    assert loss.item() < 0.3 < math.log(size) / 9  # chance is ln 20 = 3.0


def folder(path: Path, model: nn.Module, parts: int = 1) -> Path:
    """The model as the hub keeps it: settings, and weights in one file or in several with an index."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(model.config.to_dict()))
    state = {name: value.clone() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    if parts == 1:
        save_file(state, path / "model.safetensors")
        return path
    names, index = sorted(state), {}
    for i in range(parts):
        file = f"model-{i + 1:05}-of-{parts:05}.safetensors"
        some = names[i::parts]
        save_file({name: state[name] for name in some}, path / file)
        index |= dict.fromkeys(some, file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return path


@pytest.mark.parametrize("parts", [1, 3])
def test_reads_a_folder_in_the_hubs_layout(tmp_path: Path, parts: int) -> None:
    theirs = reference("gpt2")
    ours = GPT.from_reference(folder(tmp_path / "gpt2", theirs, parts)).eval()
    text = tokens(2, 9)
    torch.testing.assert_close(ours(text), theirs(text).logits, rtol=0, atol=1e-5)
    with torch.no_grad():
        ours.norm.weight.zero_()
    assert theirs.transformer.ln_f.weight.any()  # a copy, not the reference's own tensors


def test_a_folder_that_is_not_whole_is_told(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", reference("gpt2"), parts=2)
    index = path / "model.safetensors.index.json"
    (path / "model-00002-of-00002.safetensors").write_bytes(b"torn")
    with pytest.raises(SadariError, match=r"00002-of-00002.safetensors cannot be read .*; fetch it again"):
        GPT.from_reference(path)
    (path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(SadariError, match="is missing; only safetensors are read"):
        GPT.from_reference(path)
    index.write_text('{"weight_map": {"a": "../other.safetensors"}}')
    with pytest.raises(SadariError, match=r"names '\.\./other\.safetensors', which is no file beside it"):
        GPT.from_reference(path)
    index.write_text("{}")
    with pytest.raises(SadariError, match="names no files"):
        GPT.from_reference(path)
    (path / "config.json").write_text("[]")
    with pytest.raises(SadariError, match="holds no settings by name"):
        GPT.from_reference(path)
    (path / "config.json").write_text("{")
    with pytest.raises(SadariError, match="cannot be read as JSON"):
        GPT.from_reference(path)
    with pytest.raises(SadariError, match=r"config\.json is missing; give a folder"):
        GPT.from_reference(tmp_path)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("gpt2", {"model_type": "bloom"}, "'bloom' is no layout that is read here; there are: gpt2, llama"),
        ("gpt2", {"activation_function": "relu"}, "activation_function='relu' .*: only GELU"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        ("gpt2", {"n_layer": 3}, "the weights hold no 'transformer.h.2.ln_1.weight'"),
        ("gpt2", {"n_inner": 7}, r"feed.up.weight has the shape \(128, 32\), its settings make \(7, 32\)"),
        ("llama", {"hidden_act": "relu"}, "hidden_act='relu' in config.json: only 'silu'"),
        ("llama", {"head_dim": 32}, "head_dim=32 in config.json: only 16"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rotary positions .*'yarn'"),
    ],
)
def test_what_is_not_done_here_is_told(kind: str, settings: dict[str, Any], message: str) -> None:
    theirs = reference(kind)
    with pytest.raises(SadariError, match=message):
        GPT.from_reference(theirs.state_dict(), settings={**theirs.config.to_dict(), **settings})


def test_tensors_without_settings_are_told() -> None:
    with pytest.raises(SadariError, match="tensors alone do not tell the heads"):
        GPT.from_reference({}, "gpt2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 0}, "layers 0: a GPT needs at least 1 block"),
        ({"width": 30, "heads": 4}, "width 30 is not divisible by 4 heads"),
        (
            {"heads": 6, "width": 192, "kv_heads": 4},
            "kv_heads 4: 6 heads cannot share them evenly; use a divisor of 6",
        ),
        ({"kv_heads": -1}, "kv_heads -1: "),
        ({"width": 9, "heads": 3, "positions": "rotary"}, "makes 3 numbers a head.*use width=18"),
        ({"inner": -1}, "inner -1: a feed-forward part has units"),
        ({"context": 0}, "context 0: a token sees at least itself"),
        ({"dropout": 1.0}, r"dropout 1.0: the share dropped lies in \[0, 1\)"),
        ({"positions": "sinusoid"}, "positions 'sinusoid' is unknown; use one of: learned, rotary"),
        ({"norm": "batch"}, "norm 'batch' is unknown"),
        ({"activation": "relu"}, "activation 'relu' is unknown"),
        ({"epsilon": 0.0}, "epsilon 0.0: it is above 0; use epsilon=1e-5"),
        ({"rotary_base": math.inf}, "rotary_base inf"),
        ({"stretch": 0.0}, "stretch 0.0"),
    ],
)
def test_settings_that_make_no_model_are_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SadariError, match=message):
        GPTConfig(**settings)


def test_a_text_longer_than_the_learned_places_is_told() -> None:
    model = GPT(GPT.TINY, V, V)
    with pytest.raises(SadariError, match="33 tokens are more than the 32 places that were learned"):
        model(tokens(1, 33))
    with pytest.raises(SadariError, match="5 tokens in and 6 out cannot share one matrix; use tied=False"):
        GPT(GPT.TINY, 5, 6)


def test_dropout_silences_in_training_only() -> None:
    model, text = GPT(GPTConfig(layers=1, width=16, heads=2, context=32, dropout=0.5), V, V), tokens(1, 9)
    assert not torch.equal(model(text), model(text))
    model.eval()
    assert torch.equal(model(text), model(text))

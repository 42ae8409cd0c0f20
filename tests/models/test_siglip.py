"""SigLIP: transformers' embeddings, gradients, loss and counts; open_clip's names; captions filled up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sadari.errors import SadariError
from sadari.models.siglip import SigLIP, SigLIPConfig, chosen
from sadari.models.siglip_names import (
    export_open_clip,
    import_huggingface,
    import_open_clip,
    imported,
    settings_of,
)
from sadari.models.siglip_transformer import Head

SHAPE, WORDS = (3, 16, 16), 50
SMALL = SigLIPConfig(
    variant="siglip-64", patch=4, width=24, layers=2, heads=3, inner=40, text_width=16, text_layers=3,
    text_heads=2, text_inner=36, context=7,
)  # fmt: skip


def pictures(rows: int = 3, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> Tensor:
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(seed))


def captions(rows: int = 3, width: int = 7, seed: int = 0) -> Tensor:
    return torch.randint(2, WORDS, (rows, width), generator=torch.Generator().manual_seed(seed))


def shaken(model: nn.Module, seed: int = 0) -> Any:
    """Every weight far from where it begins, zeros and ones too, so that a mix-up shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise if name.startswith("logit_") else 0.2 * noise + (parameter == 1))
    return model.eval()


def reference(gelu: str = "gelu_pytorch_tanh") -> Any:
    """transformers' SigLIP of the same sizes as SMALL, with weights of its own."""
    from transformers import SiglipConfig as TheirConfig
    from transformers import SiglipModel

    vision = {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
        "image_size": 16, "patch_size": 4, "hidden_act": gelu,
    }  # fmt: skip
    text = {
        "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 36,
        "vocab_size": WORDS, "max_position_embeddings": 7, "projection_size": 24, "hidden_act": gelu,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip
    return shaken(SiglipModel(TheirConfig(text_config=text, vision_config=vision)))


def keeper(kept: dict[str, Tensor]) -> Callable[[str, Tensor], Tensor]:
    def rec(name: str, value: Tensor) -> Tensor:
        kept[name] = value
        return value

    return rec


@pytest.mark.proof("siglip", "parity")
@pytest.mark.parametrize(("theirs_gelu", "gelu"), [("gelu_pytorch_tanh", "tanh"), ("gelu", "exact")])
def test_equals_transformers_in_embeddings_loss_and_gradients(theirs_gelu: str, gelu: str) -> None:
    theirs = reference(theirs_gelu)
    ours = SigLIP(SigLIPConfig(**(vars(SMALL) | {"gelu": gelu})), SHAPE, WORDS).eval()
    ours.load_state_dict(import_huggingface(theirs.state_dict()))
    x, tokens = pictures(), captions()
    expected = theirs(input_ids=tokens, pixel_values=x, return_loss=True)
    image, text = ours(x, tokens)
    torch.testing.assert_close(image, expected.image_embeds, rtol=0, atol=1e-5)
    torch.testing.assert_close(text, expected.text_embeds, rtol=0, atol=1e-5)
    assert ours.logit_bias is not None
    logits = ours.scale() * image @ text.T + ours.logit_bias
    torch.testing.assert_close(logits, expected.logits_per_image, rtol=0, atol=1e-5)
    loss = -F.logsigmoid((2 * torch.eye(3) - 1) * logits).sum() / 3
    for value in (loss, expected.loss):
        value.backward()
    for name, parameter in theirs.named_parameters():
        slope = ours.get_parameter(name).grad
        torch.testing.assert_close(slope, parameter.grad, rtol=0, atol=1e-5)
    assert sum(p.numel() for p in theirs.parameters()) == SigLIP.parameter_count(SMALL, SHAPE, WORDS)
    other = SigLIP(
        SigLIPConfig(**(vars(SMALL) | {"gelu": "tanh" if gelu == "exact" else "exact"})), SHAPE, WORDS
    )
    other.load_state_dict(ours.state_dict())
    assert (other.eval().encode_image(x) - ours.encode_image(x)).abs().max() > 1e-5  # the setting tells


@pytest.mark.proof("siglip", "parity")
@pytest.mark.parametrize(
    ("variant", "side", "count"),
    [
        ("b16-224", 224, 203_155_970),
        ("l16-256", 256, 652_150_786),
        ("so400m-p14-384", 384, 877_960_498),
    ],
)
def test_published_networks_have_their_published_parameters(variant: str, side: int, count: int) -> None:
    config = SigLIPConfig(variant=variant)
    with torch.device("meta"):
        model = SigLIP(config, (3, side, side), 32_000)
    assert sum(p.numel() for p in model.parameters()) == count
    assert SigLIP.parameter_count(config, (3, side, side), 32_000) == count
    settings, inputs, vocabulary = settings_of(model.state_dict())
    assert vocabulary == 32_000 and inputs[1] == side // settings["patch"] * settings["patch"]
    names = ("width", "layers", "heads", "inner", "text_width", "text_heads", "text_inner", "context")
    assert {name: settings[name] for name in names} == {name: getattr(model.sizes, name) for name in names}


def test_the_whole_of_b16_has_the_names_and_shapes_of_transformers() -> None:
    from transformers import SiglipConfig as TheirConfig
    from transformers import SiglipModel

    with torch.device("meta"):
        theirs = SiglipModel(TheirConfig()).state_dict()
        ours = SigLIP(SigLIPConfig(variant="b16-224"), (3, 224, 224), 32_000).state_dict()
    assert {name: value.shape for name, value in import_huggingface(theirs).items()} == {
        name: value.shape for name, value in ours.items()
    }


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 48, 64), (3, 33, 46)])
def test_counts_are_those_of_its_tensors_and_its_products(shape: tuple[int, int, int]) -> None:
    for config in (SMALL, SigLIPConfig(variant="siglip-64", contrast="softmax")):
        model = SigLIP(config, shape, WORDS).eval()
        assert sum(p.numel() for p in model.parameters()) == SigLIP.parameter_count(config, shape, WORDS)
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # whose products are counted
            model(pictures(1, shape), captions(1, 4))
        assert counter.get_total_flops() == 2 * SigLIP.macs(config, shape, WORDS)


def test_a_caption_is_filled_up_to_its_length_and_every_place_is_seen() -> None:
    """Short, with PAD or with the pad token itself: one caption. But another pad token is another one."""
    model = shaken(SigLIP(SMALL, SHAPE, WORDS))
    short = torch.tensor([[5, 9, 1]])
    with torch.no_grad():
        whole = model.encode_text(torch.tensor([[5, 9, 1, 1, 1, 1, 1]]))
        for same in (short, torch.tensor([[5, 9, 1, -1, -1]]), torch.tensor([[5, 9, 1] + [-1] * 9])):
            torch.testing.assert_close(model.encode_text(same), whole, rtol=0, atol=1e-6)
        assert (model.encode_text(torch.tensor([[5, 9, 1, 1, 1, 1, 2]])) - whole).abs().max() > 1e-3
        assert (model.encode_text(torch.tensor([[9, 5, 1]])) - whole).abs().max() > 1e-3  # order counts
        first, kept = {}, {}
        model.encode_text(torch.tensor([[5, 9, 1]]), keeper(first))
        model.encode_text(torch.tensor([[5, 9, 8]]), keeper(kept))
    assert not torch.equal(first["layer0"][:, 0], kept["layer0"][:, 0])  # a token sees those behind it too


def test_one_looks_and_the_answer_stays() -> None:
    model, kept = shaken(SigLIP(SMALL, SHAPE, WORDS)), {}
    x, tokens = pictures(), captions()
    with torch.no_grad():
        plain, quiet = model(x, tokens, keeper(kept)), model(x, tokens)
    for a, b in zip(plain, quiet, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
        torch.testing.assert_close(a.norm(dim=-1), torch.ones(3))
    shapes = {
        "image.layer1.attention": (3, 3, 16, 16),
        "image.pooling.attention": (3, 3, 1, 16),
        "text.layer2.attention": (3, 2, 7, 7),
    }
    for name, shape in shapes.items():
        assert kept[name].shape == shape
        torch.testing.assert_close(kept[name].sum(-1), torch.ones(shape[:-1]))
    assert torch.equal(kept["image"], plain[0]) and torch.equal(kept["text"], plain[1])


def test_pictures_of_another_size_are_read_as_transformers_reads_them() -> None:
    theirs = reference()
    ours = SigLIP(SMALL, SHAPE, WORDS).eval()
    ours.load_state_dict(theirs.state_dict())
    for side in (24, 8, 16, 18):  # 18: two pixels stand behind the last patch
        x = pictures(2, (3, side, side))
        expected = theirs.get_image_features(x, interpolate_pos_encoding=True).pooler_output
        torch.testing.assert_close(ours.encode_image(x), expected, rtol=0, atol=1e-5)


def test_the_probes_head_is_vits_map_pooling() -> None:
    from sadari.models.vit import AttentionPooling, Sizes

    theirs = shaken(AttentionPooling(Sizes(4, 24, 1, 3, 40)))
    ours = Head(24, 3, 40, "exact")
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(ours(x, None), theirs(x, None), rtol=0, atol=1e-5)


def test_every_parameter_learns_and_is_drawn_from_the_seed() -> None:
    torch.manual_seed(5)
    model = SigLIP(SMALL, SHAPE, WORDS)
    torch.manual_seed(5)
    again = SigLIP(SMALL, SHAPE, WORDS)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert model.scale().item() == pytest.approx(10.0)
    assert model.logit_bias is not None and model.logit_bias.item() == -10
    image, text = model(pictures(), captions())
    (
        -F.logsigmoid((2 * torch.eye(3) - 1) * (model.scale() * image @ text.T + model.logit_bias))
    ).sum().backward()
    for name, parameter in model.named_parameters():
        if "k_proj.bias" not in name:  # adds the same to all of a query's scores
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_eight_pairs_are_learnt() -> None:
    torch.manual_seed(0)
    model = SigLIP(SigLIP.TINY, SHAPE, WORDS)
    x, tokens, signs = pictures(8), captions(8), 2 * torch.eye(8) - 1
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        image, text = model(x, tokens)
        assert model.logit_bias is not None
        logits = model.scale() * image @ text.T + model.logit_bias
        loss = -F.logsigmoid(signs * logits).sum() / 8
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 and (logits.argmax(1) == torch.arange(8)).all()


def test_open_clips_names_go_out_and_come_back() -> None:
    """The names are checked against open_clip itself by benchmarks/clip_parity.py."""
    state = shaken(SigLIP(SMALL, SHAPE, WORDS)).state_dict()
    out = export_open_clip(state)
    assert out["visual.trunk.pos_embed"].shape == (1, 16, 24) and out["logit_scale"].shape == ()
    assert out["visual.trunk.blocks.1.attn.qkv.weight"].shape == (72, 24)
    assert out["visual.trunk.attn_pool.kv.bias"].shape == (48,)
    assert out["text.transformer.resblocks.2.attn.in_proj_weight"].shape == (48, 16)
    assert out["text.positional_embedding"].shape == (7, 16)
    assert not [name for name in out if name.startswith(("vision_model", "text_model"))]
    back = import_open_clip(out)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())
    assert imported(out).keys() == imported(state).keys() == state.keys()


def test_weights_alone_rebuild_the_model() -> None:
    config = SigLIPConfig(**(vars(SMALL) | {"width": 64, "heads": 1, "text_width": 128, "text_heads": 2}))
    model = shaken(SigLIP(config, SHAPE, WORDS))
    again = SigLIP.from_weights(export_open_clip(model.state_dict())).eval()
    assert again.inputs == SHAPE and again.vocabulary == WORDS and again.sizes == model.sizes
    for ours, theirs in zip(again(pictures(), captions()), model(pictures(), captions()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    with torch.no_grad():
        again.logit_scale.add_(1)
    assert again.logit_scale.item() != model.logit_scale.item()  # a copy
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_weights_of_another_model_are_refused() -> None:
    state = shaken(SigLIP(SMALL, SHAPE, WORDS)).state_dict()
    out = export_open_clip(state)
    with pytest.raises(
        SadariError, match=r"visual.trunk.cls_token: no SigLIP has such a weight; give those of"
    ):
        import_open_clip(out | {"visual.trunk.cls_token": torch.zeros(1)})
    with pytest.raises(SadariError, match=r"blocks.0.attn.q_norm.weight: no SigLIP has such a weight"):
        import_open_clip(out | {"visual.trunk.blocks.0.attn.q_norm.weight": torch.zeros(1)})
    half = {name: value for name, value in out.items() if name != "visual.trunk.attn_pool.q.bias"}
    with pytest.raises(SadariError, match="in_proj_bias lacks its q; the file is cut short, fetch it again"):
        import_open_clip(half)
    third = {name: value for name, value in state.items() if "layers.1.self_attn.k_proj.weight" not in name}
    with pytest.raises(SadariError, match=r"lacks its k_proj; the file is cut short"):
        export_open_clip(third)
    with pytest.raises(SadariError, match=r"the weights begin with 'visual.proj' and have no pooling head"):
        imported({"visual.proj": torch.zeros(1)})
    with pytest.raises(
        SadariError, match=r"the weights hold no 'text_model.embeddings.token_embedding.weight'"
    ):
        settings_of({})
    del state["vision_model.post_layernorm.weight"]
    with pytest.raises(SadariError, match=r"the weights hold no 'vision_model.post_layernorm.weight'"):
        SigLIP.from_weights(state)


def test_auto_goes_by_the_pictures_size() -> None:
    assert [chosen(SigLIPConfig(), (3, side, side)).patch for side in (8, 64, 72, 224)] == [2, 16, 18, 16]
    assert [chosen(SigLIPConfig(), (3, side, side)).context for side in (64, 224)] == [32, 64]


def test_what_does_not_fit_is_named() -> None:
    model = SigLIP(SMALL, SHAPE, WORDS)
    model.check_tokens(captions())
    with pytest.raises(
        SadariError, match="token 50 is beyond the model's vocabulary of 50, 0 to 49; use the"
    ):
        model.check_tokens(torch.tensor([[1, 50]]))
    with pytest.raises(
        SadariError, match="a caption of 8 tokens, but there are positions for 7; cut captions"
    ):
        model.encode_text(captions(2, 8))
    with pytest.raises(SadariError, match="pad 1 is beyond the vocabulary of 1 tokens; set pad to the one"):
        SigLIP(SMALL, SHAPE, 1)
    with pytest.raises(SadariError, match="no variant 'l14'; choose one of auto, siglip-64, b16-224"):
        SigLIPConfig(variant="l14")
    with pytest.raises(SadariError, match="context -1: at least 1 is needed; use context=0 as usual"):
        SigLIPConfig(context=-1)
    with pytest.raises(SadariError, match="no gelu 'quick'; choose one of tanh, exact"):
        SigLIPConfig(gelu="quick")
    with pytest.raises(
        SadariError, match="--contrast 'hinge' is no loss of pairs; choose one of softmax, sigmoid"
    ):
        SigLIPConfig(contrast="hinge")
    with pytest.raises(
        SadariError, match="patch 16: pictures of 12 pixels have no such patch; use patch=0 or"
    ):
        SigLIP(SigLIPConfig(variant="b16-224"), (3, 12, 12), WORDS)

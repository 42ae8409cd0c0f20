"""CLIP: transformers' embeddings, gradients and counts; its ResNet; captions trimmed; what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sadari.errors import SadariError
from sadari.models.clip import CLIP, HIGHEST, LAST, CLIPConfig, chosen
from sadari.models.clip_names import import_huggingface
from sadari.models.clip_resnet import AttentionPool, Bottleneck, resnet_grid
from sadari.models.two_towers import MOST

SHAPE, WORDS, END = (3, 16, 16), 50, 49
SMALL = CLIPConfig(
    variant="clip-64", patch=4, width=24, layers=2, heads=3, text_width=16, text_layers=3, text_heads=2,
    dimension=12, context=11, end=HIGHEST,
)  # fmt: skip
RESNET = CLIPConfig(
    variant="rn50",
    width=4,
    heads=2,
    text_width=16,
    text_layers=2,
    text_heads=2,
    dimension=12,
    context=11,
    end=HIGHEST,
)


def pictures(rows: int = 3, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> Tensor:
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(seed))


def captions(lengths: tuple[int, ...] = (4, 9, 2), width: int = 11, seed: int = 0, fill: int = 0) -> Tensor:
    """Words 1 .. 47, then END, then `fill`."""
    tokens = torch.full((len(lengths), width), fill)
    generator = torch.Generator().manual_seed(seed)
    for row, length in enumerate(lengths):
        tokens[row, : length - 1] = torch.randint(1, END - 1, (length - 1,), generator=generator)
        tokens[row, length - 1] = END
    return tokens


def shaken(model: nn.Module, seed: int = 0) -> Any:
    """Every weight far from where it begins, zeros and ones too, so that a mix-up shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("logit_"):
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(0.2 * noise + (parameter == 1))
    return model.eval()


def reference(activation: str = "gelu", end: int = 2, size: int = 16) -> Any:
    """transformers' CLIP of the same sizes as SMALL, with weights of its own."""
    from transformers import CLIPConfig as TheirConfig
    from transformers import CLIPModel

    vision = {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96,
        "image_size": size, "patch_size": 4, "hidden_act": activation,
    }  # fmt: skip
    text = {
        "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64,
        "vocab_size": WORDS, "max_position_embeddings": 11, "eos_token_id": end, "bos_token_id": 0,
        "pad_token_id": 0, "hidden_act": activation,
    }  # fmt: skip
    return shaken(CLIPModel(TheirConfig(text_config=text, vision_config=vision, projection_dim=12)))


@pytest.mark.proof("clip", "parity")
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("end", [2, END])
def test_equals_transformers_in_embeddings_and_gradients(activation: str, end: int) -> None:
    """With eos_token_id 2 transformers reads the highest token, as OpenAI; else the first that is it."""
    theirs = reference(activation, end)
    ours = CLIP.from_weights(
        theirs.state_dict(), quick_gelu=activation == "quick_gelu", end=HIGHEST if end == 2 else end
    )
    settings_ = {"width": 24, "layers": 2, "text_width": 16, "text_layers": 3, "dimension": 12, "context": 11}
    assert {name: getattr(ours.config, name) for name in settings_} == settings_
    ours = CLIP(
        CLIPConfig(**(vars(SMALL) | {"quick_gelu": activation == "quick_gelu", "end": ours.config.end})),
        SHAPE,
        WORDS,
    ).eval()  # with the heads that `reference` has: no shape tells them, and from_weights takes 64 wide ones
    ours.load_state_dict(import_huggingface(theirs.state_dict()))
    x, tokens = pictures(), captions()
    expected = theirs(input_ids=tokens, pixel_values=x)
    image, text = ours(x, tokens)
    torch.testing.assert_close(image, expected.image_embeds, rtol=0, atol=1e-5)
    torch.testing.assert_close(text, expected.text_embeds, rtol=0, atol=1e-5)
    logits = ours.scale() * image @ text.T
    torch.testing.assert_close(logits, expected.logits_per_image, rtol=0, atol=1e-4)
    for table in (logits, expected.logits_per_image):
        F.cross_entropy(table, torch.arange(3)).backward()
    slopes = {name: p.grad for name, p in theirs.named_parameters()}
    for name, slope in import_huggingface(slopes).items():
        torch.testing.assert_close(ours.get_parameter(name).grad, slope, rtol=0, atol=1e-5)
    assert sum(p.numel() for p in theirs.parameters()) == CLIP.parameter_count(SMALL, SHAPE, WORDS)


def test_weights_alone_rebuild_the_model() -> None:
    """Heads 64 wide, as every published one has them: all sizes are read from the shapes."""
    config = CLIPConfig(
        variant="clip-64", patch=4, width=128, layers=1, heads=2, text_width=64, text_layers=2, text_heads=1,
        dimension=12, context=11, contrast="sigmoid",
        end=HIGHEST,
    )  # fmt: skip
    model = shaken(CLIP(config, SHAPE, WORDS))
    halves = {name: value.half() for name, value in model.state_dict().items()}  # as OpenAI's files have them
    again = CLIP.from_weights(halves, quick_gelu=False).eval()
    assert again.inputs == SHAPE and again.vocabulary == WORDS and again.logit_bias is not None
    assert all(p.dtype == torch.float32 and p.requires_grad for p in again.parameters())
    model.load_state_dict(halves)
    for ours, theirs in zip(again(pictures(), captions()), model(pictures(), captions()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.proof("clip", "parity")
@pytest.mark.parametrize(
    ("variant", "side", "count"),
    [
        ("vit-b32", 224, 151_277_313),
        ("vit-b16", 224, 149_620_737),
        ("vit-l14", 224, 427_616_513),
        ("vit-l14-336", 336, 427_944_193),
        ("rn50", 224, 102_007_137),
        ("rn101", 224, 119_688_033),
        ("rn50x4", 288, 178_300_601),
    ],
)
def test_published_networks_have_their_published_parameters(variant: str, side: int, count: int) -> None:
    config = CLIPConfig(variant=variant)
    with torch.device("meta"):
        model = CLIP(config, (3, side, side), 49408)
    assert sum(p.numel() for p in model.parameters()) == count
    assert CLIP.parameter_count(config, (3, side, side), 49408) == count


def test_the_whole_of_b32_has_the_names_and_shapes_of_transformers() -> None:
    from transformers import CLIPConfig as TheirConfig
    from transformers import CLIPModel

    with torch.device("meta"):
        theirs = CLIPModel(TheirConfig()).state_dict()
        ours = CLIP(CLIPConfig(variant="vit-b32"), (3, 224, 224), 49408).state_dict()
    renamed = import_huggingface(theirs)
    assert {name: value.shape for name, value in renamed.items()} == {
        name: value.shape for name, value in ours.items()
    }


@pytest.mark.parametrize(
    "config", [SMALL, RESNET, CLIPConfig(variant="clip-64", contrast="sigmoid", end=END)]
)
@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 48, 64), (3, 33, 46)])
def test_counts_are_those_of_its_tensors_and_its_products(
    config: CLIPConfig, shape: tuple[int, int, int]
) -> None:
    model = CLIP(config, shape, WORDS).eval()
    assert sum(p.numel() for p in model.parameters()) == CLIP.parameter_count(config, shape, WORDS)
    tokens = captions((9,))
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # whose products are counted
        model(pictures(1, shape), tokens)
    assert counter.get_total_flops() == 2 * CLIP.macs(config, shape, WORDS, length=9)


@given(
    lengths=st.lists(st.integers(1, 11), min_size=1, max_size=5),
    ended=st.sampled_from([(-1, LAST), (-1, HIGHEST), (0, HIGHEST), (7, HIGHEST), (7, END), (-1, END)]),
)
@settings(max_examples=25)
def test_a_caption_alone_trimmed_or_padded_is_one_vector(lengths: list[int], ended: tuple[int, int]) -> None:
    """Nothing behind the end is seen: neither what fills it up, nor how long the others are."""
    fill, end = ended
    model = shaken(CLIP(CLIPConfig(**(vars(SMALL) | {"end": end})), SHAPE, WORDS))
    tokens = captions(tuple(lengths), fill=fill)
    with torch.no_grad():
        whole = model.encode_text(tokens, trim=False)
        torch.testing.assert_close(model.encode_text(tokens), whole, rtol=0, atol=1e-5)
        for row, length in enumerate(lengths):
            alone = model.encode_text(tokens[row : row + 1, :length])
            torch.testing.assert_close(alone[0], whole[row], rtol=0, atol=1e-5)


def test_order_counts_and_a_later_token_changes_nothing_before_it() -> None:
    """What bag-of-words cannot: the same words in another order are another caption."""
    model = shaken(CLIP(SMALL, SHAPE, WORDS))
    one, other = torch.tensor([[3, 8, END]]), torch.tensor([[8, 3, END]])
    with torch.no_grad():
        assert (model.encode_text(one) - model.encode_text(other)).abs().max() > 1e-2
    seen: list[dict[str, Tensor]] = []
    for last in (5, 6):
        kept: dict[str, Tensor] = {}
        model.encode_text(torch.tensor([[3, 8, last, END]]), rec=keeper(kept))
        seen.append(kept)
    assert torch.equal(seen[0]["layer2"][:, :2], seen[1]["layer2"][:, :2])
    assert not torch.equal(seen[0]["layer2"][:, 2], seen[1]["layer2"][:, 2])


def keeper(kept: dict[str, Tensor]) -> Callable[[str, Tensor], Tensor]:
    def rec(name: str, value: Tensor) -> Tensor:
        kept[name] = value
        return value

    return rec


def test_one_looks_and_the_answer_stays() -> None:
    """Unobserved, the last layer answers for one token; observed, for all: the same embedding."""
    model, kept = shaken(CLIP(SMALL, SHAPE, WORDS)), {}
    x, tokens = pictures(), captions()
    with torch.no_grad():
        plain, quiet = model(x, tokens, keeper(kept)), model(x, tokens)
    for a, b in zip(plain, quiet, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
        torch.testing.assert_close(a.norm(dim=-1), torch.ones(3))
    assert kept["image.layer1.attention"].shape == (3, 3, 17, 17)
    causal = kept["text.layer2.attention"]
    assert causal.shape == (3, 2, 9, 9) and not causal.triu(1).any()
    torch.testing.assert_close(causal.sum(-1), torch.ones(3, 2, 9))
    assert torch.equal(kept["image"], plain[0]) and torch.equal(kept["text"], plain[1])


def test_pictures_of_another_size_are_read_as_transformers_reads_them() -> None:
    theirs = reference()
    ours = CLIP(SMALL, SHAPE, WORDS).eval()
    ours.load_state_dict(import_huggingface(theirs.state_dict()))
    for side in (24, 8, 16):
        x = pictures(2, (3, side, side))
        expected = theirs.get_image_features(x, interpolate_pos_encoding=True).pooler_output
        torch.testing.assert_close(ours.encode_image(x), expected, rtol=0, atol=2e-5)


def test_the_resnets_pooling_is_torchs_attention_read_at_the_mean() -> None:
    pool = shaken(AttentionPool(6, 16, 4, 10))
    x = pictures(2, (16, 2, 3))
    tokens = x.flatten(2).permute(2, 0, 1)  # (N, B, E)
    tokens = torch.cat([tokens.mean(0, keepdim=True), tokens]) + pool.positional_embedding[:, None]
    expected, weights = F.multi_head_attention_forward(
        tokens, tokens, tokens, 16, 4, None,
        torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]), None, None, False, 0.0,
        pool.c_proj.weight, pool.c_proj.bias, training=False, use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight, v_proj_weight=pool.v_proj.weight,
        average_attn_weights=False,
    )  # fmt: skip
    kept: dict[str, Tensor] = {}
    for rec in (None, keeper(kept)):
        found = pool(x, pool.positional_embedding, rec)
        torch.testing.assert_close(found, expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(kept["pooling.attention"], weights[:, :, :1], rtol=0, atol=1e-5)


def test_a_block_that_halves_averages_before_it_skips_nothing() -> None:
    """Every pixel reaches the answer, on the shortcut alone too; torchvision's stride reaches a quarter."""
    block = Bottleneck(8, 4, 2).eval()
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            if name.startswith("conv"):
                parameter.zero_()
    x = pictures(1, (8, 6, 6)).abs().requires_grad_()
    assert block.downsample is not None
    expected = F.relu(block.downsample(F.avg_pool2d(x, 2)))
    found = block(x)
    torch.testing.assert_close(found, expected)
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert found.shape == (1, 16, 3, 3) and (slope.abs().sum(1) > 0).all()


def test_the_resnet_trains_reads_other_sizes_and_shows_its_maps() -> None:
    torch.manual_seed(0)
    model, kept = CLIP(RESNET, (3, 64, 64), WORDS), {}
    image, text = model(pictures(4, (3, 64, 64)), captions((3, 4, 5, 6)))
    F.cross_entropy(model.scale() * image @ text.T, torch.arange(4)).backward()
    for name, parameter in model.named_parameters():
        grown = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        # a block begins as its shortcut (bn3 is zero), so that at first nothing inside it has a slope
        assert grown or ".bn" in name or ".conv" in name or name.endswith("k_proj.bias"), name
    model.eval()
    assert model.encode_image(pictures(2, (3, 96, 64)), keeper(kept)).shape == (2, 12)
    assert kept["stem"].shape == (2, 4, 24, 16) and kept["layer4.2"].shape == (2, 128, 3, 2)
    assert kept["pooling.attention"].shape == (2, 2, 1, 7)
    for side in (32, 33, 63, 64, 95):
        assert (
            resnet_grid((side, 64))[0]
            == model.visual.layer4(  # type: ignore[union-attr, operator]
                torch.zeros(1, 64, (side + 1) // 2 // 8, 4)
            ).shape[2]
        )


def test_every_parameter_learns_and_is_drawn_from_the_seed() -> None:
    for loss in ("softmax", "sigmoid"):
        config = CLIPConfig(**(vars(SMALL) | {"contrast": loss}))
        torch.manual_seed(5)
        model = CLIP(config, SHAPE, WORDS)
        torch.manual_seed(5)
        again = CLIP(config, SHAPE, WORDS)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
        image, text = model(pictures(), captions())
        logits = model.scale() * image @ text.T
        if model.logit_bias is not None:
            logits = logits + model.logit_bias
        (logits.sum() + F.cross_entropy(logits, torch.arange(3))).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_a_fresh_model_is_near_chance_and_learns_eight_pairs() -> None:
    """The loss begins near ln B, as the paper's at random; eight pictures soon know their captions."""
    torch.manual_seed(0)
    model = CLIP(CLIP.TINY, SHAPE, WORDS)
    x, tokens = pictures(8), captions(tuple(range(2, 10)))
    right = torch.arange(8)

    def loss() -> Tensor:
        image, text = model(x, tokens)
        logits = model.scale() * image @ text.T
        return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2

    with torch.no_grad():
        model.logit_scale.zero_()
        assert loss().item() == pytest.approx(math.log(8), abs=0.7)
        model.logit_scale.fill_(math.log(1 / 0.07))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.1


def test_the_scale_is_held_at_100_in_training_and_can_come_back() -> None:
    model = CLIP(CLIP.TINY, SHAPE, WORDS)
    assert model.scale().item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        model.logit_scale.fill_(5.0)
    assert model.eval().scale().item() == pytest.approx(math.exp(5.0))  # what was loaded is used as it is
    scale = model.train().scale()
    assert scale.item() == pytest.approx(100.0) and model.logit_scale.item() == pytest.approx(MOST)
    scale.backward()
    assert model.logit_scale.grad is not None and model.logit_scale.grad.item() == pytest.approx(100.0)
    sigmoid = CLIP(CLIPConfig(**(vars(CLIP.TINY) | {"contrast": "sigmoid"})), SHAPE, WORDS)
    assert sigmoid.logit_bias is not None and sigmoid.logit_bias.item() == -10
    assert sigmoid.scale().item() == pytest.approx(10.0)


def test_where_a_caption_ends_goes_by_what_ends_it() -> None:
    tokens = torch.tensor([[8, 49, 3, 5, -1], [8, 3, 5, 3, 9], [-1, -1, -1, -1, -1]])

    def ends(end: int) -> list[int]:
        return CLIP(CLIPConfig(**(vars(SMALL) | {"end": end})), SHAPE, WORDS).ends(tokens).tolist()

    assert ends(LAST) == [3, 4, 0]
    assert ends(HIGHEST) == [1, 4, 0]
    assert ends(3) == [2, 1, 0]  # the first of two
    assert CLIPConfig().end == LAST  # right for every tokenizer, wherever in its vocabulary the end stands


def test_auto_goes_by_the_pictures_size() -> None:
    assert chosen(CLIPConfig(), (3, 224, 224)).patch == 32
    assert [chosen(CLIPConfig(), (3, side, side)).patch for side in (8, 32, 64, 72)] == [2, 8, 16, 18]
    assert [chosen(CLIPConfig(), (3, side, side)).width for side in (64, 159, 160)] == [128, 128, 768]


def test_a_tokenizer_that_does_not_fit_is_named() -> None:
    model = CLIP(CLIPConfig(**(vars(SMALL) | {"end": END})), SHAPE, WORDS)
    model.check_tokens(captions(fill=-1))
    with pytest.raises(
        SadariError, match="token 50 is beyond the model's vocabulary of 50, 0 to 49; use the"
    ):
        model.check_tokens(torch.tensor([[1, 50, END]]))
    with pytest.raises(SadariError, match="caption 2 has no token 49, by which its end is known; set end to"):
        model.check_tokens(torch.tensor([[1, END], [1, 2]]))
    with pytest.raises(SadariError, match="caption 2 has no token; leave such pairs out"):
        model.check_tokens(torch.tensor([[1, END], [-1, -1]]))
    with pytest.raises(SadariError, match="a caption of 12 tokens, but there are positions for 11; cut capt"):
        model.encode_text(captions((12,), 12))


def test_settings_that_no_network_can_have_are_refused() -> None:
    with pytest.raises(SadariError, match="no variant 'vit-h14'; choose one of auto, clip-64, vit-b32"):
        CLIPConfig(variant="vit-h14")
    with pytest.raises(SadariError, match="text_layers -1: at least 1 is needed; use text_layers=0 as usual"):
        CLIPConfig(text_layers=-1)
    with pytest.raises(SadariError, match="end -3: no token has this number; use end=-1 for what is last"):
        CLIPConfig(end=-3)
    with pytest.raises(SadariError, match="context 0: a caption has at least its end; use context=77"):
        CLIPConfig(context=0)
    with pytest.raises(
        SadariError, match="--contrast 'hinge' is no loss of pairs; choose one of softmax, sigmoid"
    ):
        CLIPConfig(contrast="hinge")
    with pytest.raises(SadariError, match="width 51 is not divisible by 2 heads; use heads=1"):
        CLIP(CLIPConfig(variant="clip-64", width=51), SHAPE, WORDS)
    with pytest.raises(
        SadariError, match="patch 32: pictures of 16 pixels have no such patch; use patch=0 or"
    ):
        CLIP(CLIPConfig(variant="vit-b32"), SHAPE, WORDS)
    with pytest.raises(SadariError, match="pictures of 40 x 16 pixels are too small for CLIP's ResNet"):
        CLIP(RESNET, (3, 16, 40), WORDS)

"""Vision Transformer: the references' answers, gradients and counts, names both ways, any size of picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sadari.errors import SadariError
from sadari.models.vit import (
    AttentionPooling,
    Block,
    Sizes,
    ViT,
    ViTConfig,
    chosen,
    export_huggingface,
    import_huggingface,
    import_torchvision,
    resize_positions,
)

SMALL = ViTConfig(variant="vit-32", patch=4, width=24, layers=2, heads=3, drop_path=0.0)
SHAPE = (3, 16, 16)


def pictures(rows: int = 3, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> Tensor:
    made = torch.randn(rows, *shape, generator=torch.Generator().manual_seed(seed))
    return made.contiguous(memory_format=torch.channels_last)


def shaken(model: nn.Module, seed: int = 0) -> Any:
    """Every weight far from where it begins, zeros and ones too, so that a mix-up shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + (parameter == 1))
    return model.eval()


def reference(size: int = 16) -> Any:
    """Hugging Face's classifier of the same sizes, with weights of its own."""
    from transformers import ViTConfig as TheirConfig
    from transformers import ViTForImageClassification

    config = TheirConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=48,
        image_size=size,
        patch_size=4,
        num_labels=5,
        layer_norm_eps=1e-6,
    )
    return shaken(ViTForImageClassification(config))


@pytest.mark.proof("vit", "parity")
def test_equals_transformers_in_answers_and_gradients() -> None:
    theirs, ours = reference(), ViT(SMALL, SHAPE, 5).eval()
    ours.load_state_dict(import_huggingface(theirs.state_dict()))
    x, y = pictures(), torch.tensor([0, 4, 2])
    answer, expected = ours(x), theirs(x).logits
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5)
    for logits in (answer, expected):
        nn.functional.cross_entropy(logits, y).backward()
    theirs_slopes = import_huggingface({name: p.grad for name, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs_slopes[name], rtol=0, atol=1e-5)
    assert sum(p.numel() for p in theirs.parameters()) == ViT.parameter_count(SMALL, SHAPE, 5)


@pytest.mark.proof("vit", "exchanged")
def test_weights_go_to_transformers_files_and_back(tmp_path: Path) -> None:
    """Its files have other names than its modules: what it saves is read, what is written here it reads."""
    from transformers import ViTForImageClassification

    theirs = reference()
    theirs.save_pretrained(tmp_path)
    ours = ViT(SMALL, SHAPE, 5).eval()
    ours.load_state_dict(import_huggingface(load_file(tmp_path / "model.safetensors")))
    torch.testing.assert_close(ours(pictures()), theirs(pictures()).logits, rtol=0, atol=1e-5)
    shaken(ours, seed=7)
    save_file(export_huggingface(ours.state_dict()), tmp_path / "model.safetensors", {"format": "pt"})
    again = ViTForImageClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(ours(pictures()), again(pictures()).logits, rtol=0, atol=1e-5)
    back = import_huggingface(export_huggingface(ours.state_dict()))
    assert all(torch.equal(back[name], value) for name, value in ours.state_dict().items())


def test_a_block_is_torchs_own_by_torchvisions_names() -> None:
    """Torchvision's block is made of nn.MultiheadAttention and names it so; torch's layer wires it alike."""
    ours = shaken(Block(Sizes(4, 24, 1, 3, 48), 0.0))
    theirs = nn.TransformerEncoderLayer(
        24, 3, 48, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    ).eval()
    names = {"self_attention": "self_attn", "ln_1": "norm1", "ln_2": "norm2"}
    names |= {"mlp.0": "linear1", "mlp.3": "linear2"}
    state = {}
    for name, value in ours.state_dict().items():
        old = next(old for old in names if name.startswith(f"{old}."))
        state[names[old] + name[len(old) :]] = value
    theirs.load_state_dict(state)
    x = torch.randn(2, 7, 24)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, plain=False)[0], theirs(x), rtol=0, atol=1e-5)
        torch.testing.assert_close(ours(x, plain=True)[0], theirs(x), rtol=0, atol=1e-5)


def test_map_pooling_is_siglips() -> None:
    from transformers import SiglipVisionConfig
    from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead

    theirs = shaken(
        SiglipMultiheadAttentionPoolingHead(
            SiglipVisionConfig(
                hidden_size=24,
                num_attention_heads=3,
                intermediate_size=48,
                hidden_act="gelu",
                layer_norm_eps=1e-6,
            )
        )
    )
    ours = AttentionPooling(Sizes(4, 24, 1, 3, 48))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 7, 24)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, None), theirs(x), rtol=0, atol=1e-5)
        torch.testing.assert_close(ours(x, lambda name, value: value), theirs(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ("vit-b16", 86_567_656),  # torchvision's own numbers
        ("vit-b32", 88_224_232),
        ("vit-l16", 304_326_632),
        ("vit-ti16", 5_717_416),  # 2012.12877, and timm's
        ("vit-s16", 22_050_664),
    ],
)
def test_published_networks_have_their_published_parameters(variant: str, count: int) -> None:
    with torch.device("meta"):
        model = ViT(ViTConfig(variant=variant), (3, 224, 224), 1000)
    assert sum(p.numel() for p in model.parameters()) == count
    assert ViT.parameter_count(model.config, (3, 224, 224), 1000) == count


@pytest.mark.parametrize("pooling", ["class", "map"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (3, 30, 45), (1, 3, 3), (2, 1, 1)])
def test_counts_are_those_of_its_tensors_and_its_products(pooling: str, shape: tuple[int, int, int]) -> None:
    config = ViTConfig(width=24, layers=2, heads=2, pooling=pooling)
    model = ViT(config, shape, 4)
    assert sum(p.numel() for p in model.parameters()) == ViT.parameter_count(config, shape, 4)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(pictures(1, shape), rec=lambda name, value: value)  # the plain path: its products are counted
    assert counter.get_total_flops() == 2 * ViT.macs(config, shape, 4)


def test_auto_goes_by_the_pictures_size() -> None:
    def auto(side: int) -> Sizes:
        return chosen(ViTConfig(), (3, side, side))

    assert [auto(side).patch for side in (8, 28, 32, 64, 96, 224)] == [2, 4, 4, 8, 12, 16]
    assert [auto(side).width for side in (28, 47, 48, 159, 160)] == [128, 128, 192, 192, 192]
    assert [auto(side).layers for side in (28, 64, 159, 160)] == [6, 6, 6, 12]


@pytest.mark.proof("vit", "inside")
@pytest.mark.parametrize("pooling", ["class", "map"])
def test_attention_is_kept_where_one_looks(pooling: str) -> None:
    config = ViTConfig(variant="vit-32", patch=4, width=24, layers=2, heads=3, pooling=pooling)
    model, seen = shaken(ViT(config, SHAPE, 5)), {}
    x = pictures()
    output = model(x, rec=lambda name, value: seen.setdefault(name, value))
    torch.testing.assert_close(output, model(x), rtol=0, atol=1e-5)
    tokens = 16 + (pooling == "class")
    for name in ("layer0.attention", "layer1.attention"):
        assert seen[name].shape == (3, 3, tokens, tokens)
        torch.testing.assert_close(seen[name].sum(-1), torch.ones(3, 3, tokens))
    assert ("pooling.attention" in seen) == (pooling == "map")
    torch.testing.assert_close(model.heads["head"](seen["features"]), output)
    torch.testing.assert_close(seen["features"], model.features(x), rtol=0, atol=1e-5)
    assert torch.equal(seen["output"], output)


@pytest.mark.proof("vit", "claim")
def test_every_patch_sees_every_other_from_the_first_layer_and_their_order_is_in_the_positions() -> None:
    """One layer, and each token's gradient reaches every pixel, where a 3 x 3 filter's reaches nine. Without
    positions, patches in another order are the same picture.
    """
    config = ViTConfig(variant="vit-32", patch=4, width=24, layers=1, heads=3, drop_path=0.0)
    model = shaken(ViT(config, SHAPE, 5))
    x = pictures(1).requires_grad_()
    (slope,) = torch.autograd.grad(model.tokens(x)[0, 1].square().sum(), x)
    assert (slope != 0).all()
    cut = x.detach().unfold(2, 4, 4).unfold(3, 4, 4)  # (1, C, 4, 4, 4, 4)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = cut[:, :, order][:, :, :, order].permute(0, 1, 2, 4, 3, 5).reshape(1, *SHAPE)
    assert (model(x) - model(shuffled)).abs().max() > 1e-2
    with torch.no_grad():
        model.encoder.pos_embedding.zero_()
    torch.testing.assert_close(model(x), model(shuffled), rtol=0, atol=1e-5)


def test_pictures_of_another_size_are_read_as_transformers_reads_them() -> None:
    theirs, ours = reference(), ViT(SMALL, SHAPE, 5).eval()
    ours.load_state_dict(import_huggingface(theirs.state_dict()))
    for side in (24, 8):
        x = pictures(2, (3, side, side))
        expected = theirs(x, interpolate_pos_encoding=True).logits
        torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-5)


def test_positions_are_interpolated_and_the_class_tokens_stays() -> None:
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    plane = torch.stack([rows, columns], -1).view(1, 36, 2)
    positions = torch.cat([torch.tensor([[[9.0, -9.0]]]), plane], 1)
    torch.testing.assert_close(resize_positions(positions, (6, 6), (6, 6)), positions)
    larger = resize_positions(positions, (6, 6), (12, 6))
    assert larger.shape == (1, 73, 2) and torch.equal(larger[:, 0], positions[:, 0])
    inside = larger[0, 1:].view(12, 6, 2)[3:9, 2:4]  # far from the edge: two new places are one old one
    torch.testing.assert_close(inside[2:, :, 0] - inside[:-2, :, 0], torch.ones(4, 2))
    torch.testing.assert_close(inside[:, 1, 1] - inside[:, 0, 1], torch.ones(6))
    with pytest.raises(SadariError, match="37 positions are not those of 5 x 5 patches"):
        resize_positions(positions, (5, 5), (6, 6))


def test_a_patch_over_the_edge_is_filled_with_zeros() -> None:
    model = shaken(ViT(SMALL, (3, 14, 15), 5))
    x = pictures(2, (3, 14, 15))
    filled = torch.zeros(2, 3, 16, 16)
    filled[:, :, :14, :15] = x
    torch.testing.assert_close(model(x), model(filled), rtol=0, atol=1e-5)


@pytest.mark.parametrize("pooling", ["class", "map"])
def test_every_parameter_gets_a_gradient_and_is_drawn_from_the_seed(pooling: str) -> None:
    config = ViTConfig(variant="vit-32", width=24, layers=2, heads=2, pooling=pooling)
    torch.manual_seed(5)
    model = ViT(config, SHAPE, 3)
    torch.manual_seed(5)
    again = ViT(config, SHAPE, 3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    first = model.eval()(pictures())
    assert first.std() < 0.5  # near zero: every class about as likely
    nn.functional.cross_entropy(first, torch.tensor([0, 1, 2])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_branches_are_left_out_at_random_in_training_and_their_mean_stays() -> None:
    """A picture keeps a branch with 1 - drop, and it then counts 1 / (1 - drop); looked at, all stay."""
    block = Block(Sizes(4, 24, 1, 3, 48), 0.4)
    branch = torch.ones(4000, 3, 24)
    torch.manual_seed(0)
    found = block._some(branch)
    assert (found == found[:, :1, :1]).all()
    torch.testing.assert_close(found.unique(), torch.tensor([0, 1 / 0.6]))
    assert found.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(block.eval()._some(branch), branch)
    layers = ViT(ViTConfig(drop_path=0.4), SHAPE, 2).encoder.layers.values()
    assert [round(layer.drop, 6) for layer in layers] == [0.0, 0.08, 0.16, 0.24, 0.32, 0.4]


def test_old_files_of_torchvision_are_read() -> None:
    model = ViT(SMALL, SHAPE, 5)
    old = {
        name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): value
        for name, value in model.state_dict().items()
    }
    assert "encoder.layers.encoder_layer_0.mlp.linear_1.weight" in old
    assert import_torchvision(old).keys() == model.state_dict().keys()
    assert "encoder.layers.encoder_layer_0.self_attention.in_proj_weight" in old


def test_names_that_no_vit_has_are_refused() -> None:
    state = export_huggingface(ViT(SMALL, SHAPE, 5).state_dict())
    assert import_huggingface(state | {"vit.pooler.dense.weight": torch.zeros(1)}).keys() == (
        import_huggingface(state).keys()
    )
    with pytest.raises(SadariError, match=r"vit.bias: no ViT has such a weight; give the weights of"):
        import_huggingface(state | {"vit.bias": torch.zeros(1)})
    with pytest.raises(SadariError, match="no ViT has such a weight"):
        import_huggingface(state | {"vit.encoder.layer.0.gate.weight": torch.zeros(1)})
    del state["vit.encoder.layer.1.attention.attention.key.weight"]
    with pytest.raises(SadariError, match="in_proj_weight lacks its key; the file is cut short"):
        import_huggingface(state)
    pooled = ViT(ViTConfig(width=24, heads=2, layers=1, pooling="map"), SHAPE, 5)
    with pytest.raises(SadariError, match="pooling 'map': Hugging Face's ViT has only a class token"):
        export_huggingface(pooled.state_dict())


def test_settings_that_no_network_can_have_are_refused() -> None:
    with pytest.raises(SadariError, match="no variant 'vit-h14'; choose one of auto, vit-32"):
        ViTConfig(variant="vit-h14")
    with pytest.raises(SadariError, match="no pooling 'mean'; choose one of class, map"):
        ViTConfig(pooling="mean")
    with pytest.raises(SadariError, match="layers -1: at least 1 is needed; use layers=0 as usual"):
        ViTConfig(layers=-1)
    with pytest.raises(SadariError, match=r"drop_path 1.0: a chance lies in \[0, 1\); use drop_path=0.1"):
        ViTConfig(drop_path=1.0)
    with pytest.raises(SadariError, match="width 50 is not divisible by 4 heads; use heads=5"):
        ViT(ViTConfig(variant="vit-32", width=50), SHAPE, 2)
    with pytest.raises(SadariError, match="patch 32: pictures of 16 pixels have no such patch; use patch=0"):
        ViT(ViTConfig(variant="vit-b32"), SHAPE, 2)

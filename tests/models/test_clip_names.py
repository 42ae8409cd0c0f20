"""CLIP's names: transformers' files and open_clip, out and back; sizes from shapes; what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sadari.errors import SadariError
from sadari.models.clip import CLIP, CLIPConfig
from sadari.models.clip_names import (
    export_huggingface,
    export_open_clip,
    import_huggingface,
    import_open_clip,
    import_openai,
    imported,
    settings_of,
)
from tests.models.test_clip import RESNET, SHAPE, SMALL, WORDS, captions, pictures, reference, shaken


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], value) for name, value in other.items())


def test_weights_go_to_transformers_files_and_back(tmp_path: Path) -> None:
    """What it saves is read, what is written here it reads, to the last weight."""
    from transformers import CLIPModel

    theirs = reference()
    theirs.save_pretrained(tmp_path)
    ours = CLIP(SMALL, SHAPE, WORDS).eval()
    ours.load_state_dict(imported(load_file(tmp_path / "model.safetensors")))
    x, tokens = pictures(), captions()
    expected = theirs.get_text_features(tokens).pooler_output
    torch.testing.assert_close(ours.encode_text(tokens), expected, rtol=0, atol=1e-5)
    shaken(ours, seed=7)
    save_file(export_huggingface(ours.state_dict()), tmp_path / "model.safetensors", {"format": "pt"})
    again = CLIPModel.from_pretrained(tmp_path).eval()
    expected = again.get_image_features(x).pooler_output
    torch.testing.assert_close(ours.encode_image(x), expected, rtol=0, atol=1e-5)
    assert same(import_huggingface(export_huggingface(ours.state_dict())), ours.state_dict())


def test_open_clips_text_tower_may_stand_apart() -> None:
    state = shaken(CLIP(SMALL, SHAPE, WORDS)).state_dict()
    apart = export_open_clip(state, apart=True)
    assert {name.split(".")[0] for name in apart} == {"visual", "text", "logit_scale"}
    for there in (apart | {"text.attn_mask": torch.zeros(2)}, state | {"attn_mask": torch.zeros(2)}):
        assert same(import_open_clip(there), state)
    assert same(export_open_clip(state), state)


def test_openais_facts_are_no_weights() -> None:
    state = shaken(CLIP(RESNET, (3, 64, 64), WORDS)).state_dict()
    facts = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    assert same(import_openai(state | facts), state) and same(imported(state | facts), state)


@pytest.mark.parametrize(
    ("variant", "side"),
    [("vit-b32", 224), ("vit-l14-336", 336), ("rn50", 224), ("rn101", 224), ("rn50x4", 288)],
)
def test_sizes_are_read_from_the_shapes(variant: str, side: int) -> None:
    with torch.device("meta"):
        model = CLIP(CLIPConfig(variant=variant), (3, side, side), 49408)
        settings, inputs, vocabulary = settings_of(model.state_dict())
        again = CLIP(CLIPConfig(**settings), inputs, vocabulary)
    assert inputs == (3, side, side) and vocabulary == 49408 and again.sizes == model.sizes
    shapes = [{name: value.shape for name, value in m.state_dict().items()} for m in (model, again)]
    assert shapes[0] == shapes[1]


def test_weights_of_another_model_are_refused() -> None:
    state = shaken(CLIP(SMALL, SHAPE, WORDS)).state_dict()
    out = export_huggingface(state)
    old = out | {"text_model.embeddings.position_ids": torch.arange(11)}
    assert import_huggingface(old).keys() == state.keys()
    with pytest.raises(SadariError, match=r"vision_model.gate: no CLIP has such a weight; give those of tr"):
        import_huggingface(out | {"vision_model.gate": torch.zeros(1)})
    with pytest.raises(SadariError, match=r"layers.0.mlp.gate.weight: no CLIP has such a weight"):
        import_huggingface(out | {"text_model.encoder.layers.0.mlp.gate.weight": torch.zeros(1)})
    half = {name: value for name, value in out.items() if "layers.1.self_attn.v_proj.bias" not in name}
    with pytest.raises(SadariError, match="in_proj_bias lacks its v_proj; the file is cut short, fetch it"):
        import_huggingface(half)
    with pytest.raises(SadariError, match=r"the image tower is timm's; read open_clip's SigLIP as siglip"):
        import_open_clip({"visual.trunk.pos_embed": torch.zeros(1)})
    with pytest.raises(SadariError, match=r"the weights begin with 'conv1.weight', which is no CLIP's; give"):
        imported({"conv1.weight": torch.zeros(1)})
    with pytest.raises(SadariError, match="the weights begin with 'nothing'"):
        imported({})
    with pytest.raises(SadariError, match="no ResNet for pictures; fit variant=vit-b32, or another"):
        export_huggingface(CLIP(RESNET, (3, 64, 64), WORDS).state_dict())
    sigmoid = CLIP(CLIPConfig(**(vars(SMALL) | {"contrast": "sigmoid"})), SHAPE, WORDS)
    with pytest.raises(SadariError, match="logit_bias: Hugging Face's CLIP knows only the softmax loss"):
        export_huggingface(sigmoid.state_dict())


def test_incomplete_weights_are_refused() -> None:
    state = shaken(CLIP(SMALL, SHAPE, WORDS)).state_dict()
    with pytest.raises(SadariError, match="the weights hold no 'text_projection'; they are of another model"):
        settings_of({name: value for name, value in state.items() if name != "text_projection"})
    state["ln_final.weight"] = state["ln_final.weight"][:3]
    with pytest.raises(SadariError, match=r"ln_final.weight is \(3,\) in the weights, \(16,\) here"):
        CLIP.from_weights(state, quick_gelu=True)
    del state["ln_final.weight"]
    with pytest.raises(SadariError, match=r"the weights hold no 'ln_final.weight'"):
        CLIP.from_weights(state, quick_gelu=True)
    resnet = CLIP(RESNET, (3, 64, 64), WORDS).state_dict()
    cut = {name: value for name, value in resnet.items() if not name.startswith("visual.layer4")}
    with pytest.raises(
        SadariError, match=r"a ResNet of \(3, 4, 6, 0\) blocks is unknown; known: rn50, rn101"
    ):
        settings_of(cut)

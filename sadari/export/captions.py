"""A run of pictures with captions as a folder that other programs open.

onnx         both towers, image.onnx and text.onnx, and about.json, which holds the scale and the sizes
huggingface  of clip and siglip, what transformers' CLIPModel and SiglipModel read: config.json,
             model.safetensors, preprocessor_config.json, tokenizer_config.json
open_clip    of clip, what open_clip reads: open_clip_config.json, open_clip_model.safetensors; the weights
             have OpenAI's names

Each has tokenizer.json, which puts START and END round a caption by itself; image_preprocess.py, which makes
a picture file the very pixels of the training; and README.md, a first use that runs as it stands.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor

from sadari.data.spec_captions import CaptionSpec
from sadari.errors import SadariError
from sadari.export import captions_readme as readme
from sadari.export.captions_tokens import Moved, highest_end, shipped, tokenizer_files
from sadari.files import make_folder, write_atomic, write_json
from sadari.models import clip_names
from sadari.models.clip import CLIP, HIGHEST, LAST
from sadari.models.siglip import SigLIP
from sadari.runs import Run

if TYPE_CHECKING:
    import tokenizers

OLD_END = 2  # transformers' eos_token_id that means the highest number (its modeling_clip.py)
RESIZE = {"crop": "shortest", "pad": "longest", "squash": "squash"}  # open_clip's names
BICUBIC = 3  # Pillow's number


def formats(run: Run) -> tuple[str, ...]:
    """What this run of pictures with captions can be written as."""
    known = tuple(name for name, refusal in REFUSALS.items() if not refusal(run))
    return ("onnx", *known, "safetensors")


def write_towers(run: Run, to: str, folder: Path) -> Path:
    """Write the run as `to`, "onnx", "huggingface" or "open_clip", into a new folder and return it.

    One that is there is complete. Raises SadariError where the format does not know such a run, the folder
    has something in it, it cannot be written, or a package is missing.
    """
    if to in REFUSALS and (why := REFUSALS[to](run)):
        raise SadariError(f"--to {to} {why}; use --to {' or '.join(formats(run))}")
    if folder.suffix == ".onnx":
        raise SadariError(f"{folder}: two towers are two files; give a folder with --out, not a file")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SadariError(f"{folder} is there already; give another folder with --out, or remove it first")
    files = WRITERS[to](run)
    try:
        if folder.is_dir():
            folder.rmdir()
        make_folder(folder, lambda place: _fill(place, files))
        os.chmod(folder, 0o755)  # it was made where only its owner reads
    except OSError as error:
        raise SadariError(f"{folder} cannot be written ({error}); give another place with --out") from error
    return folder


def _fill(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        (write_json if isinstance(content, dict) else write_atomic)(folder / name, content)


# ---------------------------------------------------------------------- onnx


def onnx(run: Run) -> dict[str, Any]:
    """image.onnx and text.onnx, and what is needed to use them."""
    from sadari.export import check_onnx

    check_onnx()
    from sadari.export.captions_onnx import image_model, text_model

    model: Any = run.model
    spec, tokenizer = run.spec, shipped(run.spec)
    about = {
        "rung": run.rung,
        "contrast": model.config.contrast,
        "scale": float(model.scale().detach()),
        "bias": 0.0 if model.logit_bias is None else float(model.logit_bias.detach()),
        **{name: getattr(spec.pictures, name) for name in ("size", "fit", "channels", "mean", "deviation")},
        "length": spec.length,
        "pad": -1,
        "vocabulary": spec.vocabulary,
        "end": spec.end,
        "captions": spec.captions,
        "data": {key: run.config["data"][key] for key in ("name", "fingerprint", "rows")},
        "versions": run.config["versions"],
    }
    towers = {"image.onnx": image_model(run), "text.onnx": text_model(run)}
    return {
        **{name: made.SerializeToString() for name, made in towers.items()},
        "tokenizer.json": tokenizer.to_str(),
        "about.json": about,
        **_beside(run, readme.ONNX),
    }


# ---------------------------------------------------------------------- huggingface


def huggingface(run: Run) -> dict[str, Any]:
    """The folder of a CLIPModel or a SiglipModel."""
    spec: CaptionSpec = run.spec
    model: Any = run.model
    if isinstance(model, CLIP):
        moved = highest_end(spec, model)
        state, config = clip_names.export_huggingface(moved.state), _clip_config(spec, model, moved)
        library, pad = moved.tokenizer, moved.end
    else:
        state, config, library, pad = _siglip(spec, model)
    scaled = {"size": {"height": spec.size, "width": spec.size}}
    if spec.pictures.fit == "crop":
        scaled = {"size": {"shortest_edge": spec.size}}
    pictures = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": spec.pictures.channels == 3,
        "do_resize": spec.pictures.fit != "pad",  # nothing there puts white round a picture
        **scaled,
        "resample": BICUBIC,
        "do_center_crop": spec.pictures.fit == "crop",
        "crop_size": {"height": spec.size, "width": spec.size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": spec.mean,
        "image_std": spec.deviation,
    }
    names = readme.CLIP if isinstance(model, CLIP) else readme.SIGLIP
    return {
        "config.json": config,
        "model.safetensors": _saved(state),
        "preprocessor_config.json": pictures,
        **tokenizer_files(library, spec, pad, masked=isinstance(model, CLIP)),
        **_beside(run, names),
    }


def _clip_config(spec: CaptionSpec, model: CLIP, moved: Moved) -> dict[str, Any]:
    sizes, quick = model.sizes, model.config.quick_gelu
    shared = {"hidden_act": "quick_gelu" if quick else "gelu", "projection_dim": sizes.dimension}
    text = {
        "model_type": "clip_text_model",
        "vocab_size": model.vocabulary,
        "hidden_size": sizes.text_width,
        "intermediate_size": 4 * sizes.text_width,
        "num_hidden_layers": sizes.text_layers,
        "num_attention_heads": sizes.text_heads,
        "max_position_embeddings": model.config.context,
        "bos_token_id": spec.tokenizer.start,
        "eos_token_id": OLD_END if model.config.end == HIGHEST else moved.end,
        "pad_token_id": moved.end,
        **shared,
    }
    vision = {"model_type": "clip_vision_model", **_vision(model), **shared}
    vision["intermediate_size"] = 4 * sizes.width
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": sizes.dimension,
        "dtype": "float32",
        "text_config": text,
        "vision_config": vision,
    }


def _siglip(
    spec: CaptionSpec, model: Any
) -> tuple[dict[str, Tensor], dict[str, Any], tokenizers.Tokenizer, int]:
    """Weights, config, tokenizer and what fills captions up."""
    sizes, config = model.sizes, model.config
    state = dict(model.state_dict())
    state.setdefault("logit_bias", torch.zeros(1))  # of softmax, where a bias changes nothing
    act = {"tanh": "gelu_pytorch_tanh", "exact": "gelu"}[config.gelu]
    text = {
        "model_type": "siglip_text_model",
        "vocab_size": model.vocabulary,
        "hidden_size": sizes.text_width,
        "intermediate_size": sizes.text_inner,
        "num_hidden_layers": sizes.text_layers,
        "num_attention_heads": sizes.text_heads,
        "max_position_embeddings": sizes.context,
        "projection_size": sizes.width,
        "bos_token_id": spec.tokenizer.start,
        "eos_token_id": spec.end,
        "pad_token_id": config.pad,
        "hidden_act": act,
    }
    vision = {"model_type": "siglip_vision_model", **_vision(model), "hidden_act": act}
    vision["intermediate_size"] = sizes.inner
    about = {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "dtype": "float32",
        "text_config": text,
        "vision_config": vision,
    }
    return state, about, shipped(spec), config.pad


def _vision(model: Any) -> dict[str, Any]:
    """What both say of pictures."""
    sizes, (channels, side, _) = model.sizes, model.inputs
    return {
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_channels": channels,
        "image_size": side,
        "patch_size": sizes.patch,
    }


# ---------------------------------------------------------------------- open_clip


def open_clip(run: Run) -> dict[str, Any]:
    """The folder that open_clip reads as local-dir:FOLDER."""
    spec: CaptionSpec = run.spec
    model: Any = run.model
    sizes, moved = model.sizes, highest_end(spec, model)
    vision: dict[str, Any] = {"image_size": spec.size, "width": sizes.width}
    if sizes.depths:
        vision |= {"layers": list(sizes.depths), "head_width": 32 * sizes.width // sizes.heads}
    else:
        vision |= {
            "layers": sizes.layers,
            "head_width": sizes.width // sizes.heads,
            "patch_size": sizes.patch,
        }
    text = {
        "context_length": model.config.context,
        "vocab_size": model.vocabulary,
        "width": sizes.text_width,
        "heads": sizes.text_heads,
        "layers": sizes.text_layers,
        "hf_tokenizer_name": ".",  # any name: of a folder, the tokenizer in it is taken
    }
    config = {
        "embed_dim": sizes.dimension,
        "quick_gelu": model.config.quick_gelu,
        **({} if model.logit_bias is None else {"init_logit_bias": float(model.logit_bias.detach())}),
        "vision_cfg": vision,
        "text_cfg": text,
    }
    pictures = {
        "mean": spec.mean,
        "std": spec.deviation,
        "interpolation": "bicubic",
        "resize_mode": RESIZE[spec.pictures.fit],
        "fill_color": 255,
    }
    return {
        "open_clip_config.json": {"model_cfg": config, "preprocess_cfg": pictures},
        "open_clip_model.safetensors": _saved(clip_names.export_open_clip(moved.state)),
        **tokenizer_files(moved.tokenizer, spec, moved.end, masked=True),
        **_beside(run, readme.OPEN_CLIP),
    }


# ---------------------------------------------------------------------- helpers


def _saved(state: dict[str, Tensor]) -> bytes:
    weights = {name: value.detach().cpu().float().contiguous() for name, value in state.items()}
    return safetensors.torch.save(weights, {"format": "pt"})


def _beside(run: Run, text: str) -> dict[str, str]:
    """README.md, and the code that makes a picture file pixels."""
    from sadari.export.pixel_code import preprocess

    named = {"rung": run.rung, "data": run.config["data"]["name"], "length": run.spec.length}
    return {"README.md": text.format(**named), "image_preprocess.py": preprocess(run.spec.pictures)}


def _not_huggingface(run: Run) -> str:
    """Why transformers does not know this run; empty where it does."""
    if not isinstance(run.model, CLIP | SigLIP):
        return f"is for clip and siglip, and this run is {run.rung}"
    if isinstance(run.model, SigLIP):
        return ""
    if run.model.sizes.depths:
        return "has no ResNet for pictures, which this clip has"
    if run.model.logit_bias is not None:
        return "knows no clip with a bias, which contrast=sigmoid has learnt"
    return _no_end(run)


def _not_open_clip(run: Run) -> str:
    """Why open_clip does not know this run; empty where it does."""
    if not isinstance(run.model, CLIP):
        return f"is for clip, and this run is {run.rung}"
    if run.spec.pictures.channels != 3:
        return "knows no pictures in grey, which these are"
    return _no_end(run)


def _no_end(run: Run) -> str:
    """Why others would not find where a caption ends; empty where they would."""
    model: Any = run.model
    tokenizer = run.spec.tokenizer
    if model.config.end == LAST and tokenizer.start == tokenizer.end:
        return f"would read a caption at its first token, since token {tokenizer.end} both starts and ends it"
    return ""


REFUSALS: dict[str, Callable[[Run], str]] = {"huggingface": _not_huggingface, "open_clip": _not_open_clip}
WRITERS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "onnx": onnx,
    "huggingface": huggingface,
    "open_clip": open_clip,
}

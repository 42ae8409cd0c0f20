"""Ship a run in formats that need nothing of ours: ONNX, one safetensors file, ARPA for n-grams, the folders
of transformers' Marian and of CTranslate2 for a Transformer of pairs, of transformers' CLIP and SigLIP and of
open_clip for pictures with captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch

from sadari.data.spec import TableSpec
from sadari.data.spec_captions import CaptionSpec
from sadari.data.spec_images import ImageSpec
from sadari.data.spec_pairs import PairSpec
from sadari.data.spec_text import LanguageSpec, TextSpec
from sadari.errors import SadariError
from sadari.export.arpa import arpa
from sadari.files import write_atomic
from sadari.models.n_gram import NGram
from sadari.runs import Run

if TYPE_CHECKING:
    import onnx

FORMATS = {"onnx": "model.onnx", "safetensors": "model.safetensors", "arpa": "model.arpa"}
MOST = (1 << 31) - (1 << 20)  # bytes of constants: protobuf's own limit, less what else is in a file
FOLDERS = ("marian", "ctranslate2")
TOWERS = ("huggingface", "open_clip")


def export(run: Run, to: str = "onnx", path: str | Path | None = None) -> Path:
    """Write the run as `to` and return the file or folder; `path` is either, by default the run's own folder.

    onnx         raw columns in, predictions out, preprocessing included; of texts, tokens in, and the
                 tokenizer is in the file's metadata; of pictures, squares of pixels in, and beside it
                 MODEL_preprocess.py makes them of files; its doc string says how to use it; of pictures
                 with captions, a folder with both towers
    safetensors  the weights under the model's own names, with config, spec and tokenizer as JSON in the
                 file's metadata
    arpa         the table of n-grams that speech and translation programs read
    marian       of a Transformer of pairs, a folder that transformers opens, as MarianMTModel
                 or, where norms stand first, as PegasusForConditionalGeneration
    ctranslate2  the same as a folder for that engine, which the package ctranslate2 writes
    huggingface  of a clip or siglip, a folder that transformers opens, as CLIPModel or SiglipModel
    open_clip    of a clip, a folder that open_clip opens; its weights have OpenAI's names
    Raises SadariError for a format that there is not or that does not know such a run, a missing package, or
    a file that cannot be written.
    """
    if to not in (*FORMATS, *FOLDERS, *TOWERS):
        raise SadariError(f"--to {to!r} is no format; choose one of: {', '.join(formats(run))}")
    if isinstance(run.spec, CaptionSpec) and to in ("onnx", *TOWERS):
        from sadari.export.captions import write_towers

        return write_towers(run, to, Path(path) if path is not None else run.path / to)
    if to in TOWERS:
        raise SadariError(
            f"--to {to} is for pictures with captions, and this run is {run.rung} of task "
            f"{run.config['task']}; use --to {' or '.join(formats(run))}"
        )
    if to in FOLDERS:
        from sadari.export.folders import write_folder

        return write_folder(run, to, Path(path) if path is not None else run.path / to)
    path = Path(path) if path is not None else run.path
    if path.is_dir() or not path.suffix:
        path = path / FORMATS[to]
    writers = {"onnx": lambda run: onnx_model(run).SerializeToString(), "arpa": arpa}
    write_atomic(path, writers.get(to, _safetensors)(run))
    if to == "onnx" and isinstance(run.spec, ImageSpec):
        from sadari.export.pixel_code import preprocess

        write_atomic(path.with_name(f"{path.stem}_preprocess.py"), preprocess(run.spec))
    return path


def formats(run: Run) -> tuple[str, ...]:
    """What this run can be written as."""
    if isinstance(run.spec, CaptionSpec):
        from sadari.export import captions

        return captions.formats(run)
    if isinstance(run.spec, PairSpec):
        from sadari.models.translator import Translator

        return ("safetensors", *(FOLDERS if isinstance(run.model, Translator) else ()))
    return ("arpa", "safetensors") if isinstance(run.model, NGram) else ("onnx", "safetensors")


def check_onnx() -> None:
    """SadariError where the package `onnx` is not installed."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise SadariError(
            "the export needs the package onnx; install it with: pip install 'sadari[onnx]'"
        ) from error


def onnx_model(run: Run) -> onnx.ModelProto:
    """The run as a checked ONNX model.

    Raises SadariError when the package `onnx` is not installed, or when the run is a table of n-grams.
    """
    if isinstance(run.spec, PairSpec):
        from sadari.models.translator import Translator

        forms = "marian, ctranslate2 or safetensors" if isinstance(run.model, Translator) else "safetensors"
        raise SadariError(f"{run.rung} is a run of pairs, which has no ONNX form; export it --to {forms}")
    if isinstance(run.model, NGram):
        raise SadariError(
            "an n-gram is a table, which ONNX has no form for; use --to arpa or --to safetensors"
        )
    check_onnx()
    import onnx

    from sadari.export import network, pictures, preprocess, text
    from sadari.export.graph import Graph

    graph, spec = Graph(), run.spec
    shape = spec.width if isinstance(spec, ImageSpec) else None
    if isinstance(spec, TableSpec):
        features = preprocess.encode(graph, spec)
    elif isinstance(spec, ImageSpec):
        features = pictures.pixels(graph, spec)
    else:
        features = graph.input("tokens", "int64", ["N", "T"])
    if isinstance(spec, LanguageSpec):
        logits = text.LANGUAGES[type(run.model)](graph, run.model, features)
        name = graph.output("logits", logits, "float", ["N", "T", spec.width])
        outputs = {name: f"float [N, T, {spec.width}], the logits of the token after each"}
    else:
        output = network.convert(graph, run.model, run.loss, features, shape)
        outputs = preprocess.decode(graph, spec, output)
    if (size := sum(constant.ByteSize() for constant in graph.constants)) > MOST:
        raise SadariError(
            f"an ONNX file ends at 2 GB, and this run takes {size / 1e9:.1f} GB; use --to safetensors"
        )
    model = graph.model(f"sadari {run.rung}", explain(run, outputs))
    facts = {
        "rung": run.rung,
        "task": run.config["task"],
        "target": run.spec.target,
        "classes": run.spec.classes,
        "data": {key: run.config["data"][key] for key in ("name", "fingerprint", "rows")},
        "versions": run.config["versions"],
        **_tokenizer(run),
        **_reading(run),
    }
    onnx.helper.set_model_props(model, {key: _text(value) for key, value in facts.items()})
    onnx.checker.check_model(model, full_check=True)
    return model


def explain(run: Run, outputs: dict[str, str]) -> str:
    """How to use the exported file, in plain words: it is all that a reader who finds the file has."""
    spec = run.spec
    what = spec.target or "the next token"
    lines = [
        f"Predicts {what} with a Sadari run: rung {run.rung}, task {run.config['task']}, trained on "
        f"{run.config['data']['name']}.",
        "",
        *_inputs(run),
        "",
        "Outputs:",
        *(f"- {name}: {words}" for name, words in outputs.items()),
    ]
    if spec.classes:
        lines += ["", f"Classes, in the order of the probabilities: {', '.join(spec.classes)}"]
    return "\n".join(lines)


def _inputs(run: Run) -> list[str]:
    if isinstance(run.spec, ImageSpec):
        return _picture_inputs(run.spec)
    return _table_inputs(run.spec) if isinstance(run.spec, TableSpec) else _text_inputs(run)


def _picture_inputs(spec: ImageSpec) -> list[str]:
    """How picture files become the input: the code for it is in the file too."""
    how = {
        "crop": "the shorter side becomes that long, and the middle of the longer one is kept",
        "pad": "the longer side becomes that long, and white is put around the shorter one",
        "squash": "both sides become that long",
    }
    colours = "grey" if spec.channels == 1 else "red, green and blue"
    shape = f"[N, {spec.size}, {spec.size}, {spec.channels}]"
    return [
        f"Input: pictures, uint8 {shape}, {colours} from 0 to 255.",
        "They are scaled by mean and deviation in the graph. Resizing is not: no runtime shrinks a photo as",
        "those of the training were, pixel for pixel. Turn it upright and put it on white, then make it",
        f"{spec.size} pixels a side with Pillow's bicubic filter; {spec.fit}: {how[spec.fit]}.",
        "The code for it, which needs Pillow and NumPy, stands beside this file, and in its metadata under",
        "`preprocess`:",
        "",
        "    import onnxruntime",
        "    from model_preprocess import pixels",
        '    session = onnxruntime.InferenceSession("model.onnx")',
        '    label, shares = session.run(["label", "probabilities"], {"pictures": pixels(PHOTO)})',
    ]


def _table_inputs(spec: TableSpec) -> list[str]:
    from sadari.export.preprocess import INPUTS

    return [
        "Inputs, one a raw column, each of shape [N, 1]; nothing is to be scaled or encoded first:",
        *(f"- {column.name}: {INPUTS[column.kind]}" for column in spec.columns),
    ]


def _text_inputs(run: Run) -> list[str]:
    """How texts become tokens, with the library `tokenizers` alone."""
    spec: TextSpec | LanguageSpec = run.spec
    tokenizer = spec.tokenizer
    special = isinstance(spec, TextSpec) and tokenizer.kind == "given"
    lines = [
        "Input: tokens, int64 [N, T], one text a row, shorter ones filled up with -1 at the right.",
        "The tokenizer is in this file's metadata under `tokenizer`, the content of a tokenizer.json:",
        "",
        "    import onnxruntime, tokenizers",
        "    session = onnxruntime.InferenceSession(FILE)",
        '    held = session.get_modelmeta().custom_metadata_map["tokenizer"]',
        "    tokenizer = tokenizers.Tokenizer.from_str(held)",
        f"    tokens = tokenizer.encode(TEXT, add_special_tokens={special}).ids",
        "",
    ]
    if isinstance(spec, TextSpec):
        last = ", of which the last stays the last" if special else ""
        lines.append(f"Of each text the first {spec.length} tokens are read{last}.")
    else:
        lines.append(f"Put token {tokenizer.end}, the end of a text, before what is to be continued.")
        if getattr(run.model, "positions", None) is not None:
            lines.append(f"T is at most {run.model.context}, the places that were learned.")
    names = (("unknown", tokenizer.unknown), ("start", tokenizer.start), ("end", tokenizer.end))
    lines.append("Special tokens: " + ", ".join(f"{name} {id}" for name, id in names if id is not None) + ".")
    return lines


def _tokenizer(run: Run) -> dict[str, str]:
    """The tokenizer of a run of texts, for a file's metadata."""
    if isinstance(run.spec, TableSpec | ImageSpec):
        return {}
    found = {"tokenizer": run.spec.tokenizer.to_json()}
    if isinstance(run.spec, PairSpec) and not run.spec.shared:
        found["source_tokenizer"] = run.spec.source_tokenizer.to_json()
    return found


def _reading(run: Run) -> dict[str, Any]:
    """How pictures are read, for a file's metadata."""
    spec = run.spec
    if not isinstance(spec, ImageSpec):
        return {}
    from sadari.export.pixel_code import preprocess

    names = ("size", "fit", "channels", "mean", "deviation")
    return {**{name: getattr(spec, name) for name in names}, "preprocess": preprocess(spec)}


def _safetensors(run: Run) -> bytes:
    """Weights, and what is needed to understand them, in one file that cannot run code."""
    weights = {name: tensor.detach().contiguous() for name, tensor in run.model.state_dict().items()}
    about = {
        "format": "pt",
        "config": _text(run.config),
        "spec": _text(run.spec.to_json()),
        **_tokenizer(run),
    }
    return safetensors.torch.save(weights, about)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

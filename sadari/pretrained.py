"""Pretrained encoders: a folder in the hub's layout, checked in all its parts before its weights are read.

config.json              the sizes of a BERT
model.safetensors        its weights; nothing else is ever opened in their place
tokenizer.json           how text becomes its tokens
modules.json             how a text's vector is made of its tokens' (sentence-transformers); may be absent
1_Pooling/config.json    which of them: the mean, or that of [CLS]
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sadari.data.fetch import cached
from sadari.errors import SadariError

if TYPE_CHECKING:
    from torch import Tensor

BUILT_IN = ("minilm",)
"""Weights that `sadari data get` brings."""
SMALL, LARGE = 1 << 20, 1 << 26  # bytes: of a settings file, and of a tokenizer
SIZES = {  # the name in config.json -> ours, and the largest that is believed
    "vocab_size": ("vocabulary", 10_000_000),
    "hidden_size": ("width", 65_536),
    "num_hidden_layers": ("layers", 1000),
    "num_attention_heads": ("heads", 65_536),
    "intermediate_size": ("inner", 1_000_000),
    "max_position_embeddings": ("longest", 1_000_000),
    "type_vocab_size": ("types", 1000),
}
FIXED = {  # what config.json may say only so; the first is what holds where it says nothing
    "model_type": ("bert",),
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
}
UNUSED = ("pooler.", "cls.", "embeddings.position_ids")  # heads that BERT was trained with
DTYPES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8}


@dataclass(frozen=True)
class Pretrained:
    """What a folder says of its encoder; the weights stay on disk until `read`."""

    folder: Path
    sizes: dict[str, int]
    """vocabulary, width, layers, heads, inner, longest, types: fields of `EncoderConfig`."""
    eps: float
    """Added to the variance in each layer norm."""
    pooling: str
    """mean or cls: what a text's vector is made of."""
    normalise: bool
    """Whether that vector is then given length 1."""
    most: int
    """Tokens, [CLS] and [SEP] included, up to which the encoder reads a text."""

    def tokenizer_json(self) -> str:
        """The text of tokenizer.json, without a padding or a cut of its own."""
        content = read_settings(self.folder / "tokenizer.json", LARGE)
        if not isinstance(content.get("model"), dict):
            raise SadariError(f"{self.folder / 'tokenizer.json'} holds no tokenizer; fetch it again")
        return json.dumps({**content, "padding": None, "truncation": None}, ensure_ascii=False)

    def read(self, wanted: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """The weights of these names and shapes, in single precision.

        SadariError, before a number is read, when one is absent, has another shape or no dtype of numbers,
        or when the file is cut short.
        """
        from safetensors import SafetensorError, safe_open

        path = self.folder / "model.safetensors"
        if not path.is_file():
            others = [name for name in ("pytorch_model.bin", "model.ckpt") if (path.parent / name).exists()]
            instead = f" ({others[0]} is not opened: such files can run code)" if others else ""
            raise SadariError(f"{path.parent} has no model.safetensors{instead}; save it as safetensors")
        try:
            with safe_open(path, framework="pt") as file:
                names = _names(set(file.keys()))
                missing = sorted(set(wanted) - set(names))
                unknown = sorted(set(names) - set(wanted))
                if missing or unknown:
                    what = f"no {missing[0]}" if missing else f"{unknown[0]}, which this encoder has not"
                    raise SadariError(f"{path} has {what}; its weights are not those of its config.json")
                for name, shape in wanted.items():
                    part = file.get_slice(names[name])
                    found = tuple(part.get_shape())
                    if found != shape or part.get_dtype() not in DTYPES:
                        raise SadariError(
                            f"{path}: {name} is {part.get_dtype()} {found}, its config.json asks for numbers "
                            f"of shape {shape}; the two do not belong together"
                        )
                return {name: file.get_tensor(names[name]).float() for name in wanted}
        except (SafetensorError, OSError) as error:
            raise SadariError(f"{path} cannot be read as safetensors ({error}); fetch it again") from error


def find_pretrained(weights: str) -> Pretrained:
    """What the folder `weights`, or a built-in's, says of its encoder. SadariError for the first fault."""
    if weights in BUILT_IN:
        folder = cached(weights)
    else:
        folder = Path(weights).expanduser()
        if not folder.is_dir():
            raise SadariError(
                f"weights {weights!r}: neither a folder nor built in ({', '.join(BUILT_IN)}); give a folder "
                f"with config.json, model.safetensors and tokenizer.json"
            )
    path = folder / "config.json"
    config = read_settings(path)
    for name, known in FIXED.items():
        if config.get(name, known[0]) not in known:
            raise SadariError(
                f"{path}: {name} is {config[name]!r}, and only {known[0]!r} is known here; give the weights "
                f"of a BERT"
            )
    sizes = {ours: _size(path, config, name, most) for name, (ours, most) in SIZES.items()}
    if sizes["width"] % sizes["heads"]:
        raise SadariError(
            f"{path}: a hidden_size of {sizes['width']} cannot be cut into {sizes['heads']} heads; "
            f"fetch it again"
        )
    eps = config.get("layer_norm_eps", 1e-12)
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise SadariError(f"{path}: layer_norm_eps is {eps!r}, a number between 0 and 1 is needed")
    pooling, normalise = _pooling(folder)
    most = sizes["longest"]
    if (folder / "sentence_bert_config.json").is_file():
        most = min(most, read_settings(folder / "sentence_bert_config.json").get("max_seq_length") or most)
    return Pretrained(folder, sizes, eps, pooling, normalise, most)


def _pooling(folder: Path) -> tuple[str, bool]:
    """mean or cls, and whether the vector is normalised, by modules.json; without one the mean, as it is."""
    path = folder / "modules.json"
    if not path.is_file():
        return "mean", False
    modules = read_settings(path, kind=list)
    pooling, normalise = "mean", False
    for module in modules:
        kind = str(module.get("type", "")).rsplit(".", 1)[-1] if isinstance(module, dict) else ""
        if kind == "Normalize":
            normalise = True
        elif kind == "Pooling":
            place = str(module.get("path", ""))
            if place != Path(place).name:
                raise SadariError(f"{path} names the folder {place!r}; one inside its own is needed")
            settings = read_settings(folder / place / "config.json")
            modes = [name for name, on in settings.items() if name.startswith("pooling_mode") and on is True]
            if modes == ["pooling_mode_cls_token"]:
                pooling = "cls"
            elif modes != ["pooling_mode_mean_tokens"]:
                raise SadariError(
                    f"{folder / place / 'config.json'}: a text's vector is made by {modes or 'nothing'}; "
                    f"only the mean of tokens or that of [CLS] is known here"
                )
        elif kind != "Transformer":
            raise SadariError(
                f"{path} has a module {kind!r}; only Transformer, Pooling and Normalize are known here"
            )
    return pooling, normalise


def read_settings(
    path: Path,
    most: int = SMALL,
    kind: type = dict,
    remedy: str = "a folder in the hub's layout has one",
) -> Any:
    """The content of a JSON file of at most so many bytes.

    SadariError where it is missing (with this remedy), is larger, is no JSON, or holds another kind.
    """
    if not path.is_file():
        raise SadariError(f"{path.parent} has no {path.name}; {remedy}")
    if path.stat().st_size > most:
        raise SadariError(f"{path} is larger than {most:,} bytes, no settings file is; fetch it again")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SadariError(f"{path} cannot be read as JSON ({error}); fetch it again") from error
    if not isinstance(content, kind):
        raise SadariError(f"{path} holds {type(content).__name__}, not {kind.__name__}; fetch it again")
    return content


def _names(keys: set[str]) -> dict[str, str]:
    """Our name -> the file's: without a leading "bert.", and old files say gamma and beta in layer norms."""
    names = {}
    for key in keys:
        name = key.removeprefix("bert.")
        for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
            if name.endswith(f"LayerNorm{old}"):
                name = name.removesuffix(old) + new
        if not name.startswith(UNUSED):
            names[name] = key
    return names


def _size(path: Path, config: dict[str, Any], name: str, most: int) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise SadariError(f"{path}: {name} is {value!r}, a whole number from 1 to {most:,} is needed")
    return value

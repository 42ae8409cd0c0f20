"""README.md of the folders that a run of pictures with captions is written as: a first use, as it stands."""

_HEAD = "# Pictures and captions in one space\n\nWritten by Sadari: rung {rung}, fitted on {data}.\n"

ONNX = f"""{_HEAD}
image.onnx takes `pictures`, uint8 [N, H, W, C], text.onnx takes `tokens`, int64 [N, T], at most {{length}} a
caption, shorter ones filled up with -1 at the right. Both give `vectors`, float [N, D], of length 1: their
products are cosines. `scale` and `bias` in about.json make logits of them. In this folder, with the packages
onnxruntime, tokenizers, Pillow and NumPy:

```python
import numpy as np, onnxruntime, sys, tokenizers
from image_preprocess import pixels

picture, *captions = sys.argv[1:]
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
tokenizer.encode_special_tokens = True  # a caption that says <|end|> means the letters
ids = [found.ids for found in tokenizer.encode_batch(captions)]
tokens = np.full((len(ids), max(map(len, ids))), -1)
for row, own in zip(tokens, ids):
    row[: len(own)] = own
text = onnxruntime.InferenceSession("text.onnx").run(None, dict(tokens=tokens))[0]
image = onnxruntime.InferenceSession("image.onnx").run(None, dict(pictures=pixels(picture)))[0]
print(captions[(image @ text.T).argmax()])
```
"""

_THEIRS = """
Squares of pixels as the training saw them come from image_preprocess.py; the resizing that is named in
{where} gives nearly the same of pictures that are no squares of that size.

"""

_HUGGINGFACE = """```python
import sys, torch, transformers
from image_preprocess import pixels

picture, *captions = sys.argv[1:]
model = transformers.{model}.from_pretrained(".")
tokenizer = transformers.AutoTokenizer.from_pretrained(".")
processor = transformers.AutoImageProcessor.from_pretrained(".")
own = dict(do_resize=False, input_data_format="channels_last", return_tensors="pt")
seen = processor(list(pixels(picture)), **own)
read = tokenizer(captions, padding={padding}, truncation=True, return_tensors="pt")
with torch.inference_mode():
    logits = model(**seen, **read).logits_per_image
print(captions[int(logits.argmax())])
```
"""

_WHERE = _THEIRS.format(where="preprocessor_config.json")
CLIP = (
    f"{_HEAD}\ntransformers opens this folder as a CLIPModel. The token that ends a caption is the highest, "
    "where\nCLIPs look for it.\n" + _WHERE + _HUGGINGFACE.format(model="CLIPModel", padding="True")
)
SIGLIP = (
    f"{_HEAD}\ntransformers opens this folder as a SiglipModel. Captions are filled up to {{length}} tokens, "
    'which\n`padding="max_length"` does, and no mask hides that: the last place is read.\n'
    + _WHERE
    + _HUGGINGFACE.format(model="SiglipModel", padding='"max_length"')
)
OPEN_CLIP = f"""{_HEAD}
open_clip opens this folder; the weights in open_clip_model.safetensors have OpenAI's names. The token that
ends a caption is the highest, where CLIPs look for it.
{_THEIRS.format(where="open_clip_config.json")}```python
import open_clip, sys, torch
from PIL import Image

picture, *captions = sys.argv[1:]
model, _, prepare = open_clip.create_model_and_transforms("local-dir:.")
tokenizer = open_clip.get_tokenizer("local-dir:.")
with torch.inference_mode():
    image = model.eval().encode_image(prepare(Image.open(picture))[None], normalize=True)
    text = model.encode_text(tokenizer(captions), normalize=True)
print(captions[int((image @ text.T).argmax())])
```
"""

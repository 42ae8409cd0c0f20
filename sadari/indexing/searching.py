"""Searching an index: words, in any language, or a picture, and the pictures that are nearest to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from sadari.data.decode_image import begins_as_one, decode, without_warnings
from sadari.data.image_files import is_picture
from sadari.data.text_rows import existing
from sadari.data.tokenizers import clean_text
from sadari.errors import SadariError
from sadari.index import Hit, Index
from sadari.index.address import place
from sadari.indexing.encoder import check_made, check_run, encoder_of, pictures_of
from sadari.indexing.making import SIDE, STAMP, THUMBNAIL
from sadari.runs import Run


@dataclass(frozen=True)
class Searcher:
    """An index and the run that made it, to be asked many times."""

    index: Index
    run: Run

    @classmethod
    def open(
        cls,
        folder: str | Path,
        run: Run | str | Path | None = None,
        storage: Mapping[str, str] | None = None,
    ) -> Searcher:
        """The index of a folder, or of an address with its options; `run` says where its run lies now.

        Raises SadariError where there is no index, and where the run is gone, or another one.
        """
        folder = place(folder)
        opened = Index.open(folder, storage)
        check_made(opened, folder)
        if run is None:
            run = Path(opened.about["run"])
            if not run.is_dir():
                raise SadariError(f"the run of {folder}, {run}, is not there; say where it is now with --run")
        run = run if isinstance(run, Run) else Run.load(run)
        check_run(opened, run, folder)
        return cls(opened, run)

    def vector(self, query: str | Path | bytes) -> Float32[np.ndarray, " D"]:
        """The vector of words, or of a picture: a path that is there, or a file's bytes.

        Raises SadariError for what is empty, for words to a run that knows none, and for a picture that is
        not there or cannot be read.
        """
        if isinstance(query, bytes) or is_photo(query):
            picture = query if isinstance(query, bytes) else Path(query).expanduser()
            pixels = pictures_of(self.run).decode(picture, "the picture")
            return encoder_of(self.run)(pixels[None].copy())[0]  # what is decoded may be read-only
        if self.run.kind != "captions":
            raise SadariError(
                f"{query!r}: the run of this index ({self.run.rung}) knows pictures and no words; ask with a "
                "picture, or index with a run of pictures and captions"
            )
        found: np.ndarray = self.vectors([" ".join(clean_text(str(query)).split())])[0]
        return found

    def vectors(self, texts: Sequence[str]) -> Float32[np.ndarray, "N D"]:
        """The vectors of captions, by a run that knows words."""
        tokens = torch.from_numpy(self.run.spec.encode_captions(texts))
        found: np.ndarray = self.run.task.captions(self.run.model, tokens).numpy()
        return found

    def search(
        self,
        query: str | Path | bytes,
        k: int = 10,
        where: str = "",
        exact: bool = True,
        probes: int = 20,
    ) -> list[Hit]:
        """The k pictures nearest to words or to a picture; the rest as in `Index.search`.

        The path of a hit is the one to open; its id, and `path` in a condition, start at the indexed folder.
        """
        hits = self.index.search(self.vector(query), k, where, exact, probes)
        return [
            replace(
                hit,
                path=hit.path and str(Path(self.index.about["folder"], hit.path)),
                columns={name: value for name, value in hit.columns.items() if name != STAMP},
            )
            for hit in hits
        ]

    def pixels(self, hit: Hit, side: int = SIDE) -> UInt8[np.ndarray, "S S 3"] | None:
        """A hit to be looked at, on white; None where its file is gone or cannot be read."""
        picture = hit.columns.get(THUMBNAIL) or (hit.path and Path(hit.path))
        try:
            with without_warnings():
                return decode(picture, size=side, fit="pad") if picture else None
        except SadariError:
            return None


def search(
    folder: str | Path,
    query: str | Path | bytes,
    k: int = 10,
    where: str = "",
    *,
    run: Run | str | Path | None = None,
    exact: bool = True,
    probes: int = 20,
    storage: Mapping[str, str] | None = None,
) -> list[Hit]:
    """The k pictures of an index that are nearest to words or to a picture; for many queries: `Searcher`."""
    return Searcher.open(folder, run, storage).search(query, k, where, exact, probes)


def is_photo(query: str | Path) -> bool:
    """Whether a query is a picture's path rather than words.

    Raises SadariError for an empty one, and for what is called as a picture is and is not there.
    """
    if not str(query).strip():
        raise SadariError("the query is empty; say what to look for in words, or name a picture")
    path = existing(query)
    if path is None:
        if is_picture(str(query)) or isinstance(query, Path):
            raise SadariError(f"no picture {query}; check the path, or say in words what to look for")
        return False
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return is_picture(path.name) or begins_as_one(file.read(16))

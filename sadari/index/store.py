"""The index: a table of vectors with what is known of each, in LanceDB on disk or in object storage.

    id | vector (D) of length 1 | path | captions | further columns

An item is found by the cosine of its vector with another of the same space: of words, of a picture. Exact
search reads all vectors and settles the last digits in double precision; approximate search (inverted file:
Sivic & Zisserman 2003; Jegou et al. 2011) reads only those of the nearest cells, and `recall` says what that
misses. Each `add` is one step that happens or does not, so that work broken off goes on where it stopped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from sadari.errors import SadariError
from sadari.index.address import check_options, is_address
from sadari.index.items import OWN, check_items, units
from sadari.index.lance import array_of, check_condition, connected, libraries, lists, matrix, said
from sadari.index.likeness import apartness, duplicate_groups
from sadari.layers.nearest import TERMS, UNIT, round_vectors, top

TABLE, VECTOR = "items", "vector"
NONE = f"{{}} holds no index: it has no table {TABLE!r} of this program; make one first"
SPARE = 8  # more found than asked for: single precision may have them in another order
LEAST = 256  # vectors from which cells can be learnt
WIDEST = 1 << 16
DELETED = 500  # items that one step takes out


@dataclass(frozen=True)
class Hit:
    """An item that was found."""

    id: str
    score: float
    """Cosine with what was asked for."""
    path: str | None
    captions: tuple[str, ...]
    columns: dict[str, Any] = field(default_factory=dict)
    """What else is known of it."""


class Index:
    """Vectors of one space, on disk: see the module. Made by `create` or `open`."""

    def __init__(self, table: Any, width: int, about: dict[str, Any]) -> None:
        self._table, self.width, self.about = table, width, about
        self._loaded: tuple[int, list[str], np.ndarray, Any] | None = None

    @classmethod
    def create(
        cls,
        folder: Path | str,
        width: int,
        about: Mapping[str, Any] | None = None,
        storage: Mapping[str, str] | None = None,
    ) -> Index:
        """A new and empty index.

        folder    where it lies: a folder, or an address such as s3://bucket/folder
        width     D of its vectors
        about     what made the vectors, kept with them; what JSON takes
        storage   LanceDB's options for object storage, such as keys and an endpoint (`index.address`)

        SadariError where there is one already, or lancedb is not installed.
        """
        _, pa = libraries()
        if not 1 <= width <= WIDEST:
            raise SadariError(f"width {width}: a vector holds 1 to {WIDEST:,} numbers; give the encoder's")
        about = dict(about or {})
        schema = pa.schema(
            [
                pa.field("id", pa.string(), nullable=False),
                pa.field(VECTOR, pa.list_(pa.float32(), width)),
                pa.field("path", pa.string()),
                pa.field("captions", pa.list_(pa.string())),
            ],
            metadata={"sadari": json.dumps({"width": width, "about": about})},
        )
        with said(f"no index can be made in {folder}", "choose another folder"):
            database, tables = connected(str(folder), storage)
            if TABLE in tables:
                raise SadariError(
                    f"{folder} holds an index already: one is not written over another; open it, or choose "
                    f"another folder"
                )
            return cls(database.create_table(TABLE, schema=schema), width, about)

    @classmethod
    def open(cls, folder: Path | str, storage: Mapping[str, str] | None = None) -> Index:
        """The index of a folder or an address. SadariError where there is none, or lancedb is missing."""
        found = cls.find(folder, storage)
        if found is None:
            raise SadariError(NONE.format(folder))
        return found

    @classmethod
    def find(cls, folder: Path | str, storage: Mapping[str, str] | None = None) -> Index | None:
        """As `open`; None where there is no such table, which is an error where it is of another program."""
        libraries()
        check_options(folder, storage)
        if not is_address(folder) and not Path(folder, f"{TABLE}.lance").is_dir():
            return None  # connecting would make the folder
        with said(f"the index in {folder} cannot be read", "make it again"):
            database, tables = connected(str(folder), storage)
            if TABLE not in tables:
                return None
            table = database.open_table(TABLE)
            try:
                known = json.loads((table.schema.metadata or {})[b"sadari"])
                width, about = known["width"], known["about"]
                fits = table.schema.field(VECTOR).type.list_size == width
            except (KeyError, ValueError, TypeError, AttributeError):
                fits = False
            if not fits:
                raise SadariError(NONE.format(folder))
            return cls(table, width, about)

    def __len__(self) -> int:
        return int(self._table.count_rows())

    @property
    def columns(self) -> list[str]:
        """What can be filtered by."""
        return [name for name in self._table.schema.names if name != VECTOR]

    @property
    def has_cells(self) -> bool:
        """Whether cells are learnt, so that approximate search is another than the exact one."""
        return any(VECTOR in known.columns for known in self._table.list_indices())

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that are not in the index, in their order: what is left to be done."""
        stored = set(self._table.search().select(["id"]).to_arrow()["id"].to_pylist())
        return [name for name in ids if name not in stored]

    def values(self, column: str) -> dict[str, Any]:
        """What a column holds, by id; None for all where there is no such column."""
        there = column in self._table.schema.names
        found = self._table.search().select(["id", column] if there else ["id"]).to_arrow()
        ids = found["id"].to_pylist()
        return dict(zip(ids, found[column].to_pylist() if there else [None] * len(ids), strict=True))

    def remove(self, ids: Sequence[str]) -> int:
        """Take items out, in steps of some hundred; how many were there."""
        before = len(self)
        for first in range(0, len(ids), DELETED):
            named = ", ".join("'" + name.replace("'", "''") + "'" for name in ids[first : first + DELETED])
            with said("items cannot be removed", "see that nothing else rewrites the index"):
                self._table.delete(f"id IN ({named})")
        return before - len(self)

    def add(
        self,
        ids: Sequence[str],
        vectors: Float32[np.ndarray, "N D"],
        paths: Sequence[str | None] | None = None,
        captions: Sequence[str | Sequence[str] | None] | None = None,
        **columns: Sequence[Any],
    ) -> int:
        """Put items in the index, in one step; what has an id that is there already takes its place.

        vectors    of any length but 0; their direction is kept
        captions   one of each, or several
        columns    a value for each item; a name that is new is empty for those before

        Returns how many items are new. A call takes some milliseconds however little it adds: give it
        thousands. SadariError where numbers of items differ, an id is there twice, or a value does not fit.
        """
        _, pa = libraries()
        unit = units(vectors, self.width)
        given: dict[str, Any] = {"path": paths, "captions": lists(captions), **columns}
        names = [*ids]
        for name, values in (("ids", names), *given.items()):
            if values is not None and len(values) != len(unit):
                raise SadariError(
                    f"{len(values):,} {name} for {len(unit):,} vectors: each item has one; give as many"
                )
        check_items(names, columns)
        if not names:
            return 0
        arrays = {
            "id": pa.array(names, pa.string()),
            VECTOR: pa.FixedSizeListArray.from_arrays(pa.array(unit.reshape(-1)), self.width),
        }
        for name, values in given.items():
            if values is not None:
                arrays[name] = array_of(self._table.schema, name, list(values))
        with said("items cannot be added", "see that the disk has room and nothing else rewrites the index"):
            new = [pa.field(n, a.type) for n, a in arrays.items() if n not in self._table.schema.names]
            if new:
                self._table.add_columns(new)
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            return int(merge.execute(pa.table(arrays)).num_inserted_rows)

    def search(
        self,
        vector: Float32[np.ndarray, " D"],
        k: int = 10,
        where: str = "",
        exact: bool = True,
        probes: int = 20,
    ) -> list[Hit]:
        """The k items nearest to a vector, the nearest first; fewer where there are fewer.

        where    a condition in SQL on the columns, as "artist = 'noto' and year > 2020"
        exact    all vectors are looked at; else those of the `probes` nearest cells, once there are cells
                 (`build`), and all that were added since

        SadariError where the condition does not fit the columns.
        """
        if k < 1:
            raise SadariError(f"k {k}: at least 1 item is found; give k=10")
        check_condition(where)
        unit, wanted = units(np.asarray(vector)[None], self.width)[0], k + SPARE
        error = (self.width + TERMS) * 4 * UNIT  # of a product in float32, and of what Lance makes of it
        while True:
            found = self._nearest(unit, wanted, where, None if exact else probes)
            rows = matrix(found, self.width)
            scores, order = (
                top(unit[None], rows, k) if len(rows) else (np.zeros((1, 0)), np.zeros((1, 0), int))
            )
            reached = 1 - found["_distance"].to_numpy()[-1] if len(rows) else 0.0
            if not exact or len(rows) < wanted or scores[0, -1] - error > reached:
                break
            wanted *= 4  # others may be as near
        more = [name for name in self.columns if name not in OWN]
        items = found.take(order[0]).to_pylist()
        return [
            Hit(
                item["id"], float(score), item["path"], tuple(item["captions"] or ()),
                {name: item[name] for name in more},
            )
            for item, score in zip(items, scores[0], strict=True)
        ]  # fmt: skip

    def search_all(self, vectors: Float32[np.ndarray, "Q D"], k: int = 10) -> list[list[tuple[str, float]]]:
        """For each vector the k nearest items, exactly: ids and cosines. All vectors are held in memory."""
        ids, stored, rounded = self.load()
        scores, rows = top(units(vectors, self.width), stored, k, rounded)
        return [
            [(ids[row], float(score)) for row, score in zip(*found, strict=True)]
            for found in zip(rows, scores, strict=True)
        ]

    def load(self) -> tuple[list[str], Float32[np.ndarray, "N D"], Any]:
        """All ids and vectors, and these in 8 bits; read once as long as the index stays as it is."""
        version = int(self._table.version)
        if self._loaded is None or self._loaded[0] != version:
            found = self._table.search().select(["id", VECTOR]).to_arrow()
            stored = matrix(found, self.width)
            self._loaded = version, found["id"].to_pylist(), stored, round_vectors(stored)
        return self._loaded[1:]

    def build(self, cells: int = 0) -> None:
        """Learn cells for approximate search; 0 makes the square root of the number of items.

        SadariError where there are too few items to learn from, or to be worth it.
        """
        lancedb, _ = libraries()
        items = len(self)
        if items < LEAST:
            raise SadariError(
                f"{items:,} items: cells are learnt from at least {LEAST}; search exactly, which is fast"
            )
        how = lancedb.index.IvfFlat(distance_type="dot", num_partitions=cells or round(math.sqrt(items)))
        with said("no cells can be learnt", "search exactly"):
            self._table.optimize()  # before: afterwards LanceDB would join small cells into one
            self._table.create_index(VECTOR, config=how)

    def recall(
        self,
        k: int = 10,
        queries: Float32[np.ndarray, "Q D"] | int = 200,
        probes: int = 20,
        seed: int = 0,
    ) -> float:
        """Which share of the k nearest items approximate search finds, the exact ones being all of them.

        queries   vectors such as will be asked for; or how many of the index's own are, each without itself.
                  Words lie elsewhere than pictures: ask with words where words will be asked for
        """
        ids, stored, _ = self.load()
        own = isinstance(queries, int)
        if not len(ids):
            raise SadariError("the index is empty: nothing can be found or missed; add items first")
        if isinstance(queries, int):
            chosen = np.random.default_rng(seed).permutation(len(ids))[:queries]
            asked, itself = stored[chosen], [ids[row] for row in chosen]
        else:
            asked, itself = units(queries, self.width), [""] * len(queries)
        wanted, hits = 0, 0
        for vector, name, truth in zip(asked, itself, self.search_all(asked, k + own), strict=True):
            nearest = {found for found, _ in truth if found != name}
            got = {hit.id for hit in self.search(vector, k + own, exact=False, probes=probes)}
            wanted, hits = wanted + len(nearest), hits + len(nearest & got)
        return hits / max(wanted, 1)

    def duplicates(self, threshold: float = 0.95) -> list[list[str]]:
        """Groups of ids whose vectors have a cosine of at least `threshold`, joined along chains."""
        ids, vectors, _ = self.load()
        return [[ids[row] for row in group] for group in duplicate_groups(vectors, threshold)]

    def outliers(self, k: int = 10, neighbours: int = 10) -> list[tuple[str, float]]:
        """The k items furthest from their nearest others: ids and the mean cosine with these, least first."""
        ids, vectors, _ = self.load()
        means = apartness(vectors, neighbours)
        return [(ids[row], float(means[row])) for row in np.argsort(means, kind="stable")[:k]]

    def _nearest(self, unit: np.ndarray, k: int, where: str, probes: int | None) -> Any:
        query = self._table.search(unit).distance_type("dot").limit(k)
        query = query.select([*self._table.schema.names, "_distance"])
        query = query.bypass_vector_index() if probes is None else query.nprobes(probes)
        rule = f"a condition on {', '.join(self.columns)}" if where else "LanceDB could not search"
        with said(
            f"where {where!r} fails" if where else "the search fails", f"give {rule}" if where else rule
        ):
            return (query.where(where, prefilter=True) if where else query).to_arrow()

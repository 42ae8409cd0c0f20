"""The index finds what sorting all cosines finds, goes on where it stopped, and says what it cannot do."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sadari.errors import SadariError

pytest.importorskip("lancedb")

from sadari.index import Index
from sadari.index.likeness import apartness, duplicate_groups


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


NAMES = [f"그림 {i}'s.png" for i in range(400)]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, np.ndarray]:
    """400 items, asked about by many tests and changed by none."""
    vectors = draw(400, 24)
    index = Index.create(tmp_path_factory.mktemp("index") / "photos", 24, {"run": "clip"})
    index.add(
        NAMES, vectors, NAMES, [None, "하나", ["둘", "two"], []] * 100, year=[*range(400)],
        artist=["noto", "twemoji"] * 200,
    )  # fmt: skip
    return index, vectors


def test_exact_search_is_sorting_all_cosines(filled: tuple[Index, np.ndarray]) -> None:
    index, vectors = filled
    for query in 5 * draw(4, 24, seed=1):
        cosines = unit(vectors) @ query / np.linalg.norm(query)
        best = np.argsort(-cosines)[:7]
        hits = index.search(query, 7)
        assert [hit.id for hit in hits] == [NAMES[i] for i in best]
        assert np.allclose([hit.score for hit in hits], cosines[best], atol=1e-6)
        assert index.search_all(query[None], 7) == [[(hit.id, hit.score) for hit in hits]]


def test_a_hit_tells_what_is_known(filled: tuple[Index, np.ndarray]) -> None:
    index, vectors = filled
    hits = [index.search(vectors[i], 1)[0] for i in range(4)]
    assert [hit.captions for hit in hits] == [(), ("하나",), ("둘", "two"), ()]
    assert hits[3].path == NAMES[3] and hits[3].columns == {"year": 3, "artist": "twemoji"}
    assert hits[3].score == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("exact", [True, False])
def test_a_condition_comes_first(filled: tuple[Index, np.ndarray], exact: bool) -> None:
    """As many as wanted are found among those that meet it, not among the nearest of all."""
    index, vectors = filled
    query = draw(24, seed=2)
    fits = [i for i in range(400) if i > 300 and i % 2]
    best = sorted(fits, key=lambda i: -(unit(vectors) @ query)[i])[:30]
    hits = index.search(query, 30, "year > 300 and artist = 'twemoji'", exact=exact)
    assert [hit.id for hit in hits] == [NAMES[i] for i in best]
    assert not index.search(query, 3, "year > 1000", exact=exact)
    assert index.search(query, 3, f"id = '{NAMES[5].replace(chr(39), chr(39) * 2)}'")[0].id == NAMES[5]
    assert len(index.search(query, 500, "array_has(captions, 'two')")) == 100


def test_many_as_near_are_asked_again(tmp_path: Path) -> None:
    """More rivals within rounding than are spare: the search goes on until it knows."""
    index = Index.create(tmp_path / "near", 64)
    direction, steps = unit(draw(1, 64))[0], 300
    near = direction + 1e-6 * np.arange(steps)[:, None].astype(np.float32) * unit(draw(1, 64, seed=1))
    index.add([str(i) for i in range(steps)], near[np.random.default_rng(0).permutation(steps)])
    hits = index.search(direction, 5)
    assert [(hit.id, hit.score) for hit in hits] == index.search_all(direction[None], 5)[0]


def test_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """In parts, a part twice, opened anew: the same index as at once."""
    vectors, names = draw(90, 12), NAMES[:90]
    Index.create(tmp_path / "parts", 12, {"run": "clip"}).add(names[:40], vectors[:40])
    index = Index.open(tmp_path / "parts")
    assert index.about == {"run": "clip"} and index.width == 12 and len(index) == 40
    assert index.missing(names) == names[40:]
    assert index.add(names[30:70], vectors[30:70]) == 30
    assert index.add(index.missing(names), vectors[70:], artist=["noto"] * 20) == 20
    assert len(index) == 90 and index.columns == ["id", "path", "captions", "artist"]
    whole = Index.create(tmp_path / "whole", 12)
    whole.add(names, vectors)
    queries = draw(5, 12, seed=1)
    assert index.search_all(queries, 90) == whole.search_all(queries, 90)
    assert {hit.columns["artist"] for hit in index.search(queries[0], 90)} == {None, "noto"}


def test_what_is_added_again_takes_the_place(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", 4)
    index.add(["a", "b"], np.eye(2, 4, dtype=np.float32), year=[1, 2])
    assert index.search_all(np.eye(1, 4, dtype=np.float32), 1) == [[("a", 1.0)]]
    assert index.add(["a"], np.eye(4, dtype=np.float32)[3:], year=[5]) == 0
    assert index.search(np.eye(4, dtype=np.float32)[3], 1)[0].columns == {"year": 5}
    assert index.search_all(np.eye(1, 4, dtype=np.float32), 1)[0][0][1] == 0.0


def test_empty_index(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", 4)
    assert index.add([], np.zeros((0, 4), np.float32)) == 0
    assert not index.search(np.ones(4, np.float32)) and index.duplicates() == []
    assert index.search_all(np.ones((2, 4), np.float32)) == [[], []]
    with pytest.raises(SadariError, match="the index is empty: nothing can be found or missed"):
        index.recall()
    with pytest.raises(SadariError, match="0 vectors: an outlier lies apart from others"):
        index.outliers()


def test_cells_miss_what_recall_says(tmp_path: Path) -> None:
    vectors = draw(1500, 16)
    index = Index.create(tmp_path / "index", 16)
    index.add([str(i) for i in range(1500)], vectors)
    assert index.recall(queries=20) == 1.0  # no cells yet: all is looked at
    index.build(30)
    few, all_ = (index.recall(5, 40, probes=probes) for probes in (1, 30))
    assert few < all_ == 1.0
    assert 0 < index.recall(5, draw(30, 16, seed=3), probes=1) < 1
    query = draw(16, seed=2)
    assert index.search(query, 9, exact=False, probes=30) == index.search(query, 9)
    index.add(["new"], query[None])  # in no cell yet
    assert index.search(query, 1, exact=False, probes=1)[0].id == "new"


def test_duplicates_and_outliers(tmp_path: Path) -> None:
    vectors = unit(draw(300, 32) + 3)
    vectors[50] = vectors[7] + 1e-3 * draw(32, seed=1)
    vectors[200] = vectors[7]
    vectors[9] = -vectors.mean(0)
    index = Index.create(tmp_path / "index", 32)
    index.add(NAMES[:300], vectors)
    assert index.duplicates(0.999) == [[NAMES[7], NAMES[50], NAMES[200]]]
    assert index.duplicates(1.0) == [[NAMES[7], NAMES[200]]]
    assert index.outliers(1)[0][0] == NAMES[9] and index.outliers(1)[0][1] < 0


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.99])
def test_groups_are_those_of_all_pairs(threshold: float) -> None:
    """One crowd larger than the first look, chains, and the same vector several times."""
    centres = unit(draw(40, 8))
    vectors = unit(np.repeat(centres, 12, axis=0) + 0.1 * draw(480, 8, seed=1))
    vectors[100:130] = vectors[3]
    vectors[300:350] = unit(vectors[:1] + 1e-4 * draw(50, 8, seed=2))
    groups = duplicate_groups(vectors, threshold)
    left, expected = set(range(480)), []
    near = vectors.astype(np.float64) @ vectors.T.astype(np.float64) >= threshold - 1e-6
    while left:
        group, open_ = set(), [min(left)]
        while open_:
            group.add(row := open_.pop())
            open_ += [other for other in np.flatnonzero(near[row]).tolist() if other not in group]
        left -= group
        expected += [sorted(group)] if len(group) > 1 else []
    assert [group.tolist() for group in groups] == expected


def test_apartness_leaves_each_out_of_its_own() -> None:
    vectors = unit(draw(60, 8))
    vectors[10:30] = vectors[0]  # more equals than are asked for
    scores = (vectors.astype(np.float64) @ vectors.T.astype(np.float64)).round(12)
    np.fill_diagonal(scores, -2)
    assert np.allclose(apartness(vectors, 5), -np.sort(-scores, axis=1)[:, :5].mean(1), atol=1e-6)
    assert np.allclose(
        apartness(vectors[:3], 9), [np.delete(row[:3], i).mean() for i, row in enumerate(scores[:3])]
    )


def test_what_cannot_be_opened_or_made(tmp_path: Path) -> None:
    with pytest.raises(SadariError, match="nothing holds no index: it has no table"):
        Index.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "bad" / "items.lance").mkdir(parents=True)
    with pytest.raises(SadariError, match=r"bad (cannot be read|holds no index)"):
        Index.open(tmp_path / "bad")
    Index.create(tmp_path / "index", 4)
    with pytest.raises(SadariError, match="holds an index already: one is not written over another"):
        Index.create(tmp_path / "index", 4)
    with pytest.raises(SadariError, match="width 0: a vector holds 1 to 65,536 numbers"):
        Index.create(tmp_path / "other", 0)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SadariError, match=r"no index can be made in .*file: .*; choose another folder"):
        Index.create(tmp_path / "file", 4)


def test_a_table_of_others_is_not_taken_for_an_index(tmp_path: Path) -> None:
    import lancedb

    lancedb.connect(tmp_path).create_table("items", [{"id": "a", "vector": [1.0, 2.0]}])
    with pytest.raises(SadariError, match="holds no index: it has no table 'items' of this program"):
        Index.open(tmp_path)


def test_what_does_not_fit(filled: tuple[Index, np.ndarray]) -> None:
    index, vectors = filled
    one = vectors[:1]
    with pytest.raises(SadariError, match="2 ids for 1 vectors: each item has one; give as many"):
        index.add(["a", "b"], one)
    with pytest.raises(SadariError, match="2 year for 1 vectors"):
        index.add(["a"], one, year=[1, 2])
    with pytest.raises(SadariError, match="id 'a' is given twice"):
        index.add(["a", "a"], vectors[:2])
    with pytest.raises(SadariError, match="id 7: an id is a text"):
        index.add([7], one)  # type: ignore[list-item]
    with pytest.raises(SadariError, match="column 'captions 2': a name is a word"):
        index.add(["a"], one, **{"captions 2": ["b"]})
    with pytest.raises(SadariError, match="column 'year' holds what is no int64"):
        index.add(["a"], one, year=["long ago"])
    with pytest.raises(SadariError, match="column 'mixed' holds what is no single kind of value"):
        index.add(["a", "b"], vectors[:2], mixed=[1, "b"])
    with pytest.raises(SadariError, match=r"shape \(1, 20\): those of this index are 24 wide"):
        index.search(one[0, :20])
    for bad in (0, np.nan, np.inf):
        with pytest.raises(SadariError, match="vector 1 is zero, NaN or infinite"):
            index.add(["a", "b"], np.stack([one[0], np.full(24, bad, np.float32)]))
    with pytest.raises(SadariError, match=r"where 'nonsense = 1' fails: .*; give a condition on id, path"):
        index.search(one[0], where="nonsense = 1")
    with pytest.raises(SadariError, match="where 'year >' fails"):
        index.search(one[0], where="year >")
    with pytest.raises(SadariError, match="k 0: at least 1 item is found; give k=10"):
        index.search(one[0], 0)
    with pytest.raises(SadariError, match=r"threshold 1.5: likeness is a cosine"):
        index.duplicates(1.5)
    assert len(index) == 400


def test_too_few_for_cells(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", 4)
    index.add(["a"], np.ones((1, 4), np.float32))
    with pytest.raises(SadariError, match="1 items: cells are learnt from at least 256; search exactly"):
        index.build()


def test_without_lancedb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(SadariError, match=r"lancedb is not installed: .*; pip install 'sadari\[index\]'"):
        Index.open(tmp_path)

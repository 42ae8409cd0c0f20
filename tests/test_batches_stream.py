"""Shards that no memory holds: everything is learnt from but what is held out, and a stop changes nothing."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sadari.batches_captions import Streamed, caption_tensors
from sadari.batches_stream import StreamBatches
from sadari.climbing import climb
from sadari.data.caption_stream import CaptionStream, StreamedArrays, digest
from sadari.data.prepare import Prepared, prepare
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.loop import SadariInterrupted
from sadari.runs import Run
from tests.data.test_shards import write
from tests.models.test_backbone import StopAt

WORDS = "red green blue small large round apple dog sea house".split()  # noqa: SIM905
MEMORY = 40_000  # bytes: half of it holds some 70 of the pictures
LOOP: dict[str, Any] = {"train": {"batch_size": 8, "log_every": 1, "threads": 1}, "budget": "12steps"}


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SADARI_CACHE", str(tmp_path / ".cache"))
    monkeypatch.chdir(tmp_path)


def picture(number: int) -> bytes:
    file = io.BytesIO()
    small = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(small).save(file, "PNG")
    return file.getvalue()


def parts(number: int) -> dict[str, bytes]:
    draw = np.random.default_rng(1000 + number)
    english = f"{number} {' '.join(draw.choice(WORDS, 3))}\n{number} again"
    found = {"png": picture(number), "txt": english.encode()}
    return found | {"ko.txt": f"그림 {number}".encode()} if number % 2 else found


def written(folder: Path, count: int = 200, shards: int = 5, broken: int = 0) -> str:
    folder.mkdir()
    samples = [(f"{n:04d}", parts(n)) for n in range(count)]
    for n in range(broken):
        samples[-1 - n][1]["png"] = b"no picture"
    for place in range(shards):
        rows = slice(place * count // shards, (place + 1) * count // shards)
        write(folder / f"{place:03d}.tar", samples[rows])
    return str(folder / f"{{000..{shards - 1:03d}}}.tar")


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return prepare(written(tmp_path / "shards"), memory=MEMORY)


def stream_of(prepared: Prepared) -> CaptionStream:
    train = prepared.train
    assert isinstance(train, StreamedArrays)
    return train.stream


def batches_of(prepared: Prepared, size: int = 8, seed: int = 0) -> StreamBatches:
    train: Any = prepared.train
    arrays = caption_tensors(train)
    assert isinstance(arrays, Streamed)
    return StreamBatches(arrays, arrays.stream, size, seed)


def digests(batches: Any) -> list[bytes]:
    return [digest(one.numpy().tobytes()) for batch in batches for one in batch["features"]]


def pixels_of(number: int) -> bytes:
    return digest(np.asarray(Image.open(io.BytesIO(picture(number))).convert("RGB")).tobytes())


def test_the_first_pairs_tell_how_to_read_and_an_epoch_gives_all_but_the_held_out(prepared: Prepared) -> None:
    told = {note.about["kind"]: note.english for note in prepared.notes}["streamed"]
    assert "holds about" in told and prepared.table.streamed
    stream, train = stream_of(prepared), prepared.train
    validation, test = prepared.validation, prepared.test
    assert 150 < stream.pairs < 260
    assert 60 < sum(len(part.features) for part in (train, validation, test)) < 100
    batches = batches_of(prepared)
    seen = digests(batches.epoch())
    held = {digest(one.tobytes()) for part in (validation, test) for one in part.features}
    every = {pixels_of(number) for number in range(200)}
    assert len(seen) == len(set(seen)) and not held & set(seen)
    missing = every - held - set(seen)
    assert set(seen) < every and len(missing) < 8  # what fills no batch
    again = digests(batches.epoch())
    assert again != seen and not held & set(again)


def test_captions_are_tokens_of_their_own_pictures(prepared: Prepared) -> None:
    spec: Any = prepared.spec
    numbers = {pixels_of(number): number for number in range(200)}
    languages = set()
    for batch in batches_of(prepared).epoch():
        for one, tokens in zip(batch["features"], batch["tokens"], strict=True):
            number = numbers[digest(one.numpy().tobytes())]
            texts = {
                ending: text.decode().splitlines()
                for ending, text in parts(number).items()
                if "txt" in ending
            }
            known = {
                text: ending
                for ending, lines in texts.items()
                for text in lines
                if np.array_equal(spec.encode_captions([text])[0], tokens[tokens >= 0].numpy())
            }
            assert known
            languages |= set(known.values())
        assert len(set(batch["ids"].tolist())) == len(batch["ids"])
    assert languages == {"txt", "ko.txt"}


@pytest.mark.parametrize("stop", [1, 5, 15])
def test_a_place_is_gone_on_from(prepared: Prepared, stop: int) -> None:
    whole, cut, other = (batches_of(prepared) for _ in range(3))
    wanted = digests(whole.epoch()) + digests(whole.epoch())
    course, found = cut.epoch(), []
    for _ in range(stop):
        found += digests([next(course)])
    course.close()
    other.load({name: value.clone() for name, value in cut.state().items()})
    found += digests(other.epoch(stop)) + digests(other.epoch())
    assert found == wanted
    state = cut.state()
    cut.first(), cut.largest()
    assert torch.equal(cut.state()["place"], state["place"])


def test_an_interrupted_training_ends_as_one_that_was_not(prepared: Prepared, tmp_path: Path) -> None:
    given: dict[str, Any] = {"prepared": prepared, **LOOP}
    whole = fit("clip", "", out="whole", **given)
    with pytest.raises(SadariInterrupted):
        fit("clip", "", out="cut", watchers=[StopAt(5)], **given)
    again = fit("clip", "", out="cut", **given)
    assert whole.result["weights"] == again.result["weights"]
    assert not [note for note in whole.notes if note.level == "warning" and "shards" in note.english]
    test: Any = prepared.test
    assert len(Run.load("whole").answers(test)) == len(test.features)


def test_what_cannot_be_read_is_passed_over_and_said(tmp_path: Path) -> None:
    prepared = prepare(written(tmp_path / "some", broken=4), memory=MEMORY)
    file = tmp_path / "some" / "003.tar"
    whole = file.read_bytes()
    file.write_bytes(whole[:20_480] + b"?" * 1024 + whole[21_504:])  # of two blocks, one is a header
    run = fit("bag-of-words", "", prepared=prepared, out="run", **{**LOOP, "budget": "60steps"})
    said = " ".join(note.english for note in run.notes)
    assert "pictures of the shards cannot be read and were passed over: " in said
    assert "1 shards break off and were left there: 003.tar is broken at byte" in said
    again = fit("bag-of-words", "", prepared=prepared, out="again", **{**LOOP, "budget": "60steps"})
    rows = [
        note.about["rows"] for each in (run, again) for note in each.notes if "passed over" in note.english
    ]
    assert len(rows) == 2 and rows[1] < 1.5 * rows[0]  # not the sum of both


def test_too_many_broken_pictures_end_it(tmp_path: Path) -> None:
    prepared = prepare(written(tmp_path / "bad", count=500, broken=100), memory=MEMORY)
    with pytest.raises(SadariError, match=r"pictures of the shards cannot be read, and more than 5% are too"):
        for _ in range(3):
            digests(batches_of(prepared).epoch())


def test_other_shards_are_no_place_to_go_on_and_one_pair_is_no_batch(
    prepared: Prepared, tmp_path: Path
) -> None:
    others = batches_of(prepare(written(tmp_path / "others", shards=4), memory=MEMORY))
    with pytest.raises(SadariError, match="stopped in other shards than these; give those, or another --out"):
        others.load(batches_of(prepared).state())
    (whole,) = batches_of(prepared, size=1000).epoch()
    assert 150 < len(whole["tokens"]) < 200
    few = batches_of(prepared)
    few.stream = replace(few.stream, held=frozenset(digest(picture(number)) for number in range(199)))
    with pytest.raises(SadariError, match="hold no two pairs beside those of validation and test; give more"):
        next(few.epoch())


def test_a_climb_goes_over_shards_and_its_runs_find_their_data_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(prepare.__kwdefaults__, "memory", MEMORY)
    source = written(tmp_path / "shards")
    climbed = climb(source, rungs=("bag-of-words", "clip"), budget="12steps", out="climb")
    assert [rung["name"] for rung in climbed.rungs] == ["bag-of-words", "clip"]
    assert climbed.content["sizes"] is None and climbed.report.is_file()
    run = Run.load(climbed.path / "clip")
    data = run.data()
    assert isinstance(data.train, StreamedArrays)
    assert data.split.fingerprint == run.config["data"]["split"]["fingerprint"]
    assert run.look("similarity").arrays
    again = climb(source, rungs=("bag-of-words", "clip"), budget="12steps", out="climb")
    assert again.content["verdict"] == climbed.content["verdict"]

"""What every rung that reads tokens or a series promises: one suite over the ladders' own table."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from sadari.fitting import fit, tensors
from sadari.ladder import LADDERS, Ladder, Rung
from sadari.losses import make_loss
from sadari.models.n_gram import NGram
from sadari.runs import Run
from sadari.tasks import LanguageTask, build, macs_of, make_task

V, O, B, T = 11, 3, 6, 7  # noqa: E741
PAIRS = [
    (ladder, rung)
    for ladder in LADDERS
    if ladder.kind in ("text", "series") and ladder.task in ("classify", "regress", "language")
    for rung in ladder.here
]
NEW = [pair for pair in PAIRS if pair[0].kind == "text" or pair[1].name in ("rnn", "lstm")]
TEXTS = [pair for pair in NEW if pair[0].kind == "text" and pair[0].task == "classify"]
LANGUAGES = [pair for pair in NEW if pair[0].task == "language"]
NEURAL = [pair for pair in NEW if pair[1].name not in ("prior", "n-gram")]
PRETRAINED = ("probe", "fine-tune")
FROM_DATA = [pair for pair in NEW if pair[1].name not in PRETRAINED]


def each(pairs: list[tuple[Ladder, Rung]]) -> Any:
    names = [f"{ladder.kind}-{ladder.task}-{rung.name}" for ladder, rung in pairs]
    return pytest.mark.parametrize(("ladder", "rung"), pairs, ids=names)


def inputs_of(ladder: Ladder) -> int:
    return T if ladder.kind == "series" else V


def loss_of(ladder: Ladder) -> Any:
    if ladder.task == "regress":
        return make_loss("squared")
    return make_loss("cross-entropy", classes=V if ladder.task == "language" else O)


def tiny(ladder: Ladder, rung: Rung) -> Any:
    settings = asdict(rung.load().TINY)
    return build(rung.name, ladder.task, settings, inputs_of(ladder), loss_of(ladder), 0, ladder.kind)


def task_of(ladder: Ladder) -> Any:
    return make_task(ladder.kind, ladder.task, loss_of(ladder))


def batch_of(ladder: Ladder) -> dict[str, torch.Tensor]:
    """A batch of texts of uneven length, one of them empty; of a series; or of stretches of a stream."""
    random = torch.Generator().manual_seed(1)
    if ladder.task == "language":
        stream = torch.randint(V, (B, T + 1), generator=random)
        return {"tokens": stream[:, :-1], "targets": stream[:, 1:]}
    targets = torch.randn(B, generator=random) if ladder.task == "regress" else torch.arange(B) % O
    if ladder.kind == "series":
        return {"features": torch.randn(B, T, generator=random), "targets": targets}
    tokens = torch.randint(V, (B, T), generator=random)
    lengths = torch.tensor([T, 3, 5, 0, 1, 6])
    tokens[torch.arange(T) >= lengths.unsqueeze(1)] = -1
    return {"features": tokens, "targets": targets}


def read(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return batch.get("tokens", batch.get("features"))  # type: ignore[return-value]


@each([pair for pair in NEW if pair[1].name != "n-gram"])
def test_builds_with_the_promised_parameters(ladder: Ladder, rung: Rung) -> None:
    model_class, model = rung.load(), tiny(ladder, rung)
    counted = sum(parameter.numel() for parameter in model.parameters())
    outputs = loss_of(ladder).outputs
    assert counted == model_class.parameter_count(model_class.TINY, inputs_of(ladder), outputs)
    assert macs_of(model_class, model_class.TINY, inputs_of(ladder), outputs, T) >= 0


@each(NEW)
def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator_alone(
    ladder: Ladder, rung: Rung
) -> None:
    before = torch.random.get_rng_state()
    first, second = tiny(ladder, rung).state_dict(), tiny(ladder, rung).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(before, torch.random.get_rng_state())


@each(NEURAL)
def test_every_parameter_that_learns_gets_a_gradient(ladder: Ladder, rung: Rung) -> None:
    model = tiny(ladder, rung)
    if rung.name == "one-hot":
        torch.nn.init.normal_(model.linear.weight)
    task_of(ladder).backward(model, batch_of(ladder))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            unread = "position" in name or "key.bias" in name  # a shift of all keys changes no attention
            assert unread or parameter.grad.abs().sum() > 0, name


@each(NEW)
def test_recording_changes_nothing_and_names_the_output(ladder: Ladder, rung: Rung) -> None:
    model, seen = tiny(ladder, rung).eval(), {}

    def record(name: str, value: torch.Tensor) -> torch.Tensor:
        seen[name] = value
        return value

    features = read(batch_of(ladder))
    output = model(features, rec=record)
    torch.testing.assert_close(output, model(features), rtol=1e-5, atol=1e-6)
    assert torch.equal(seen["output"], output)


@each(TEXTS)
def test_padding_never_changes_an_answer(ladder: Ladder, rung: Rung) -> None:
    """A batch of uneven texts, each alone without padding, and the batch with more padding: the same."""
    model, tokens = tiny(ladder, rung).eval(), batch_of(ladder)["features"]
    together = model(tokens)
    assert together.isfinite().all(), "the empty text has no finite answer"
    alone = torch.cat([model(row[: max(int((row >= 0).sum()), 1)].unsqueeze(0)) for row in tokens])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    wider = torch.nn.functional.pad(tokens, (0, 4), value=-1)
    torch.testing.assert_close(model(wider), together, rtol=0, atol=1e-5)


@each(TEXTS)
def test_tokens_may_be_of_either_width(ladder: Ladder, rung: Rung) -> None:
    model, tokens = tiny(ladder, rung).eval(), batch_of(ladder)["features"]
    assert torch.equal(model(tokens.int()), model(tokens.long()))


@each(NEURAL)
def test_learns_a_batch_by_heart(ladder: Ladder, rung: Rung) -> None:
    model, task, batch = tiny(ladder, rung), task_of(ladder), batch_of(ladder)
    if rung.name in PRETRAINED:
        pytest.skip("a random encoder of two tiny layers tells little apart")
    before = task.backward(model, batch)["loss"].item()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.03)
    for _ in range(150):
        loss = task.backward(model, batch)["loss"].item()
        optimizer.step()
    assert loss < 0.35 * before


@each(NEURAL)
def test_configs_say_what_each_setting_is(ladder: Ladder, rung: Rung) -> None:
    model_class = rung.load()
    config = model_class.TINY if rung.name in PRETRAINED else model_class.Config()  # which want their weights
    assert type(config).__dataclass_params__.frozen
    for field in fields(config):
        assert replace(config, **{field.name: getattr(config, field.name)}) == config


# Language models.


@each(LANGUAGES)
def test_reading_in_steps_is_reading_at_once(ladder: Ladder, rung: Rung) -> None:
    """One token at a time, three and then the rest, and all at once give the same next logits."""
    model = solved(tiny(ladder, rung))
    tokens = batch_of(ladder)["tokens"][:2]
    with torch.no_grad():
        whole = model(tokens).log_softmax(-1)  # (B, T, V)
        state = model.start(2)
        for t in range(T):
            logits, state = model.step(tokens[:, t : t + 1], state)
            torch.testing.assert_close(logits.log_softmax(-1), whole[:, t], rtol=0, atol=1e-4)
        logits, state = model.step(tokens[:, :3], model.start(2))
        logits, state = model.step(tokens[:, 3:], state)
        torch.testing.assert_close(logits.log_softmax(-1), whole[:, -1], rtol=0, atol=1e-4)


@each(LANGUAGES)
def test_reordered_rows_go_on_as_their_own(ladder: Ladder, rung: Rung) -> None:
    model = solved(tiny(ladder, rung))
    tokens = batch_of(ladder)["tokens"][:3]
    rows = torch.tensor([2, 0, 0])
    with torch.no_grad():
        _, state = model.step(tokens[:, :4], model.start(3))
        moved, _ = model.step(tokens[rows, 4:5], model.reorder(state, rows))
        _, state = model.step(tokens[:, :4], model.start(3))
        kept, _ = model.step(tokens[:, 4:5], state)
    torch.testing.assert_close(moved, kept[rows], rtol=0, atol=1e-5)


@each(LANGUAGES)
def test_the_surprise_at_a_stream_is_what_its_logits_say(ladder: Ladder, rung: Rung) -> None:
    """Blocks, lanes and windows are ways to be quick: a short stream read at once gives the same nats."""
    model, task = solved(tiny(ladder, rung)), LanguageTask(loss_of(ladder))
    stream = torch.randint(V, (20,), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logs = model(stream.unsqueeze(0)).log_softmax(-1)[0]  # (N, V)
    expected = -logs[:-1].gather(1, stream[1:, None]).squeeze(1).double()
    nats = task.nats(model, stream)
    assert nats.shape == (20,) and nats.dtype == torch.float64
    torch.testing.assert_close(nats[1:], expected, rtol=0, atol=1e-4)


def solved(model: Any) -> Any:
    if isinstance(model, NGram):
        model.solve_stream(torch.randint(V, (300,), generator=torch.Generator().manual_seed(3)).numpy())
    return model.eval()


# Whole fits.


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random BERT in the hub's layout, with a tokenizer of its own."""
    from tests.models.hub import tiny_encoder

    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    ("language", "transformer"): {"layers": 2, "width": 32, "heads": 2, "context": 32},
    ("language", "rnn"): {"width": 48},
    ("language", "lstm"): {"width": 48},
}
DATA = {("text", "classify"): "toy-topics", ("text", "language"): "toy-grammar"}
BUDGET = {"language": "60steps", "classify": "60steps", "regress": "60steps"}


def fitted(ladder: Ladder, rung: Rung, out: Path, encoder: Path) -> Run:
    settings = SETTINGS.get((ladder.task, rung.name), {})
    if rung.name in PRETRAINED:
        settings = {"weights": str(encoder)}
    data = DATA.get((ladder.kind, ladder.task), "toy-wave" if ladder.task == "regress" else "iris")
    kind = "series" if ladder.kind == "series" else None
    budget = BUDGET[ladder.task]
    return fit(rung.name, data, out=out, budget=budget, model=settings, kind=kind, task=ladder.task)


@pytest.mark.parametrize(
    ("ladder", "rung"),
    [pytest.param(*pair, marks=pytest.mark.proof(pair[1].name, "trains")) for pair in NEW],
    ids=[f"{ladder.kind}-{ladder.task}-{rung.name}" for ladder, rung in NEW],
)
def test_fits_and_answers_from_its_folder_alone(
    ladder: Ladder, rung: Rung, tmp_path: Path, encoder: Path
) -> None:
    """Train, save, open elsewhere: the same answers bit for bit, from raw input; better than the ground."""
    run = fitted(ladder, rung, tmp_path / "run", encoder)
    prepared = run.data()
    names = {path.name for path in run.path.iterdir()}
    assert {"config.json", "spec.json", "weights.safetensors", "result.json"} <= names
    assert ("tokenizer.json" in names) == (ladder.kind == "text") and "checkpoint" not in names
    config = json.loads((run.path / "config.json").read_text())
    assert (config["rung"], config["task"], config["kind"]) == (rung.name, ladder.task, ladder.kind)
    again = Run.load(run.path.rename(tmp_path / "옮긴 곳"))
    assert np.array_equal(run.answers(prepared.test), again.answers(prepared.test))
    if ladder.task == "language":
        written = again.write(["the "], max_tokens=5, temperature=0.0)
        assert written == again.write(["the "], max_tokens=5, temperature=0.0)
        nats = again.answers(prepared.test)[:, 0].sum() / again.answers(prepared.test)[:, 1].sum()
        assert nats < 0.9 * np.log(run.spec.width)
        return
    rows = prepared.table.frame.collect()[prepared.split.test]
    assert again.predict(rows).height == len(prepared.split.test)
    if rung.name in PRETRAINED or rung.name == "prior":
        return
    source, lowest = prepared.table.source, ladder.rungs[0].name
    ground = fit(lowest, source, out=tmp_path / "ground", kind=ladder.kind, task=ladder.task)
    test = tensors(prepared.test)
    losses = [one.task.evaluate(one.model, test).item() for one in (ground, again)]
    assert losses[1] < 0.9 * losses[0], "it learnt nothing that the ground does not know"


@each(FROM_DATA)
def test_fitting_twice_gives_the_same_weights(ladder: Ladder, rung: Rung, tmp_path: Path) -> None:
    runs = [fitted(ladder, rung, tmp_path / name, tmp_path) for name in ("a", "b")]
    for first, second in zip(*(run.model.state_dict().values() for run in runs), strict=True):
        assert torch.equal(first, second)


@each(TEXTS)
def test_a_text_is_answered_the_same_whatever_stands_beside_it(
    ladder: Ladder, rung: Rung, tmp_path: Path, encoder: Path
) -> None:
    run = fitted(ladder, rung, tmp_path / "run", encoder)
    texts = ["", "한", "a", "the match 경기 " * 40, "\n", "👩‍👩‍👧 가족"]
    frame = pl.DataFrame({run.spec.text: texts})
    together = run.predictions(run.spec.encode(frame))
    alone = np.concatenate([run.predictions(run.spec.encode(frame[i])) for i in range(len(texts))])
    np.testing.assert_allclose(together, alone, atol=1e-5)

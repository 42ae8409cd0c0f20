"""The curves where a team already looks: TensorBoard, Weights & Biases, MLflow or trackio, if installed.

Each is a watcher of the loop that passes on the records of the log. `log.jsonl` is written with or without
one.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sadari.errors import SadariError

PROJECT = "sadari"


def tracker(name: str, folder: Path, settings: Mapping[str, Any] | None = None) -> Tracker:
    """The tracker `name` for the run in `folder`, whose name it shows with `settings` beside the curves.

    Raises SadariError when the name is unknown or its package is not installed.
    """
    if name not in TRACKERS:
        raise SadariError(f"--tracker {name!r} is unknown; choose one of: {', '.join(TRACKERS)}")
    kind = TRACKERS[name]
    try:
        module = importlib.import_module(kind.module)
    except ImportError as error:
        raise SadariError(
            f"--tracker {name} needs a package that is not installed; run: pip install {kind.package}"
        ) from error
    return kind(module, folder, settings or {})


class Tracker:
    """Passes records on as flat numbers: `loss`, `loss/0` for a stack's members, `gradients/hidden.0`."""

    module = package = ""

    def __init__(self, module: Any, folder: Path, settings: Mapping[str, Any]) -> None:
        self.api, self.folder, self.settings = module, folder, dict(settings)
        self.run: Any = None

    def start(self, facts: Mapping[str, Any]) -> None:
        """Open the tracker's run; `facts["step"]` steps are done already."""
        raise NotImplementedError

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Pass on the numbers of one step."""
        raise NotImplementedError

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Take in a record of the log."""
        values = {name: value for name, value in record.items() if name not in ("step", "seconds")}
        self.log(dict(flat(values)), record["step"])

    def close(self) -> None:
        """Finish the tracker's run, if one was opened."""
        if self.run is not None:
            self.finish()
            self.run = None

    def finish(self) -> None:
        """End the open run."""
        self.run.finish()


class TensorBoard(Tracker):
    """Event files in the run's own folder: `tensorboard --logdir runs`."""

    module, package = "torch.utils.tensorboard", "'sadari[trackers]'"

    def start(self, facts: Mapping[str, Any]) -> None:
        # lines after the state that is taken up were not meant to be: purge_step hides them
        self.run = self.api.SummaryWriter(str(self.folder / "tensorboard"), purge_step=facts["step"] + 1)
        self.run.add_text(
            "settings", "\n".join(f"    {key}: {value}" for key, value in self.settings.items())
        )

    def log(self, numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            self.run.add_scalar(name, value, step)

    def finish(self) -> None:
        self.run.close()


class WandB(Tracker):
    """Weights & Biases; WANDB_MODE=offline keeps it on this machine."""

    module = package = "wandb"

    def start(self, facts: Mapping[str, Any]) -> None:
        self.run = self.api.init(
            project=PROJECT, name=self.folder.name, config=self.settings, dir=str(self.folder)
        )

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.run.log(numbers, step=step)


class Trackio(Tracker):
    """trackio, which keeps its curves in a local database."""

    module = package = "trackio"

    def start(self, facts: Mapping[str, Any]) -> None:
        self.run = self.api.init(project=PROJECT, name=self.folder.name, config=self.settings)

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.api.log(numbers, step=step)

    def finish(self) -> None:
        self.api.finish()


class MLflow(Tracker):
    """MLflow, at MLFLOW_TRACKING_URI or in a local folder."""

    module = package = "mlflow"

    def start(self, facts: Mapping[str, Any]) -> None:
        self.api.set_experiment(PROJECT)
        self.run = self.api.start_run(run_name=self.folder.name)
        self.api.log_params({key: str(value)[:500] for key, value in self.settings.items()})

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.api.log_metrics(numbers, step=step)

    def finish(self) -> None:
        self.api.end_run()


TRACKERS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "trackio": Trackio,
    "mlflow": MLflow,
}


def flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The finite numbers of a record by path: {"loss": [1, 2]} gives loss/0 and loss/1."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            yield from flat({str(i): item for i, item in enumerate(value)}, f"{prefix}{name}/")
        elif value is not None and math.isfinite(value):
            yield f"{prefix}{name}", float(value)

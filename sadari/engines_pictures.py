"""OpenVINO in the place of our own products: pictures answered by an engine that does nothing else.

Reading, resizing, streaming and writing stay ours; the engine is given squares of pixels, and gives the
network's outputs, of which the run's loss makes predictions in single precision, as it does for our own:

    pixels (N, H, W, C) uint8 -- network, as ONNX, in memory --> outputs (N, O) -- loss --> predictions

A network is compiled for one number of pictures at a time: a fixed one is up to 1.18 times as fast as any
(AlexNet in bf16), and what is left over of N is filled up. The engine of a run that was used last is kept as
long as its model, so that photos which come one by one do not wait for it again.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, get_args
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from sadari.data.spec_images import ImageSpec
from sadari.errors import SadariError
from sadari.layers.rounded import can_round
from sadari.models.nearest import Nearest

if TYPE_CHECKING:
    from sadari.runs import Run

Engine = Literal["sadari", "openvino"]
Precision = Literal["fp32", "bf16"]
Answer = Callable[[np.ndarray], np.ndarray]
"""What `run.predictions` does: pixels uint8 (N, H, W, C) to probabilities (N, classes)."""
PIXELS = 16 * 224 * 224  # of the pictures in one call: more wins 4 % at most, and takes as much more memory
HINTS = {"fp32": "f32", "bf16": "bf16"}
"""What it calls our precisions."""


class OpenVINO:
    """The answers of a run of pictures by OpenVINO, on the processor; several threads may ask at once.

    precision  of the network's numbers: fp32, or bf16, which may move an answer that hangs in the balance
    together   pictures in a call, fewer where they are large (`PIXELS`)
    jobs       calls in work at once: each on one thread, or a single one on all of torch's threads

    Raises SadariError when a package is missing, the processor has no such numbers, or the run's network has
    no form that the engine reads.
    """

    def __init__(self, run: Run, precision: Precision = "fp32", together: int = 1, jobs: int = 1) -> None:
        check_engine(run, "openvino", precision)
        if isinstance(run.model, Nearest):
            raise SadariError(
                f"--engine openvino has no double precision, in which {run.rung} compares pictures; use "
                "--engine sadari"
            )
        core = package().Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise SadariError(
                "--precision bf16: openvino has no such products on this processor; leave it out"
            )
        spec: ImageSpec = run.spec
        self.loss = run.loss
        self.shape = (max(min(together, PIXELS // spec.size**2), 1), spec.size, spec.size, spec.channels)
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "NUM_STREAMS": jobs,
            "INFERENCE_NUM_THREADS": jobs if jobs > 1 else torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # decoding goes on beside it, and other programs
        }
        try:
            network = core.read_model(_written(run))
            network.reshape(list(self.shape))
            with own_signal_stack():
                compiled = core.compile_model(network, "CPU", settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise SadariError(
                f"--engine openvino cannot answer with {run.rung} ({reason}); use --engine sadari"
            ) from error
        self.outputs: int = compiled.output(0).shape[-1]
        self.idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(jobs):
            self.idle.put(compiled.create_infer_request())

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """The network's outputs (N, O) for pixels uint8 (N, H, W, C)."""
        found = np.empty((len(pixels), self.outputs), np.float32)
        request = self.idle.get()
        try:
            for start in range(0, len(pixels), self.shape[0]):
                rows = slice(start, start + self.shape[0])
                result = request.infer({0: self._filled(pixels[rows])}, share_inputs=True, share_outputs=True)
                found[rows] = result[0][: len(pixels) - start]
        finally:
            self.idle.put(request)
        return found

    def answer(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities (N, classes) for pixels uint8 (N, H, W, C), as `run.predictions` gives them."""
        return self.loss.predict(torch.from_numpy(self.logits(pixels))).numpy()

    def _filled(self, pixels: np.ndarray) -> np.ndarray:
        """As many pictures as the network was compiled for."""
        if len(pixels) == self.shape[0]:
            return np.ascontiguousarray(pixels)
        full = np.zeros(self.shape, np.uint8)
        full[: len(pixels)] = pixels
        return full


def package() -> Any:
    """The package openvino, imported without its telemetry.

    Imported as it is, it writes a number for this user into the home folder and tells its makers so by the
    network. Where its package for that is missing it does neither, and here that is made to look missing.
    Raises SadariError when it, or the package onnx, is not installed.
    """
    modules: dict[str, Any] = sys.modules
    known = {name: modules[name] for name in ("openvino_telemetry",) if name in modules}
    try:
        import onnx  # noqa: F401

        if "openvino" not in modules:
            modules["openvino_telemetry"] = None
        return importlib.import_module("openvino")
    except ImportError as error:
        raise SadariError(
            "--engine openvino needs the packages openvino and onnx; install them with: "
            "pip install 'sadari[openvino]'"
        ) from error
    finally:
        modules.pop("openvino_telemetry", None)
        modules |= known


class _Stack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack(wanted: _Stack | None = None) -> _Stack:
    """The stack on which this thread hears signals; set to `wanted`, if that is given."""
    found = _Stack()
    set_stack = ctypes.CDLL(None).sigaltstack
    set_stack(None if wanted is None else ctypes.byref(wanted), ctypes.byref(found))
    return found


@contextmanager
def own_signal_stack() -> Iterator[None]:
    """Put back the stack for signals that a compilation takes the place of.

    The processor's plugin sets one of its own for each network, and at that network's end what was there
    before; ended in another order than they were made, two networks leave a stack that is freed, and the next
    Ctrl-C ends in a segmentation fault.
    """
    if sys.platform != "linux":
        yield
        return
    before = signal_stack()
    try:
        yield
    finally:
        signal_stack(before)


def answering(
    run: Run, engine: Engine = "sadari", precision: Precision = "fp32", together: int = 1, jobs: int = 1
) -> Answer:
    """What answers a run's pictures; `together` and `jobs` are as in `OpenVINO`.

    Raises SadariError for an engine or a precision that there is not, or not for this run.
    """
    check_engine(run, engine, precision)
    if engine == "openvino":
        return _kept(run, precision, together, jobs).answer
    if precision == "fp32":
        return run.predictions
    if not can_round(precision):
        raise SadariError(f"--precision {precision}: torch has no such products here; leave it out")

    @torch.inference_mode()
    def rounded(pixels: np.ndarray) -> np.ndarray:
        return run.loss.predict(run.task.outputs(run.model, torch.from_numpy(pixels), precision)).numpy()

    return rounded


def check_engine(run: Run, engine: str, precision: str) -> None:
    """Raise SadariError for an engine or a precision that there is not, or not for such a run."""
    for flag, given, known in (("engine", engine, Engine), ("precision", precision, Precision)):
        names = get_args(known)
        if given not in names:
            raise SadariError(f"--{flag} {given} is not known; use {' or '.join(names)}")
        if given != names[0] and run.kind != "images":
            raise SadariError(
                f"--{flag} {given} is for runs of pictures, and this one is of {run.kind}; leave it out"
            )


class _Asis:
    """In a loss's place, where the network's own outputs are wanted."""

    def predict(self, output: Tensor) -> Tensor:
        return output


_KEPT: WeakKeyDictionary[nn.Module, tuple[Any, OpenVINO]] = WeakKeyDictionary()


def _kept(run: Run, precision: Precision, together: int, jobs: int) -> OpenVINO:
    """The engine that answered for this model last, where it is such a one; else one made now."""
    weights = [(tensor.data_ptr(), tensor._version) for tensor in run.model.state_dict().values()]
    what = (precision, together, jobs, torch.get_num_threads(), weights)
    known = _KEPT.pop(run.model, None)  # gone before another is made: two would not find room together
    if known is None or known[0] != what:
        known = what, OpenVINO(run, precision, together, jobs)
    _KEPT[run.model] = known
    return known[1]


def _written(run: Run) -> bytes:
    """The network from pixels to outputs, as ONNX. Raises SadariError where it has no such form."""
    from sadari.export import MOST, network, pictures
    from sadari.export.graph import Graph

    graph, spec, plain = Graph(), run.spec, _Asis()
    asis: Any = plain
    outputs = network.convert(graph, run.model, asis, pictures.pixels(graph, spec), spec.width)
    graph.output("outputs", outputs, "float", ["N", run.loss.outputs])
    if sum(constant.ByteSize() for constant in graph.constants) > MOST:
        raise SadariError(f"{run.rung} is too large for --engine openvino (2 GB); use --engine sadari")
    return graph.model(f"sadari {run.rung}", "").SerializeToString()

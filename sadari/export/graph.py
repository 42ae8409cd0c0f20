"""An ONNX graph under construction: nodes are added in order, each gives the name of its value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

# Opset 18 of February 2023 and the file format of that time: runtimes of the last years read both.
_OPSETS = (("", 18), ("ai.onnx.ml", 3))
_FORMAT = 8
_TYPES = {
    "double": TensorProto.DOUBLE,
    "float": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "string": TensorProto.STRING,
    "uint8": TensorProto.UINT8,
}


class Graph:
    """Collects nodes, constants and inputs. Values of our own are called `/op.number`, which no column is."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._weights: dict[int, tuple[Tensor, str]] = {}  # by identity, so that a shared one is kept once

    def input(self, name: str, kind: str, shape: Sequence[str | int] = ("N", 1)) -> str:
        """A raw column, of shape [N, 1], or what else goes in."""
        self.inputs.append(helper.make_tensor_value_info(name, _TYPES[kind], shape))
        return name

    def output(self, name: str, value: str, kind: str, shape: Sequence[str | int]) -> str:
        """Make `value` an output called `name`, or `name_` where a column is called so; returns the name."""
        while name in {column.name for column in self.inputs}:
            name += "_"
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, _TYPES[kind], shape))
        return name

    def constant(self, value: np.ndarray | Sequence[str]) -> str:
        """A tensor that is part of the file; strings become a tensor of strings."""
        name = f"/constant.{len(self.constants)}"
        if isinstance(value, np.ndarray):
            self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        else:
            self.constants.append(numpy_helper.from_array(np.array(value, object), name))
        return name

    def weight(self, value: Tensor) -> str:
        """A parameter of the model. Given twice, it is in the file once."""
        if id(value) not in self._weights:
            self._weights[id(value)] = value, self.constant(value.detach().numpy())
        return self._weights[id(value)][1]

    def either(self, value: Any, kind: type = np.float32) -> str:
        """A value of the graph as it is, or a plain number or list of numbers as a constant."""
        return value if isinstance(value, str) else self.constant(np.array(value, kind))

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """One node with one output; returns the output's name."""
        name = f"/{op}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], domain=domain, **attributes))
        return name

    def add_several(self, op: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """One node with several outputs; returns their names. An input that is left out is called ""."""
        names = [f"/{op}.{len(self.nodes)}.{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names

    def cast(self, value: str, kind: str) -> str:
        return self.add("Cast", value, to=_TYPES[kind])

    def model(self, name: str, doc: str) -> onnx.ModelProto:
        """The finished model."""
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.constants, doc_string=doc)
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=_FORMAT, producer_name="sadari")
        made.doc_string = doc
        return made

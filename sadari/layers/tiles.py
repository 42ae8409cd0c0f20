"""Products of few rows with a matrix, as vector instructions that numba's functions hold: a tile at a time.

A weight is read once for all rows, and reading it is what takes the time. The sums stay in registers while
`TALL` outputs' weights stream through, those further on asked for early; then they are folded side by side:

             w_o       w_o+1   ...         a vector of each at a time
    x_0   [ sums ]   [ sums ]              fold:  a a a a   b b b b  ->  a b a b  ->  a b
    x_1   [ sums ]   [ sums ]
    ...

numba keeps what it compiled as long as a function's own file stays as it is, and does not look at this one:
who changes it removes what is kept (`__pycache__/*.nb?`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numba
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils


def _features() -> Mapping[str, bool]:
    """What the processor can do, as far as LLVM knows."""
    try:
        return binding.get_host_cpu_features()
    except RuntimeError:
        return {}


MANY = bool(_features().get("avx512f"))  # 32 registers of 16 numbers, not 16 of 8
WIDTH = 16 if MANY else 8  # numbers in a vector
TALL = 4 if MANY else 2  # outputs in a tile: with 6 rows 4 + 24 registers, or 2 + 12; a power of 2
AHEAD = 16384  # bytes that a matrix is asked for ahead: of 8, 16 and 32 KB the best for rows of 1 to 16 KB
I8, I16, I32, I64, FLOAT = *(ir.IntType(bits) for bits in (8, 16, 32, 64)), ir.FloatType()
# sums in any order, so that they are made in vectors; but what is no number stays none
LOOSE = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: Callable[..., Any], loose: set[str] = LOOSE) -> Any:
    """`function`, compiled at its first call and kept beside its file or in the user's cache."""
    options: dict[str, Any] = {"nogil": True, "fastmath": loose, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no place to write at all: compiled anew in each process
        return numba.njit(**options)(function)


def compiled_for_numbers(function: Callable[..., Any]) -> Any:
    """The same where all are numbers: the largest of many is then found in vectors too."""
    return compiled(function, LOOSE | {"nnan"})


class Tile:
    """Builds the instructions of an intrinsic function: of its arguments, and of vectors."""

    def __init__(self, context: Any, builder: Any, signature: Any, values: Any) -> None:
        self.context, self.builder, self.signature, self.values = context, builder, signature, values

    def array(self, place: int) -> Any:
        make = self.context.make_array(self.signature.args[place])
        return make(self.context, self.builder, self.values[place])

    def number(self, place: int) -> Any:
        return self.context.cast(self.builder, self.values[place], self.signature.args[place], types.intp)

    def length(self, array: Any, dimension: int) -> Any:
        return cgutils.unpack_tuple(self.builder, array.shape)[dimension]

    def rows(self, matrix: Any, first: Any, count: int) -> tuple[list[Any], list[Any]]:
        """So many rows from `first`: their numbers, the last for those behind it, and where they are."""
        last = self.builder.sub(self.length(matrix, 0), I64(1))
        stride = cgutils.unpack_tuple(self.builder, matrix.strides)[0]
        base = self.builder.bitcast(matrix.data, I8.as_pointer())
        numbers, places = [], []
        for k in range(count):
            number = self.builder.add(first, I64(k))
            number = self.builder.select(self.builder.icmp_signed("<", number, last), number, last)
            at = self.builder.gep(base, [self.builder.mul(number, stride)])
            numbers.append(number)
            places.append(self.builder.bitcast(at, matrix.data.type))
        return numbers, places

    def over(self, length: Any, step: int) -> Any:
        """A loop over the whole vectors in so many numbers: `with ... as (j, _)`."""
        return cgutils.for_range_slice(self.builder, I64(0), self.builder.and_(length, I64(-step)), I64(step))

    def load(self, row: Any, j: Any, kind: Any) -> Any:
        """A vector of this kind from number j of a row, wherever that lies."""
        at = self.builder.bitcast(self.builder.gep(row, [j]), kind.as_pointer())
        return self.builder.load(at, align={I8: 1, I16: 2}.get(kind.element, 4))

    def store(self, vector: Any, row: Any, places: Sequence[Any]) -> None:
        """A vector's numbers into these places of a row."""
        for k, place in enumerate(places):
            self.builder.store(self.builder.extract_element(vector, I32(k)), self.builder.gep(row, [place]))

    def ask(self, row: Any, j: Any, ahead: int) -> None:
        """Have what lies so many numbers behind j brought near; nothing waits for it."""
        at = self.builder.gep(row, [self.builder.add(j, I64(ahead))])
        of = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
        prefetch = cgutils.get_or_insert_function(self.builder.module, of, "llvm.prefetch.p0")
        self.builder.call(prefetch, [self.builder.bitcast(at, I8.as_pointer()), I32(0), I32(3), I32(1)])

    def sums(self, kind: Any, count: int) -> list[Any]:
        """So many vectors of zeros, which become registers."""
        zero = ir.Constant(kind, [0] * kind.count)
        places = [cgutils.alloca_once_value(self.builder, zero) for _ in range(count)]
        for place in places:
            self.builder.store(zero, place)
        return places

    def multiply_add(self, a: Any, b: Any, place: Any) -> None:
        """Add a b to the sums in a place."""
        kind = a.type
        of, name = ir.FunctionType(kind, [kind] * 3), f"llvm.fmuladd.v{kind.count}f32"
        function = cgutils.get_or_insert_function(self.builder.module, of, name)
        self.builder.store(self.builder.call(function, [a, b, self.builder.load(place)]), place)

    def folded(self, places: Sequence[Any]) -> Any:
        """The sums of `TALL` vectors side by side in one: pairs are merged by turns, then halves added."""
        vectors = [self.builder.load(place) for place in places]
        wide, step = vectors[0].type.count, 1
        while len(vectors) > 1:  # runs of `step` numbers of the one and of the other
            starts = range(0, wide, 2 * step)
            runs = [[i + k + off for i in starts for off in (0, wide) for k in range(step)] for _ in (0, 1)]
            runs[1] = [place + step for place in runs[0]]
            vectors = [
                self.plus(*(self.picked(a, b, run) for run in runs))
                for a, b in zip(vectors[::2], vectors[1::2], strict=True)
            ]
            step *= 2
        total = vectors[0]
        while wide > len(places):
            wide //= 2
            total = self.plus(*(self.picked(total, total, range(k, k + wide)) for k in (0, wide)))
        return total

    def picked(self, a: Any, b: Any, places: Iterable[int]) -> Any:
        """The numbers in these places of two vectors, one behind the other."""
        order = list(places)
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(order)), order))

    def plus(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b) if a.type.element == FLOAT else self.builder.add(a, b)

"""An array on disk that grows row by row, where the number of rows is not known beforehand."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import DTypeLike, NDArray


class GrowingArray:
    """A .npy file (n, d) written front to back; it can be read once it is closed.

    numpy leaves room in a header for the number of rows to grow, so that it can be written anew
    in place. Of a file that is there already the first `n` rows are kept, and what follows them is
    cut off.
    """

    def __init__(self, path: Path, dim: int, dtype: DTypeLike, n: int = 0) -> None:
        self.path = path
        self.dim = dim
        self.dtype = np.dtype(dtype)
        self.n = n
        if n == 0:
            path.write_bytes(b"")
        self._write_header()
        end = self._end()
        if path.stat().st_size < end:
            raise ValueError(f"{path} is shorter than its {n} rows")
        os.truncate(path, end)

    def append(self, rows: NDArray[np.generic]) -> None:
        """Write rows (r, d) after those that are there, in the array's own type."""
        r, d = rows.shape
        if d != self.dim:
            raise ValueError(f"rows of {d} columns for an array of {self.dim}")
        with self.path.open("ab") as file:  # not held open: a pass may break off anywhere
            file.write(np.ascontiguousarray(rows, dtype=self.dtype).tobytes())
        self.n += r

    def flush(self) -> None:
        """See to it that what was written is on the disk."""
        with self.path.open("ab") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        """Say in the header how many rows came."""
        self._write_header()

    def _end(self) -> int:
        with self.path.open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            return file.tell() + self.n * self.dim * self.dtype.itemsize

    def _write_header(self) -> None:
        described = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": described, "fortran_order": False, "shape": (self.n, self.dim)}
        with self.path.open("r+b") as file:
            np.lib.format.write_array_header_1_0(file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

"""An array on disk that grows row by row, for when nobody knows how many rows will come."""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import DTypeLike, NDArray


class GrowingArray:
    """A .npy file (n, d) written front to back; it can be read once it is closed.

    numpy leaves room in a header for the number of rows to grow, so that it can be written anew
    in place.
    """

    def __init__(self, path: Path, dim: int, dtype: DTypeLike) -> None:
        self.dim = dim
        self.dtype = np.dtype(dtype)
        self.n = 0
        self._file = path.open("w+b")
        self._write_header()

    def append(self, rows: NDArray[np.generic]) -> None:
        """Write rows (r, d) after those that are there, in the array's own type."""
        r, d = rows.shape
        if d != self.dim:
            raise ValueError(f"rows of {d} columns for an array of {self.dim}")
        self._file.write(np.ascontiguousarray(rows, dtype=self.dtype).tobytes())
        self.n += r

    def close(self) -> None:
        """Say in the header how many rows came, and close the file."""
        if not self._file.closed:
            end = self._file.tell()
            self._file.seek(0)
            self._write_header()
            self._file.seek(end)
            self._file.close()

    def _write_header(self) -> None:
        described = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": described, "fortran_order": False, "shape": (self.n, self.dim)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

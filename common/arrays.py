"""Linear algebra on numpy arrays and on torch tensors of any device, by the same code.

On a CPU numpy computes: its x'x takes half the products, and its LAPACK is the faster one there. On
a GPU torch does. What the array API standard has is taken from `namespace`; what it lacks is here.
"""

from typing import TYPE_CHECKING, Any

import array_api_compat
import numpy as np
import scipy  # loads a submodule when it is first used
from numpy.typing import NDArray

if TYPE_CHECKING:  # metrics are constructed with the configuration, before torch is imported
    import torch

# In float64. Where scoring runs on a GPU, a tensor there, which follows the same standard.
Array = NDArray[np.float64]
Index = NDArray[np.int64]  # positions, labels, folds, counts
Vectors = NDArray[np.float32]  # as an encoder computes them
Mask = NDArray[np.bool_]


class NotPositiveDefinite(Exception):  # noqa: N818  # named as numpy's LinAlgError is
    """A matrix has no Cholesky decomposition."""


def namespace(array: Array) -> Any:
    """The array API standard's functions for an array of this kind."""
    return array_api_compat.array_namespace(array)


def is_on_host(array: Any) -> bool:
    """Whether it is a numpy array."""
    return isinstance(array, np.ndarray)


def on_device(array: Array, device: "torch.device") -> Array:
    """A numpy array as a tensor on a device."""
    import torch

    tensor: Any = torch.from_numpy(np.ascontiguousarray(array)).to(device)
    moved: Array = tensor
    return moved


def on_host(array: Array) -> Array:
    """An array of either kind as a numpy array."""
    source: Any = array
    numbers: Array = source if is_on_host(source) else source.cpu().numpy()
    return numbers


def like(numbers: NDArray[Any], array: Array) -> Array:
    """A numpy array as an array of the other's kind, on its device."""
    moved: Array = namespace(array).asarray(numbers, device=array_api_compat.device(array))
    return moved


def cholesky(matrix: Array) -> Array:
    """Lower triangle (d, d). Raises NotPositiveDefinite."""
    xp = namespace(matrix)
    failures: list[type[Exception]] = [np.linalg.LinAlgError]
    if not is_on_host(matrix):
        import torch

        failures.append(torch.linalg.LinAlgError)  # type: ignore[attr-defined]
    try:
        triangle: Array = xp.linalg.cholesky(matrix)
    except tuple(failures) as error:
        raise NotPositiveDefinite from error
    return triangle


def inverse_of_triangle(triangle: Array) -> Array:
    """Inverse (d, d) of a lower triangle (d, d)."""
    if is_on_host(triangle):
        inverse: Array = scipy.linalg.lapack.dtrtri(triangle, lower=1)[0]
        return inverse
    return solve_triangle(triangle, like(np.eye(len(triangle)), triangle))


def solve_triangle(triangle: Array, right: Array) -> Array:
    """X (d, n) of triangle X = right, for a lower triangle (d, d)."""
    if is_on_host(triangle):
        solution: Array = scipy.linalg.solve_triangular(
            triangle, right, lower=True, check_finite=False
        )
        return solution
    import torch

    both: Any = (triangle, right)
    found: Any = torch.linalg.solve_triangular(*both, upper=False)
    solved: Array = found
    return solved


def eigenvectors(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues (d,), increasing, and vectors (d, d) of a symmetric matrix."""
    if is_on_host(matrix):
        values, vectors = scipy.linalg.eigh(matrix, driver="evd", check_finite=False)
    else:
        values, vectors = namespace(matrix).linalg.eigh(matrix)
    return values, vectors

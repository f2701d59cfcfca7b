"""Products of float64 columns by exact products in float32, for cards with few float64 units.

Rows are cut into slices of whole numbers of 8 bits, whose products float32 adds up without
rounding; only these sums are added in float64 (Ozaki, Ogita, Oishi & Rump 2012). Plain float32
sums, of a high and a low half as well, round at 6e-8: whitening then loses small directions.
"""

from dataclasses import dataclass

import torch

BITS = 8
SLICES = 5
# A slice's numbers are at most 2^7 in size, so that sums over this many rows stay within the 2^24
# up to which float32 has every whole number.
ROWS = 1024
# (major, minor) of the compute capabilities whose float64 is half as fast as float32; others have
# 1/32 or 1/64 of it.
FULL_FLOAT64 = ((6, 0), (7, 0), (8, 0), (9, 0), (10, 0))


def has_weak_float64(device: torch.device) -> bool:
    """Whether it is a CUDA GPU that multiplies in float64 at a small part of its float32 rate.

    AMD's cards, which torch calls by the same name, always multiply in float64.
    """
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device) not in FULL_FLOAT64


@dataclass(frozen=True, eq=False)
class Sliced:
    """At most `ROWS` rows (n, d): sum over k of slices[k] 2^-(8 k + 7), times scale (d,).

    What is left out is at most 2^-40 of a column's scale, which is at most twice its largest value.
    """

    slices: tuple[torch.Tensor, ...]
    scale: torch.Tensor


@dataclass(frozen=True, eq=False)
class SlicedRows:
    """Rows (n, d), `ROWS` at a time, and their sum (d,) in float64."""

    parts: tuple[Sliced, ...]
    total: torch.Tensor


def sliced(rows: torch.Tensor) -> SlicedRows:
    """Cut float64 rows (n, d), however many."""
    parts = (rows[start : start + ROWS] for start in range(0, len(rows), ROWS))
    return SlicedRows(tuple(_sliced(part) for part in parts), rows.sum(0))


def _sliced(rows: torch.Tensor) -> Sliced:
    _, exponent = torch.frexp(rows.abs().amax(0))
    scale = torch.ldexp(torch.ones_like(rows[0]), exponent)
    rest, slices = rows / scale * 2 ** (BITS - 1), []
    for _ in range(SLICES):
        whole = rest.round()
        slices.append(whole.float())
        rest = (rest - whole) * 2**BITS
    return Sliced(tuple(slices), scale)


def add_product(total: torch.Tensor, x: SlicedRows, y: SlicedRows) -> None:
    """Add x' y of rows x (n, dx) and y (n, dy) to a float64 total (dx, dy), in place.

    Products of slices that together lie beyond the last one's digits are left out.
    """
    for left, right in zip(x.parts, y.parts, strict=True):
        total.addcmul_(_product(left, right), left.scale[:, None] * right.scale)


def _product(x: Sliced, y: Sliced) -> torch.Tensor:
    """X' y in units of the scales."""
    product = x.scale.new_zeros(len(x.scale), len(y.scale))
    for i, left in enumerate(x.slices):
        for j, right in enumerate(y.slices[: SLICES - i]):
            if x is y and j < i:
                continue  # the transpose of one that has been added
            weight = 2.0 ** -(BITS * (i + j) + 2 * (BITS - 1))
            exact = left.T @ right
            product.add_(exact, alpha=weight)
            if x is y and i < j:
                product.add_(exact.T, alpha=weight)
    return product

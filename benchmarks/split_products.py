"""Float64 products as such beside those made of exact float32 ones, on the GPU or the CPU.

    python benchmarks/split_products.py --columns 768 1024 --device cuda

Prints, for x'y and for x'x of rows (n, d), seconds of either way, how many times faster the split
one is, and how far the two are apart, over the lengths of the columns. Beside it stands how far
plain products in float32 are off.
"""

import argparse
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from analysis.forward.products import ROWS, add_product, has_weak_float64, sliced
from common.encoder.encoder import pick_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", type=int, nargs="+", default=[768, 1024])
    parser.add_argument("--rows", type=int, default=8 * ROWS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = pick_device(options.device)
    on_gpu = device.type == "cuda"
    where = torch.cuda.get_device_name(device) if on_gpu else platform.processor() or "CPU"
    chosen = "split" if has_weak_float64(device) else "float64"
    print(f"{where}, torch {torch.__version__}: a run takes {chosen} products here")
    for d in options.columns:
        generator = torch.Generator().manual_seed(d)
        x, y = (
            torch.randn(options.rows, d, dtype=torch.float64, generator=generator).to(device)
            for _ in range(2)
        )
        for name, left, right in (("x'y", x, y), ("x'x", x, x)):
            compare(f"{name}, {options.rows} rows, {d} columns", left, right, options.repeats)


def compare(name: str, x: torch.Tensor, y: torch.Tensor, repeats: int) -> None:
    """Print a line for one product."""
    plain, exact = timed(lambda: x.T @ y, x.device, repeats)
    ours, split = timed(lambda: split_product(x, y), x.device, repeats)
    rounded = (x.float().T @ y.float()).double()
    sizes = x.norm(dim=0)[:, None] * y.norm(dim=0)
    off, single = (((one - exact).abs() / sizes).max().item() for one in (split, rounded))
    print(
        f"{name}: {plain:.4f} s, split {ours:.4f} s ({plain / ours:.2f} times as fast), apart by "
        f"{off:.0e}; float32 alone {single:.0e}",
        flush=True,
    )


def split_product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """X' y; of one view with itself where both are one."""
    left = sliced(x)
    total = x.new_zeros(x.shape[1], y.shape[1])
    add_product(total, left, left if y is x else sliced(y))
    return total


def timed(
    multiply: Callable[[], torch.Tensor], device: torch.device, repeats: int
) -> tuple[float, torch.Tensor]:
    """Fewest seconds of some repeats, after one that is not counted, and the product."""
    seconds, product = [], multiply()
    for _ in range(repeats):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = perf_counter()
        product = multiply()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(perf_counter() - start)
    return min(seconds), product


if __name__ == "__main__":
    main()

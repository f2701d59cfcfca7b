"""Float64 products made of exact float32 ones, beside those of twice the digits."""

import numpy as np
import pytest
import torch
from gpu import GPU

from analysis.forward import products
from analysis.forward.products import ROWS, add_product, has_weak_float64, sliced

on_every_device = pytest.mark.parametrize("device", [torch.device("cpu"), GPU], ids=str)


def product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    left = sliced(x)
    total = x.new_zeros(x.shape[1], y.shape[1])
    add_product(total, left, left if y is x else sliced(y))
    return total.cpu()


def exact(x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    wide = (view.cpu().numpy().astype(np.longdouble) for view in (x.T, y))
    return np.matmul(*wide)


@on_every_device
@pytest.mark.parametrize("n", [1, 2, 700, ROWS, 2 * ROWS + 5])
def test_products_agree_where_columns_differ_a_trillionfold_and_have_outliers(
    n: int, device: torch.device
) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, 30)), rng.standard_t(2, size=(n, 20))
    x[:, 0] = 0
    x[:, 1:] *= 10.0 ** rng.uniform(-6, 6, 29)
    y[n // 2] *= 100
    x, y = (torch.from_numpy(view).to(device) for view in (x, y))
    for a, b in ((x, y), (x, x), (y, y)):
        found, expected = product(a, b).numpy(), exact(a, b)
        sizes = a.norm(dim=0)[:, None].cpu() * b.norm(dim=0).cpu()
        assert (np.abs(found - expected) <= 2e-10 * sizes.numpy()).all()
    np.testing.assert_allclose(sliced(x).total.cpu(), x.sum(0).cpu(), rtol=1e-15)


@on_every_device
def test_sums_of_the_largest_numbers_are_exact(device: torch.device) -> None:
    # Whole numbers of 8 bits, all of one sign: the sums that come nearest to what float32 holds.
    x = torch.full((ROWS, 3), 127.0, dtype=torch.float64, device=device)
    y = torch.full((ROWS, 2), 255.0, dtype=torch.float64, device=device)
    y[::2] -= 1
    np.testing.assert_array_equal(product(x, y), exact(x, y).astype(np.float64))
    np.testing.assert_array_equal(product(x, x), exact(x, x).astype(np.float64))


def test_the_smallest_direction_that_is_kept_has_its_variance() -> None:
    # Sums in float32 give it 200 times too much, those of products of two halves as well.
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(20, 20)))
    rows = torch.from_numpy((rng.normal(size=(5000, 20)) * np.r_[1e-5, np.ones(19)]) @ basis)
    found, expected = (
        np.linalg.eigvalsh(scatter)[0] for scatter in (product(rows, rows), (rows.T @ rows).numpy())
    )
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(bad: float) -> None:
    rows = torch.ones(4, 2, dtype=torch.float64)
    rows[1, 0] = bad
    found = product(rows, rows)
    assert not found[0].isfinite().any()
    assert found[1, 1] == 4


@pytest.mark.parametrize(
    ("capability", "weak"),
    [((8, 0), False), ((9, 0), False), ((7, 5), True), ((8, 9), True), ((12, 0), True)],
)
def test_cards_with_few_float64_units_are_known_by_their_compute_capability(
    capability: tuple[int, int], weak: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products.torch.cuda, "get_device_capability", lambda _: capability)
    assert has_weak_float64(torch.device("cuda")) is weak
    assert not has_weak_float64(torch.device("cpu"))

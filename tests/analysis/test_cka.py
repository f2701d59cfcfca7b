"""CKA against its definition."""

from collections.abc import Callable

import numpy as np
import pytest
import reference
from numpy.typing import NDArray
from views import METRICS, Array, one_hot_views, scores, shared_views


@pytest.mark.parametrize("views", [shared_views, one_hot_views], ids=["shared", "one-hot"])
def test_cka_agrees_with_its_definition(
    views: Callable[[], tuple[Array, Array, NDArray[np.int64]]],
) -> None:
    x, y, fold = views()
    value = scores(METRICS["cka"], x, y, fold)
    assert value.shape == (1,)  # no trials
    assert value[0] == pytest.approx(reference.cka(x, y), abs=1e-12)

"""Which layers are chosen."""

import pytest
from running import resolved

from common.records import StrataError

NAMES = [*(f"C{i}" for i in range(1, 8)), *(f"T{i}" for i in range(13))]


@pytest.mark.parametrize(
    ("overrides", "chosen"),
    [
        ([], NAMES),
        (["layers=cnn"], NAMES[:7]),
        (["layers=transformer"], NAMES[7:]),
        (["layers=last4"], ["T9", "T10", "T11", "T12"]),
        (["layers=every_other"], ["C1", "C3", "C5", "C7", *(f"T{i}" for i in range(0, 13, 2))]),
        (["layers.index=3"], ["T3"]),
        (["layers=single", "layers.index=0"], ["T0"]),
        (["layers.indices=[T3,C7]"], ["C7", "T3"]),
        (["layers=single", "layers.indices=[C7,T3]"], ["C7", "T3"]),
    ],
)
def test_layers_choose(overrides: list[str], chosen: list[str]) -> None:
    assert resolved("experiment=cache", *overrides).layers.choose(NAMES) == chosen


def test_a_layer_that_the_model_lacks_is_named_with_those_it_has() -> None:
    with pytest.raises(StrataError, match=r"T99.*C1.*T12"):
        resolved("layers.index=99").layers.choose(NAMES)


def test_both_ways_of_choosing_layers_at_once_are_refused() -> None:
    with pytest.raises(StrataError, match=r"layers\.index and layers\.indices"):
        resolved("layers.index=3", "layers.indices=[T3]")

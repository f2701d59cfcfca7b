"""Rows of results with scores that are made up."""

from typing import Any

from common.results.results import Row


def row(**keys: Any) -> Row:
    """A score of T1 by cca_phone, but for `keys`."""
    same: dict[str, Any] = {"model": "small", "dataset": "toy", "partition": "all", "n": 9}
    same |= {"unit": "phone", "target": "phone", "metric": "pwcca", "split": "speaker", "dim": 4}
    same |= {"seed": 0, "revision": "sha256:aaaaaaaaaa", "config_key": "k", "git_commit": "g"}
    same |= {"experiment": "cca_phone", "sample": 0, "trial": 0, "value": 0.5} | placed("T1")
    return Row(**(same | keys))


def placed(layer: str) -> dict[str, Any]:
    """The columns of a row that say which layer it is of."""
    part = "cnn" if layer[0] == "C" else "transformer"
    return {"layer": layer, "layer_index": int(layer[1:]), "part": part}

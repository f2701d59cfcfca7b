"""Marks that many files of tests give."""

from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """Parameters whose test is slow; what it would find, a quicker one of its file mostly finds."""
    return pytest.param(*values, marks=pytest.mark.slow)

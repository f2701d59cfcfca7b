"""A run of several tasks, one after another."""

import pytest
from running import resolved

from common.records import StrataError


def test_a_step_is_a_task() -> None:
    with pytest.raises(StrataError, match=r"steps\.after=sing: choose one of analysis"):
        resolved("experiment=ctc_then_analyse", "steps.after=sing")

"""The configuration of a report."""

import pytest

from common.config.report import ReportConfig
from common.records import StrataError


def test_the_configuration_is_checked() -> None:
    for wrong in (3, ["a", 3], "", [" "]):
        with pytest.raises(StrataError, match=r"report\.runs"):
            ReportConfig(runs=wrong)
    with pytest.raises(StrataError, match=r"report.models=\[\]"):
        ReportConfig(runs="runs", models=[])
    assert ReportConfig(runs="runs/**").patterns == ("runs/**",)

"""Arrivals of a file or a rate, and one clear error for what is no recording."""

from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.policy.planning.arrivals import constant, recorded


def test_a_recording_has_a_mean_a_peak_and_a_longest_gap():
    found = recorded(["at_s,job", "# a comment", "", "10", "10.2,x", "10.4", "20"])

    assert found.instants == pytest.approx([0, 0.2, 0.4, 10])
    assert found.mean_per_s == pytest.approx(0.4)
    assert found.peak_per_s == 3
    assert found.longest_gap_s == pytest.approx(9.6)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["5", "3"], "line 2.*sort the file"),
        (["-1", "3"], "line 1.*0 or more"),
        (["1", "nan"], "line 2.*0 or more"),
        (["1", "inf"], "line 2.*0 or more"),
        (["1", "soon"], "line 2.*use seconds"),
        (["1"], "two times"),
        ([], "two times"),
        (["7", "7", "7"], "not the same"),
    ],
)
def test_what_is_no_recording_is_one_error_with_its_line(lines, says):
    with pytest.raises(ConfigError, match=says):
        recorded(lines)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), 1e10])
def test_a_rate_is_above_zero(rate):
    with pytest.raises(ConfigError, match="more than 0"):
        constant(rate)

"""The table of settings: fields, examples, and the page that lists them."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given, strategies as st

from shifter.config import Settings
from shifter.config.option import duration_text
from shifter.config.settings import OPTIONS, RETENTION_MS
from shifter.model.time import duration_ms
from shifter.policy.delivery.delay import MAX_DELAY_MS


def test_a_record_outlives_the_longest_delay_and_a_week_of_outage():
    assert RETENTION_MS == MAX_DELAY_MS + 7 * 86_400_000


@given(st.integers(0, 366 * 86_400_000))
def test_a_shown_duration_is_read_back_as_the_same(ms):
    assert duration_ms("x", duration_text(ms)) == ms


def test_every_option_has_a_field_and_every_example_is_accepted():
    names = {option.field for option in OPTIONS}
    fields = set(Settings.__dataclass_fields__)

    assert names == fields - {"namespace", "kafka", "origins", "warnings"}
    for option in OPTIONS:
        raw = int(option.example) if option.is_integer else option.example
        option.check(option.name, option.read(option.name, raw))


def test_every_setting_is_documented_with_its_default():
    page = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
    rows = re.findall(r"^\| `(\w+)` \| (\S*) *\|", page.read_text(), re.MULTILINE)
    shown = {name: value for name, value, _ in Settings(namespace="x").shown()}

    assert [name for name, _ in rows] == list(shown)
    for name, default in rows[1:]:
        assert default == ("" if shown[name] is None else str(shown[name]))

"""Histories of lanes as cells of the store, which is not trusted."""

from __future__ import annotations

import pytest

from shifter.fleet.scale_history import (
    HISTORY_CELLS,
    MOST_LANES,
    changed_histories,
    hours_text,
    read_histories,
    read_hours,
)
from shifter.model.fleet import MAX_CELL_BYTES

HOUR_MS = 3_600_000
NOW = 500_000 * HOUR_MS
DAY = dict.fromkeys(range(24), 12_345.678_9)
MAIL = HISTORY_CELLS + "shop.mail.high"


def cell(
    hour: int = 500_000, rates: str = ",".join(["1"] * 24), more: str = ""
) -> bytes:
    return f'{{"hour":{hour},"per_s":[{rates}]{more}}}'.encode()


def proposed(cells, learnt, now_ms=NOW):
    return {p.name: p.value for p in changed_histories(cells, learnt, now_ms)}


def test_a_history_is_read_as_it_was_written():
    hours = {0: 0.0, 9: 1.5, 23: 1e9}

    assert read_hours(hours_text(hours, NOW), NOW) == hours
    assert read_hours(cell(), NOW) == dict.fromkeys(range(24), 1.0)


def test_a_cell_is_small_whatever_the_rates():
    assert len(hours_text(DAY, NOW)) <= 400 < MAX_CELL_BYTES


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{}", b"null", b"[1]", b"\xff", b"[" * 4_000, b"1" * 9_000),
        cell(rates=",".join(["1"] * 23)),
        cell(rates=",".join(["1"] * 25)),
        cell(rates=",".join(["-1", *["1"] * 23])),
        cell(rates=",".join(["1e10", *["1"] * 23])),
        cell(rates=",".join(["1e999", *["1"] * 23])),
        cell(rates=",".join(["NaN", *["1"] * 23])),
        cell(rates=",".join(['"1"', *["1"] * 23])),
        cell(rates=",".join(["true", *["1"] * 23])),
        cell(more=',"x":1'),
        cell(hour=500_002),
        cell(hour=10**15),
        cell(hour=-1),
        cell(hour=500_000 - 14 * 24 - 1),
    ],
)
def test_what_no_scaler_writes_is_passed_over_and_removed(text):
    assert read_hours(text, NOW) is None
    assert read_histories({MAIL: text, "quality": cell()}, NOW) == {}
    assert proposed({MAIL: text, "quality": b"x"}, {}) == {MAIL: b""}


def test_what_was_learnt_replaces_what_cannot_be_read():
    learnt = {"shop.mail.high": {3: 2.0}}

    assert proposed({MAIL: b"garbage"}, learnt) == {MAIL: hours_text({3: 2.0}, NOW)}


def test_hours_of_both_are_kept_and_the_learnt_ones_come_first():
    cells = {MAIL: hours_text({3: 1.0, 4: 1.0}, NOW - HOUR_MS)}
    learnt = {"shop.mail.high": {3: 2.0}}

    assert proposed(cells, learnt) == {MAIL: hours_text({3: 2.0, 4: 1.0}, NOW)}


def test_what_the_store_has_already_is_not_written_again():
    cells = {MAIL: hours_text({3: 2.000_04}, NOW - HOUR_MS)}

    assert proposed(cells, {"shop.mail.high": {3: 2.000_04}}) == {}


def test_only_the_busiest_lanes_are_shared():
    learnt = {f"shop.q{n}.high": {0: float(n)} for n in range(MOST_LANES + 50)}
    other = {HISTORY_CELLS + "other.mail.high": hours_text({0: 1.0}, NOW)}

    found = proposed(other, learnt)

    assert len(found) + len(other) == MOST_LANES
    assert HISTORY_CELLS + f"shop.q{MOST_LANES + 49}.high" in found
    assert HISTORY_CELLS + "shop.q0.high" not in found

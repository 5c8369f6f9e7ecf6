"""The shipped recording: whole, in order, all priorities, with its credit beside it."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files
from itertools import pairwise

from shifter.demo.backend import service_s
from shifter.demo.deployment import SLOTS
from shifter.demo.load import LENGTH_S, Arrival, read_trace
from shifter.model.lane import Priority


def slots_needed(arrivals: list[Arrival], first_s: float, last_s: float) -> float:
    """Slots that are busy on average, if every request started when it arrived."""
    busy_s = sum(
        service_s(arrival.context_tokens, arrival.generated_tokens)
        for arrival in arrivals
        if first_s <= arrival.at_s < last_s
    )
    return busy_s / (last_s - first_s)


def test_the_recording_is_ten_minutes_in_order():
    arrivals = read_trace()

    assert len(arrivals) == 4_994
    assert all(one.at_s <= next_.at_s for one, next_ in pairwise(arrivals))
    assert 0 <= arrivals[0].at_s < 5
    assert LENGTH_S - 5 < arrivals[-1].at_s < LENGTH_S


def test_all_four_priorities_occur_by_the_rule():
    counts = Counter((one.kind, one.priority) for one in read_trace())

    assert counts == {
        ("conversation", Priority.CRITICAL): 306,
        ("conversation", Priority.HIGH): 2_759,
        ("completion", Priority.NORMAL): 385,
        ("completion", Priority.LOW): 1_544,
    }


def test_its_spikes_overload_the_backend_and_the_rest_leaves_room_to_drain():
    arrivals = read_trace()
    by_minute = [
        slots_needed(arrivals, 60.0 * minute, 60.0 * minute + 60)
        for minute in range(10)
    ]

    assert slots_needed(arrivals, 0, LENGTH_S) < 0.8 * SLOTS
    assert max(by_minute) > 1.4 * SLOTS
    assert by_minute[1] > SLOTS
    assert max(by_minute[-2:]) < 0.5 * SLOTS


def test_the_credit_goes_with_the_data():
    credit = files("shifter.demo").joinpath("data", "CREDIT.md").read_text("utf-8")

    for word in ("Azure Public Dataset", "CC BY 4.0", "Splitwise", "Changed:"):
        assert word in credit

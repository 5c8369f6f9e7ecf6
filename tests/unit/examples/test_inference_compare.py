"""The judge: simple rules by hand, and shifter's own code on ten recorded minutes."""

from __future__ import annotations

import asyncio
import json

import pytest

from examples.inference.compare import compare, main, rows
from examples.inference.history import Asked, Decided, Started, check, inversions
from examples.inference.managed import managed
from examples.inference.rivals import fifo, none, shed
from examples.inference.trace import Arrival, read_trace
from examples.inference.virtual import VirtualClock, VirtualLoop

# 0.05 s + 0.001 s x read: these keep a slot for one second.
LONG = [Arrival(0.0, "converse", 950, 0), Arrival(0.25, "complete", 950, 0)]


def waits(served) -> list[float | None]:
    return [None if s.wait_s is None else round(s.wait_s, 6) for s in served]


def test_without_control_all_requests_become_slower():
    """Two share one slot from 0.25 s on: three quarters of the first take 1.5 s."""
    served = none(LONG, slots=1)

    assert [s.arrival.job for s in served] == ["converse", "complete"]
    assert waits(served) == [0.75, 0.75]
    assert sum(
        (end - begin) * share for s in served for begin, end, share in s.busy
    ) == (pytest.approx(2.0))


def test_without_control_no_more_slots_are_busy_than_there_are():
    served = none(read_trace(15), slots=10)
    load: dict[int, float] = {}
    for one in served:
        for begin_s, end_s, share in one.busy:
            minute = int(begin_s // 60)
            load[minute] = load.get(minute, 0.0) + share * (end_s - begin_s) / 60

    assert max(load.values()) == pytest.approx(10.0)
    assert sum(load.values()) * 60 == pytest.approx(
        sum(arrival.service_s for arrival in read_trace(15))
    )


def test_in_one_line_who_came_first_is_first():
    assert waits(fifo(LONG, slots=1)) == [0.0, 0.75]


def test_without_a_line_who_finds_no_slot_is_refused():
    served = shed(LONG, slots=1)

    assert waits(served) == [0.0, None]
    assert served[1].answer == "shed"


@pytest.mark.parametrize("rule", [none, fifo, shed])
def test_with_room_for_all_no_request_waits_under_any_rule(rule):
    assert waits(rule(LONG, slots=2)) == [0.0, 0.0]


def test_rows_have_the_published_shape():
    found = rows("fifo", fifo(LONG, slots=1))

    assert [row["priority"] for row in found] == ["HIGH", "LOW", "ALL"]
    assert list(found[0]) == [
        *("policy", "priority", "offered", "on_time_ratio", "shed_ratio"),
        *("wait_p99_s", "peak_to_trough"),
    ]
    assert (found[2]["offered"], found[2]["on_time_ratio"]) == (2, 1.0)


def test_a_known_order_of_the_published_rule_is_reproduced():
    """One FIFO queue on 20 slots: 47.3 % of HIGH in time, by anybody's arithmetic."""
    high = rows("fifo", fifo(read_trace(), slots=20))[0]

    assert high["on_time_ratio"] == pytest.approx(0.473, abs=0.001)


def test_an_inversion_is_found():
    low, high = Decided(3, 0, "defer", "x"), Decided(3, 2, "shed", "limit_reached")

    assert inversions([low, high]) == inversions([high, low]) == 1
    assert inversions([low._replace(window=4), high]) == 0
    assert inversions([low, high._replace(reason="circuit_open")]) == 0


def test_a_start_that_is_late_or_early_is_found():
    asked = {1: Asked(10.0, 20.0)}

    def violations(at_s: float) -> tuple[int, int]:
        found = check(asked, [Started(1, at_s)], [])
        return found["C7"].violations, found["C8"].violations

    assert violations(10.0) == violations(20.0) == (0, 0)
    assert violations(20.1) == (1, 0)
    assert violations(9.9) == (0, 1)


def test_virtual_hours_take_no_time_and_keep_their_order():
    loop, order = VirtualLoop(), []

    async def wait(name: str, seconds: float) -> None:
        await VirtualClock(loop).sleep(seconds)
        order.append((name, VirtualClock(loop).monotonic()))

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait("late", 7_200))
            group.create_task(wait("early", 3_600))

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(run())

    assert order == [("early", 3_600), ("late", 7_200)]


def test_a_virtual_loop_in_which_nothing_can_happen_raises():
    loop = VirtualLoop()
    with (
        asyncio.Runner(loop_factory=lambda: loop) as runner,
        pytest.raises(RuntimeError, match="deadlock"),
    ):
        runner.run(asyncio.Event().wait())


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_shifter_keeps_its_word_on_ten_recorded_minutes():
    """On 16 slots, so that there is something to decide."""
    arrivals = read_trace(10)
    run = managed(arrivals, 16)
    high, low, _ = rows("shifter", run.served)
    fifo_high = rows("fifo", fifo(arrivals, 16))[0]

    assert len(run.served) == len(arrivals)
    assert high["on_time_ratio"] >= 0.99 > fifo_high["on_time_ratio"]
    assert low["on_time_ratio"] == 1.0
    assert [found.violations for found in run.checks.values()] == [0, 0, 0]
    assert run.checks["C7"].checked >= len(arrivals) * 0.99
    assert all(s.reason for s in run.served if s.answer in ("shed", "expired"))
    # Nothing starts when it can no longer be of use, and nothing before it arrived.
    assert all(
        0 <= s.wait_s <= (1.001 if s.arrival.job == "converse" else 1_800.001)
        for s in run.served
        if s.wait_s is not None
    )


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_command_writes_rows_answers_and_a_picture(tmp_path):
    assert main(["--minutes", "1", "--slots", "20", "--out", str(tmp_path)]) == 0

    found = json.loads((tmp_path / "compare.json").read_text())
    assert [row["policy"] for row in found[::3]] == ["none", "fifo", "shed", "shifter"]
    checks = json.loads((tmp_path / "compare-20.json").read_text())["checks"]
    assert {name: found["violations"] for name, found in checks.items()} == {
        "C7": 0,
        "C8": 0,
        "C13": 0,
    }
    assert (tmp_path / "compare.png").stat().st_size > 10_000


def test_a_play_can_be_repeated():
    first, second = (compare(read_trace(0.5), 4)["rows"] for _ in range(2))

    assert first[:9] == second[:9]

"""The trace is what its readme says, and the report adds up."""

from __future__ import annotations

import heapq
from pathlib import Path

import pytest

from examples.inference.notes import Note, NoteReader, NoteWriter
from examples.inference.report import Played, make_report
from examples.inference.trace import Arrival, read_trace

SPEEDUP = 60.0
BEGAN = 1_000.0


def note(
    arrival: Arrival, job_id: str, *, wait_s: float, outcome: str = "done"
) -> Note:
    arrived_at = BEGAN + arrival.at_s / SPEEDUP
    started_at = arrived_at + wait_s / SPEEDUP
    ended_at = started_at + arrival.service_s / SPEEDUP
    return Note(
        job_id, arrival.job, "HIGH", 1, arrived_at, started_at, ended_at, outcome
    )


def played(
    arrivals: list[Arrival], notes: list[Note], states: dict[str, str] | None = None
) -> Played:
    accepted = {f"job-{number}": a.job for number, a in enumerate(arrivals)}
    return Played(arrivals, SPEEDUP, BEGAN, accepted, {}, notes, states or {})


@pytest.fixture(scope="module")
def trace() -> list[Arrival]:
    return read_trace()


def test_trace_holds_both_services_in_order(trace: list[Arrival]) -> None:
    assert len(trace) == 28_185
    assert sum(arrival.job == "converse" for arrival in trace) == 19_366
    assert trace == sorted(trace)
    assert trace[0].at_s == 0.0
    assert max(arrival.at_s for arrival in trace) < 60 * 60


def test_offered_load_is_that_of_the_data(trace: list[Arrival]) -> None:
    report = make_report(played(trace, []))

    load = report["offered_slots"]
    assert sum(load[:58]) / 58 == pytest.approx(14.3, abs=0.1)
    assert max(load) == pytest.approx(29.5, abs=0.1)
    assert report["peak_to_trough"]["offered"] == pytest.approx(4.5, abs=0.1)


def test_one_queue_of_24_slots_serves_as_in_the_data(trace: list[Arrival]) -> None:
    """First come, first served: 70.7 % of the conversations start within 1 s."""
    slots, notes = [0.0] * 24, []
    for number, arrival in enumerate(trace):
        start_s = max(arrival.at_s, heapq.heappop(slots))
        heapq.heappush(slots, start_s + arrival.service_s)
        notes.append(note(arrival, f"job-{number}", wait_s=start_s - arrival.at_s))

    report = make_report(played(trace, notes))

    high = report["priorities"]["HIGH"]
    assert high["in_time_ratio"] == pytest.approx(0.707, abs=0.01)
    assert report["priorities"]["LOW"]["in_time_ratio"] == 1.0
    executed, offered = report["executed_slots"], report["offered_slots"]
    assert sum(executed) == pytest.approx(sum(offered), abs=0.1)


def test_job_without_a_note_or_an_end_is_lost() -> None:
    arrivals = [Arrival(float(second), "complete", 1, 1) for second in range(4)]
    notes = [note(arrivals[0], "job-0", wait_s=0)]

    report = make_report(
        played(arrivals, notes, {"job-1": "expired", "job-2": "waiting"})
    )

    assert report["done"] == 1
    assert report["lost"] == 2
    outcomes = report["priorities"]["LOW"]["outcomes"]
    assert outcomes == {"done": 1, "expired": 1, "waiting": 1}


def test_second_end_is_doubled_and_a_stopped_attempt_is_not() -> None:
    arrivals = [Arrival(0.0, "converse", 1, 1), Arrival(1.0, "converse", 1, 1)]
    notes = [
        note(arrivals[0], "job-0", wait_s=0),
        note(arrivals[0], "job-0", wait_s=5),
        note(arrivals[1], "job-1", wait_s=0, outcome="stopped"),
        note(arrivals[1], "job-1", wait_s=2),
    ]

    report = make_report(played(arrivals, notes))

    assert report["doubled"] == 1
    assert report["lost"] == 0


def test_busy_slot_is_shared_between_the_minutes_it_spans() -> None:
    arrival = Arrival(0.0, "converse", 89_950, 0)  # 90 s

    report = make_report(played([arrival], [note(arrival, "job-0", wait_s=45)]))

    assert report["executed_slots"] == [0.25, 1.0, 0.25]
    assert report["offered_slots"][0] == 1.5


def test_notes_are_read_once_and_never_torn(tmp_path: Path) -> None:
    writer, reader = NoteWriter(tmp_path), NoteReader(tmp_path)
    first = note(Arrival(0.0, "converse", 1, 1), "a", wait_s=1)

    assert reader.read() == []
    writer.write(first)
    assert reader.read() == [first]
    with next(tmp_path.glob("*.jsonl")).open("ab") as file:
        file.write(b'["b", "conv')

    assert reader.read() == []

"""Of the lines of one kind some are written, and the others are counted."""

from __future__ import annotations

import io
import json
import logging
import os
import threading

import pytest
import structlog

from shifter.telemetry import flush_logging, line_limit
from shifter.telemetry.line_limit import LineLimit
from shifter.telemetry.log import MAX_KINDS, WINDOW_S, Event, Log, LoggingAsJob
from shifter.telemetry.setup import configure

MOST = 5


class Out(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.buffer.getvalue().splitlines()]


class Now:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def out():
    found = Out()
    configure("info", "json", found, MOST)
    yield found
    configure("info", "json", found)


@pytest.fixture
def now():
    return Now()


@pytest.fixture
def limit(now):
    found = LineLimit(MOST, now)
    yield found
    found.close()


def taken(limit: LineLimit, texts, **kind) -> int:
    kind = {"level": 20, "job": None, **kind}
    return sum(limit.takes(kind["level"], text, job=kind["job"]) for text in texts)


def test_a_kind_is_level_job_and_text_without_its_numbers(limit):
    texts = [f"order {number} of 7 failed" for number in range(100)]

    assert taken(limit, texts) == MOST
    assert taken(limit, texts) == 0
    assert taken(limit, texts, level=40) == MOST
    assert taken(limit, texts, job="send") == MOST
    assert taken(limit, ["another text"] * 9) == MOST
    assert taken(limit, [object()] * 9) == MOST


def test_a_new_window_takes_lines_again(limit, now):
    assert taken(limit, ["x"] * 9) == MOST

    now.s = WINDOW_S - 0.1
    assert taken(limit, ["x"]) == 0
    now.s = WINDOW_S
    assert taken(limit, ["x"] * 9) == MOST


def test_many_kinds_share_one_count_and_little_memory(limit):
    texts = [
        "".join(map(chr, [97 + n % 26, 97 + n // 26 % 26, 97 + n // 676]))
        for n in range(10_000)
    ]

    assert taken(limit, texts) <= MAX_KINDS + MOST
    assert len(limit._counts) <= MAX_KINDS + 1
    assert taken(limit, ["z" * 1_000_000]) == 0
    assert max(len(kind.text) for kind in limit._counts) <= 200


def test_the_count_is_written_once_the_window_ends(out, limit, now):
    taken(limit, ["x"] * 12, level=30, job="send")
    assert out.lines == []

    now.s = WINDOW_S
    taken(limit, ["another"])

    [line] = out.lines
    assert (line["event"], line["of"], line["count"]) == ("lines.left_out", "x", 7)
    assert (line["level"], line["job"]) == ("warning", "send")


def test_the_count_is_written_even_if_nothing_is_logged_any_more(out, monkeypatch):
    monkeypatch.setattr(line_limit, "WINDOW_S", 0.05)
    limit = LineLimit(MOST)
    taken(limit, ["x"] * 12)

    timer = limit._timer
    timer.join(60)

    assert not timer.is_alive()
    assert [line["count"] for line in out.lines] == [7]
    assert limit._timer is None


def test_threads_lose_no_count(out, limit):
    def write() -> None:
        taken(limit, ["x"] * 2_000)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    limit.end_window()

    assert [line["count"] for line in out.lines] == [8_000 - MOST]


def test_a_forked_child_counts_anew(limit):
    taken(limit, ["x"] * 9)
    with limit._lock:
        child = os.fork()
        if not child:
            os._exit(taken(limit, ["x"] * 9))
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == MOST


def end_window() -> None:
    """Let the window of this process end, as at the end of the process."""
    flush_logging()


def left_out(out: Out) -> dict[tuple, int]:
    """How many lines were left out, by kind."""
    return {
        (line["of"], line.get("logger"), line.get("job")): line["count"]
        for line in out.lines
        if line["event"] == "lines.left_out"
    }


def test_both_kinds_of_logger_are_limited(out):
    with LoggingAsJob(lambda: {"job": "send", "job_id": "1"}):
        for number in range(100):
            logging.getLogger("shop").warning("sent %d", number)
            structlog.get_logger().warning("posted", number=number)
    end_window()

    events = [line["event"] for line in out.lines]
    assert [events.count(f"sent {n}") for n in (0, MOST - 1, MOST)] == [1, 1, 0]
    assert events.count("posted") == MOST
    assert left_out(out) == {
        ("sent %d", "shop", "send"): 100 - MOST,
        ("posted", None, "send"): 100 - MOST,
    }


def test_a_record_that_two_handlers_get_is_counted_once(monkeypatch):
    out = Out()
    monkeypatch.setattr("sys.stderr", out)
    logger, own = logging.getLogger("shop.own"), logging.StreamHandler(out)
    logger.addHandler(own)
    try:
        for lines in (0, MOST, MOST):
            configure("info", "json", out, lines)
        for _ in range(MOST + 3):
            logger.warning("x")
        end_window()
        configure("info", "json", out)
        logger.warning("without a limit")
    finally:
        logger.removeHandler(own)

    assert [line["event"] for line in out.lines].count("x") == MOST
    assert left_out(out) == {("x", "shop.own", None): 3}
    assert own.filters == []


def test_lines_of_this_package_have_limits_of_their_own(out):
    for _ in range(MOST + 3):
        Log().info(Event.JOB_ENDED, job="send")
        Log().error(Event.THREAD_FAILED, thread="mine")
    end_window()

    events = [line["event"] for line in out.lines]
    assert events.count("job.ended") == MOST + 3
    assert events.count("process.thread_failed") == MOST


def test_a_count_that_cannot_be_written_is_dropped(out, limit):
    taken(limit, ["x"] * 9)
    out.close()

    limit.end_window()


def test_the_fields_of_a_job_cannot_break_a_count(limit):
    def broken() -> dict[str, object]:
        raise RuntimeError("no job")

    record = logging.makeLogRecord({"msg": "x", "levelno": 20})
    with LoggingAsJob(broken):
        assert line_limit.RecordLimit(limit).filter(record)

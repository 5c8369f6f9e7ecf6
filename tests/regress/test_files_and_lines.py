"""Input that took long to read, could not be read back, or filled the log.

A TOML file of dotted keys took 9 s to parse; a CSV export with a cell of more than
131,072 characters could not be imported; each bad record was a log line, without limit.
Right: configuration files are small and their lines simple, what is exported comes back,
and of a cause that repeats some lines are written and the others counted.
"""

from __future__ import annotations

import json
import logging
import time
import uuid

import pytest

from shifter.config.load import load_settings
from shifter.deadletter.letter import Letter
from shifter.deadletter.transfer import heading, line_of, read_lines, write_line
from shifter.errors import ConfigError, DecodeError
from shifter.ports import Delivery, Record
from shifter.telemetry import Event, Log
from shifter.telemetry.log import LINES, MAX_KINDS, WINDOW_S, LimitedLog
from tests.integration.drain_world import World

SLOW = {
    "20,000 dotted keys": "\n".join(f"a.b.k{n}.c = 1" for n in range(20_000)),
    "one key of 8,000 parts": "a." * 8_000 + "a = 1",
    "keys of 4,000 parts": "\n".join("a." * 4_000 + f"k{n} = 1" for n in range(8)),
    "an inline table": "x = {"
    + ", ".join("a." * 400 + f"k{n} = 1" for n in range(60))
    + "}",
    "nested arrays": "x = " + "[" * 60_000,
}


@pytest.mark.parametrize("text", SLOW.values(), ids=list(SLOW))
@pytest.mark.parametrize("name", ["shifter.toml", "pyproject.toml"])
def test_a_file_that_takes_long_to_parse_is_refused_at_once(tmp_path, text, name):
    head = "[tool.shifter]\n" if name == "pyproject.toml" else ""
    (tmp_path / name).write_text(head + text)

    begun = time.thread_time()
    with pytest.raises(ConfigError, match="config file"):
        load_settings("shop", environ={}, cwd=tmp_path)

    assert time.thread_time() - begun < 0.5


def test_an_ordinary_file_is_read(tmp_path):
    brokers = ",".join(f"b{n}.eu.example.com:9092" for n in range(50))
    (tmp_path / "shifter.toml").write_text(f'log = "kafka://{brokers}"\n')

    settings = load_settings("shop", environ={}, cwd=tmp_path)

    assert "b49" in settings.log_url.reveal()


def test_a_large_pyproject_of_another_program_is_passed_over(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.other]\nx = 1\n" * 100_000)

    assert load_settings("shop", environ={}, cwd=tmp_path).namespace == "shop"


@pytest.mark.parametrize("size", [131_073, 900_000])
def test_a_csv_export_with_large_cells_comes_back(size):
    value = json.dumps({"text": "x" * size}).encode()
    headers = [("x", b"h" * size)]
    letter = Letter(Delivery("t", b"k" * size, value, headers, 0, 0, 0), 0)

    text = heading("csv") + write_line(line_of(letter), "csv")
    [record] = read_lines(text.splitlines(keepends=True))

    assert (record.key, record.value, record.headers) == (b"k" * size, value, headers)


def test_what_is_no_csv_is_refused_and_not_a_fault():
    with pytest.raises(DecodeError):
        list(read_lines([heading("csv"), '"' + "x" * 17_000_000]))


# --- log lines ----------------------------------------------------------------------


def lines(caplog) -> list[str]:
    return [line for line in caplog.messages if line.startswith(("job.", "lines."))]


def test_of_a_kind_some_lines_are_written_and_the_others_counted(caplog):
    log = LimitedLog(Log(worker="w"))
    with caplog.at_level(logging.INFO, "shifter"):
        for n in range(1_000):
            facts = {"lane": "a", "reason": f"r{n % 2}", "n": n}
            event = Event.JOB_ENDED
            log.write(logging.WARNING, event, facts, by=("lane", "reason"), now=1.0)
        log.write_left_out(now=1.0 + WINDOW_S)
        log.write(logging.WARNING, Event.JOB_ENDED, {"lane": "a"}, by=("lane",), now=20)

    said = lines(caplog)
    assert len(said) == 2 * LINES + 2 + 1
    counts = [line for line in said if line.startswith("lines.left_out")]
    assert counts == [
        f"lines.left_out worker=w of=job.ended count={500 - LINES} lane=a reason=r{n}"
        for n in range(2)
    ]


def test_made_up_causes_are_bounded(caplog):
    log = LimitedLog(Log())
    with caplog.at_level(logging.INFO, "shifter"):
        for n in range(5_000):
            facts = {"reason": f"made up {n}"}
            log.write(logging.INFO, Event.JOB_ENDED, facts, by=("reason",), now=0.0)
        log.close()

    assert len(lines(caplog)) == MAX_KINDS + LINES + 1
    assert len(log._windows) == 0


async def test_a_topic_full_of_bad_records_is_a_few_lines(caplog):
    world = World()

    @world.app.job(name="job")
    async def job(number: int) -> None: ...

    await world.open()
    lane, good = "shop.default.normal", []
    for _ in range(500):
        head = {"v": 1, "id": str(uuid.uuid4()), "type": "job"}
        good.append(Record(lane, b"{", [("shifter", json.dumps(head).encode())]))
    bad = [Record(lane, b"", [("shifter", b"")]) for _ in range(500)]

    with caplog.at_level(logging.INFO, "shifter"):
        await world.lane_log.append([*good, *bad], timeout_s=5)
        async with world.working() as drain:
            await world.until(
                lambda: len(world.log.entries("shop.default.dlt")) == 1_000,
                timeout_s=40,
            )
        drain.observer.close()

    said = lines(caplog)
    assert len([line for line in said if line.startswith("job.dead_lettered")]) == 40
    assert sum("count=480" in line for line in said) == 2
    series = world.metrics.snapshot()["shifter_dead_letters_total"]
    assert sum(series.values()) == 1_000

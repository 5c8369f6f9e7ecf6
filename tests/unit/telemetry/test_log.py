"""Log lines that no text from outside can forge."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path

import pytest
import structlog
from hypothesis import given, strategies as st

from shifter.telemetry import Event, Log
from shifter.telemetry.setup import configure
from shifter.wire.untrusted import encode_line

HOSTILE = "a\r\nb\x1b[2J\x9b31m\u202e\u2066\x7f\ud800 %s {} \x00"
CANARY = "c4n4ry"


@pytest.fixture
def written():
    """Configure structlog onto a buffer; give a function that reads it."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")

    def start(log_format, level="info"):
        configure(level, log_format, out)

    def read() -> str:
        out.flush()
        return out.buffer.getvalue().decode()

    start.read = read
    yield start
    structlog.reset_defaults()


def is_clean(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


def test_nothing_is_configured_by_importing():
    assert not structlog.is_configured()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_hostile_text_stays_on_its_line(written, log_format):
    written(log_format)

    Log(worker=HOSTILE).info(
        Event.JOB_ENDED, job_id=HOSTILE, raw=HOSTILE.encode("utf-8", "replace")
    )

    text = written.read()
    assert text.count("\n") == 1
    assert is_clean(text)
    assert "\x1b[2J" not in text


def test_a_json_line_gives_back_what_was_logged(written):
    written("json")

    Log(worker="w1").warning(Event.CLAIM_LOST, detail="a\n\u202eb", n=3, none=None)

    line = json.loads(written.read())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "claim.lost",
        "level": "warning",
        "worker": "w1",
        "detail": "a\n\u202eb",
        "n": 3,
        "none": None,
    }


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_field_of_ten_megabytes_is_cut(written, log_format):
    written(log_format)

    Log().info(Event.JOB_ENDED, message="x" * 10_000_000)

    assert len(written.read()) < 3_000


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_locals_and_no_control_characters(written, log_format):
    written(log_format)
    password = CANARY

    try:
        raise ValueError(HOSTILE + "y" * 100_000)
    except ValueError as error:
        Log().error(Event.WORKER_FAILED, exc_info=error)

    text = written.read()
    assert "ValueError" in text
    assert "test_log.py" in text
    assert password not in text
    assert is_clean(text)
    assert len(text) < 20_000


def test_what_no_json_can_hold_is_spelled_out(written):
    written("json")
    cycle: list[object] = []
    cycle.append(cycle)

    Log().info(Event.JOB_ENDED, odd={1, 2}, thing=object(), bad="\ud800", key={(1,): 2})

    assert "\ud800" in json.loads(written.read())["bad"]
    assert encode_line(cycle)


def test_a_filtered_line_is_not_written_and_is_off(written):
    written("json", level="warning")
    log = Log()

    log.info(Event.JOB_ENDED)

    assert written.read() == ""
    assert log.is_on(logging.WARNING)
    assert not log.is_on(logging.INFO)


def test_a_log_made_before_the_configuration_follows_it(written):
    log = Log(worker="w1", slot=2)
    written("json")

    log.info(Event.PROCESS_ENDED)

    line = json.loads(written.read())
    assert (line["worker"], line["slot"]) == ("w1", 2)


def test_without_structlog_lines_go_to_the_standard_logger(caplog):
    with caplog.at_level(logging.INFO, logger="shifter"):
        Log(worker="w1").info(Event.JOB_ENDED, job_id=HOSTILE)

    (record,) = caplog.records
    assert record.name == "shifter"
    assert record.getMessage().startswith("job.ended worker=w1 job_id=a\\r\\nb")
    assert is_clean(record.getMessage())
    assert record.shifter["worker"] == "w1"


def test_events_are_named_room_dot_what_happened_and_only_once():
    values = [event.value for event in Event]

    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", value) for value in values)
    assert len(values) == len(set(values))


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_an_encoded_line_is_printable_and_reads_back(value):
    line = encode_line(value).decode()

    assert line.isprintable()
    assert json.loads(line) == value


@pytest.mark.parametrize(
    "char", [*"\x00\n\x1b\x7f\x9b\u202e\u2066\ufeff\ud800", "\U000e0001"]
)
def test_each_invisible_character_is_escaped_also_alone(char):
    line = encode_line({"text": f"a{char}b"}).decode()

    assert line.isprintable()
    assert json.loads(line) == {"text": f"a{char}b"}


def test_importing_telemetry_loads_neither_structlog_nor_prometheus():
    folder = Path(__file__).parents[3] / "shifter" / "telemetry"
    for name in ("__init__", "log", "metric"):
        text = (folder / f"{name}.py").read_text()
        assert not re.search(
            r"^(import|from) (structlog|prometheus_client)", text, re.MULTILINE
        )

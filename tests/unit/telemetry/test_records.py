"""Lines of the standard library's loggers, and the job that they carry."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import queue
import sys
from logging.handlers import QueueHandler

import pytest
import structlog

from shifter.telemetry import Event, Log, job_fields
from shifter.telemetry.log import LoggingAsJob
from shifter.telemetry.records import RecordHandler
from shifter.telemetry.setup import configure

JOB = {"job_id": "7", "job": "mail", "attempt": 2, "trace_id": "ab"}


class Out(io.TextIOWrapper):
    """A stream that is a terminal where a test says so."""

    def __init__(self, *, is_terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal

    @property
    def text(self) -> str:
        return self.buffer.getvalue().decode()

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def out():
    out = Out()
    configure("info", "json", out)
    return out


@pytest.fixture
def logger():
    logger = logging.getLogger("shop.mail")
    yield logger
    logger.handlers.clear()
    logger.propagate = True


def test_a_record_is_a_json_line_with_its_extra_fields(out, logger):
    logger.warning("sent %d", 3, extra={"to": "a\n\u202eb"})

    [line] = out.lines
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "sent 3",
        "level": "warning",
        "logger": "shop.mail",
        "to": "a\n\u202eb",
    }


def test_a_record_below_the_level_is_not_written(out, logger):
    logger.debug("no")

    assert out.text == ""


def test_a_traceback_is_one_field_of_one_line(out, logger):
    try:
        raise ValueError("no\nletter")
    except ValueError:
        logger.exception("failed")
        structlog.get_logger().exception("failed")

    for line in out.lines:
        [error] = line["exception"]
        assert (error["exc_type"], error["exc_value"]) == ("ValueError", "no\nletter")
        assert error["frames"][-1]["filename"].endswith("test_records.py")
    assert len(out.lines) == 2


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_hostile_text_of_a_record_stays_on_its_line(logger, log_format):
    out = Out()
    configure("info", log_format, out)

    logger.info("a\r\n\x1b[2J%s", "\u202e", extra={"x": "b\n\x9b31m"})

    assert out.text.count("\n") == 1
    assert out.text[:-1].isprintable() or "\x1b[2J" not in out.text
    assert "\u202e" not in out.text


@pytest.mark.parametrize(
    ("is_terminal", "log_format", "is_json"),
    [
        (False, "auto", True),
        (True, "auto", False),
        (False, "console", False),
        (True, "json", True),
    ],
)
def test_both_kinds_of_logger_obey_the_format(logger, is_terminal, log_format, is_json):
    out = Out(is_terminal=is_terminal)
    configure("info", log_format, out)

    logger.info("one")
    structlog.get_logger().info("two")

    lines = out.text.splitlines()
    assert [line[:1] == "{" for line in lines] == [is_json, is_json]


def test_lines_inside_a_handler_carry_its_job(out, logger):
    with LoggingAsJob(lambda: JOB):
        logger.info("a")
        structlog.get_logger().info("a")
        assert job_fields() == JOB
    logger.info("b")

    inside, also, outside = out.lines
    assert JOB.items() <= inside.items()
    assert JOB.items() <= also.items()
    assert not JOB.keys() & outside.keys()
    assert job_fields() == {}


async def test_lines_of_a_thread_that_is_given_the_context_carry_the_job(out, logger):
    with LoggingAsJob(lambda: JOB):
        await asyncio.to_thread(logger.info, "a")

    [line] = out.lines
    assert JOB.items() <= line.items()


def test_a_logger_that_was_bound_before_keeps_its_configuration(capsys):
    bound = structlog.get_logger().bind(a=1)
    unbound, out = structlog.get_logger(), Out()
    configure("info", "json", out)

    bound.info("before")
    unbound.info("after")

    assert [line["event"] for line in out.lines] == ["after"]
    assert "before" in capsys.readouterr().out


def test_a_cause_comes_behind_its_error(out, logger):
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError:
        logger.exception("failed")

    [line] = out.lines
    assert [one["exc_type"] for one in line["exception"]] == ["ValueError", "KeyError"]


def test_a_field_that_is_named_as_one_of_the_job_gets_another_name(out, logger):
    own = {"job_id": 7, "attempt": "first", "trace_id": "mine"}
    with LoggingAsJob(lambda: JOB):
        logger.info("a", extra=own)
        structlog.get_logger().info("a", **own)

    for line in out.lines:
        assert (line["job_id"], line["job_id_"]) == ("7", 7)
        assert (line["attempt"], line["attempt_"]) == (2, "first")
        assert line["trace_id"] == "mine"


def test_a_line_of_the_package_names_its_own_job(out):
    with LoggingAsJob(lambda: JOB):
        Log().info(Event.JOB_RETRIED, job_id="8")

    [line] = out.lines
    assert line["job_id"] == "8"
    assert "attempt" not in line


def test_extra_fields_replace_nothing_of_the_line(out, logger):
    extra = {"event": 1, "level": 2, "timestamp": 3, "logger": 4, "event_": 5}
    logger.info("a", extra=extra)

    [line] = out.lines
    assert (line["event"], line["level"], line["logger"]) == ("a", "info", "shop.mail")
    assert (line["event_"], line["event__"], line["level_"]) == (5, 1, 2)


class BadRepr:
    def __repr__(self) -> str:
        raise OSError("no")


@pytest.mark.parametrize(
    ("message", "arguments", "extra"),
    [
        ("too few %s %s", (1,), {}),
        ("a value %s", (BadRepr(),), {}),
        ("a field", (), {"x": BadRepr()}),
        (BadRepr(), (), {}),
    ],
)
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_what_cannot_be_written_is_one_line_all_the_same(
    logger, capsys, log_format, message, arguments, extra
):
    out = Out()
    configure("info", log_format, out)
    [ours] = (one for one in logging.getLogger().handlers if type(one) is RecordHandler)

    ours.handle(
        logger.makeRecord("q", 20, "f", 1, message, arguments, None, extra=extra)
    )

    assert out.text.count("\n") == 1
    assert "log_error" in out.text
    assert capsys.readouterr().err == ""


def test_a_handler_of_the_programs_own_keeps_level_and_filter(logger, monkeypatch):
    stream = Out()
    monkeypatch.setattr(sys, "stderr", stream)
    handler = logging.StreamHandler(stream)
    handler.setLevel("ERROR")
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    logger.addHandler(handler)
    configure("info", "json", stream)

    logger.propagate = False
    logger.info("below")
    logger.error("secret")
    logger.error("written")

    assert [line["event"] for line in stream.lines] == ["written"]


def test_a_record_that_two_handlers_are_given_is_one_line(logger, monkeypatch):
    stream = Out()
    monkeypatch.setattr(sys, "stderr", stream)
    logger.addHandler(logging.StreamHandler(stream))
    configure("info", "json", stream)

    logger.info("once")

    assert [line["event"] for line in stream.lines] == ["once"]


def test_a_handler_that_writes_elsewhere_keeps_its_format(out, logger):
    file = io.StringIO()
    logger.addHandler(logging.StreamHandler(file))

    logger.info("a %s", 1)

    assert file.getvalue() == "a 1\n"
    assert [line["event"] for line in out.lines] == ["a 1"]


def test_a_record_that_crossed_a_queue_is_written(out, logger):
    crossed: queue.SimpleQueue = queue.SimpleQueue()
    QueueHandler(crossed).handle(
        logger.makeRecord("q", 20, "f", 1, "a %s", ("b",), None)
    )

    logging.getLogger().handle(crossed.get())

    assert [line["event"] for line in out.lines] == ["a b"]


def test_configuring_again_leaves_one_handler(out):
    configure("info", "json", out)

    ours = [one for one in logging.getLogger().handlers if type(one) is RecordHandler]
    assert len(ours) == 1

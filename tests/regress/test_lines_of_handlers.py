"""What handlers log fills no disk, and is readable on a terminal.

One handler that logged a line for each of 10,000 records wrote 10,000 lines. Right: of
each kind a number of lines is written in 10 s, and one line has the count of the others,
wherever the handler runs; the setting ``log_lines`` changes the number.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time

import pytest

LINES = 10_000
JOBS = """
import logging, sys
import structlog
from shifter import Context, Shifter

app = Shifter("loud")

def write(how):
    logger, log = logging.getLogger("mine"), structlog.get_logger()
    for number in range(10_000):
        if how == "logging":
            logger.info("sent %d", number)
        elif how == "formatted":
            logger.warning(f"sent {number}")
        else:
            log.info("sent", number=number)

@app.job
async def loop(how: str) -> None:
    write(how)

@app.job
def thread(how: str) -> None:
    write(how)

@app.job(isolate="process")
def apart(how: str) -> None:
    write(how)

@app.job
async def short(ctx: Context) -> None:
    ctx.log.info("order.sent", order=7)
    logging.getLogger("mine").warning("late by %d s", 3)

if __name__ == "__main__":
    for call in sys.argv[1:]:
        name, _, how = call.partition(":")
        app.jobs[name].defer_sync(*([how] if how else []))
    app.close()
"""

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def environ(tmp_path):
    (tmp_path / "jobs.py").write_text(JOBS)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
    kept.pop("NO_COLOR", None)
    return {
        **kept,
        "PYTHONPATH": str(tmp_path),
        "SHIFTER_LOG": f"sqlite://{tmp_path / 'loud.db'}",
    }


def defer(tmp_path, environ, *calls: str) -> None:
    command = [sys.executable, "jobs.py", *calls]
    subprocess.run(command, cwd=tmp_path, env=environ, check=True, timeout=60)


def written(tmp_path, environ) -> list[dict]:
    """The lines of a worker that ends once nothing is left."""
    done = subprocess.run(
        [sys.executable, "-m", "shifter.cli", "work", "jobs:app", "--burst"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_ten_thousand_lines_of_a_handler_are_few_and_a_count(tmp_path, environ):
    places, hows = ("loop", "thread", "apart"), ("logging", "formatted", "structlog")
    defer(tmp_path, environ, *(f"{place}:{how}" for place in places for how in hows))

    lines = written(tmp_path, environ)

    for place in places:
        own = [line for line in lines if line.get("job") == place]
        sent = [line for line in own if str(line["event"]).startswith("sent")]
        left = [line for line in own if line["event"] == "lines.left_out"]
        assert len(sent) + sum(line["count"] for line in left) == len(hows) * LINES
        # Each window that begins while lines are written has as many again.
        assert len(sent) < LINES
        assert {line["of"] for line in left} == {"sent %d", "sent #", "sent"}
        assert [line["event"] for line in own].count("job.ended") == len(hows)


def test_the_limit_can_be_turned_off(tmp_path, environ):
    environ["SHIFTER_LOG_LINES"] = "0"
    defer(tmp_path, environ, "loop:logging")

    lines = written(tmp_path, environ)

    sent = [line for line in lines if str(line["event"]).startswith("sent")]
    assert len(sent) == LINES
    assert not [line for line in lines if line["event"] == "lines.left_out"]


def on_a_terminal(tmp_path, environ) -> str:
    """What a worker writes to standard error, which is a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "shifter.cli", "work", "jobs:app", "--burst"],
        cwd=tmp_path,
        env={**environ, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen, until = b"", time.monotonic() + 90
    try:
        while time.monotonic() < until:
            try:
                seen += os.read(ours, 65_536)
            except OSError:
                break
        assert process.wait(30) == 0, seen
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return seen.decode()


def test_a_terminal_gets_text_with_colors(tmp_path, environ):
    defer(tmp_path, environ, "short")

    text = on_a_terminal(tmp_path, environ)

    [sent] = [line for line in text.splitlines() if "order.sent" in line]
    [late] = [line for line in text.splitlines() if "late by 3 s" in line]
    for line in (sent, late):
        assert not line.lstrip().startswith("{")
        assert "\x1b[" in line
        assert "short" in line
    assert "warning" in late


@pytest.mark.parametrize(
    ("setting", "value"), [("NO_COLOR", "1"), ("SHIFTER_LOG_FORMAT", "json")]
)
def test_a_terminal_gets_what_the_settings_ask_for(tmp_path, environ, setting, value):
    environ[setting] = value
    defer(tmp_path, environ, "short")

    text = on_a_terminal(tmp_path, environ)

    [sent] = [line for line in text.splitlines() if "order.sent" in line]
    assert "\x1b[3" not in sent
    if value == "json":
        assert json.loads(sent[sent.index("{") :])["order"] == 7
    else:
        assert "order=7" in sent

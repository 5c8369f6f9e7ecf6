"""A bad command line, or a bad place to run one, rows 53 to 62.

An error is three lines and an exit code. What waits for a person's word (59, 60) is
shown where replays are tested; here, what goes through a spool is interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.spool import SqliteSpool
from shifter.adapters.system import SystemClock
from shifter.cli.problem import Exit
from shifter.ports import Record, SpoolEntry
from tests.integration.test_cli import on_a_terminal
from tests.unit.cli.conftest import clean, shop, world

pytestmark = pytest.mark.timeout(240)

__all__ = ["clean", "shop", "world"]

ROOT = Path(__file__).parents[2]
JOB = "018f0000-0000-7000-8000-000000000000"
BOMB = "(a+)+$" * 1_000


# --- in this process, over memory -----------------------------------------------------

MISTAKES = [
    (53, "", 2, "see: shifter --help"),
    (53, "topics", 2, "see: shifter topics --help"),
    (53, "spool", 2, "see: shifter spool --help"),
    (53, "log", 2, "see: shifter log --help"),
    (53, "dlt list", 2, "see: shifter dlt list --help"),
    (53, "submit", 2, "see: shifter submit --help"),
    (54, "statsu", 2, "did you mean 'status'?"),
    (54, "topics aply x:y", 2, "did you mean 'apply'?"),
    (54, "log fskc", 2, "did you mean 'fsck'?"),
    (54, "zzz", 2, "choose one: "),
    (54, "status --wacht", 2, "did you mean --watch?"),
    (54, "status extra", 2, "see: shifter status --help"),
    (54, "--log", 2, "see: shifter --help"),
    (55, "dlt list mail --partition x", 2, "see: shifter dlt list --help"),
    (55, "dlt list mail --partition -1", 2, "see: shifter dlt list --help"),
    (55, "dlt show mail 0/-1", 2, "partition/offset"),
    (55, "dlt show mail x/1", 2, "partition/offset"),
    (55, "dlt show mail 1000000000/1", 2, "partition/offset"),
    (55, "dlt show mail ٣/1", 2, "partition/offset"),
    (55, "dlt show mail", 2, "PARTITION/OFFSET"),
    (55, "dlt list mail --limit x", 2, "see: shifter dlt list --help"),
    (55, "dlt list mail --limit -1", 2, "use 1 or more"),
    (55, "dlt list nosuch", 1, "topics that look like one"),
    (56, "dlt list mail --since yesterday", 2, "use a span such as 6h"),
    (56, "submit {shop} ping --due-at tomorrow", 2, "ISO 8601"),
    (56, "submit {shop} ping --due-at 2030-01-01T00:00:00", 2, "time zone"),
    (56, "submit {shop} ping --due-at 9999-01-01T00:00:00Z", 2, "30 days"),
    (56, "submit {shop} ping --delay 5", 2, "'30s'"),
    (56, "submit {shop} ping --delay=-5s", 2, "'30s'"),
    (56, "submit {shop} ping --delay -5s", 2, "requires an argument"),
    (56, "submit {shop} ping --delay 400d", 2, "366 days"),
    (56, "submit {shop} ping --deadline 0s", 2, "allowed"),
    (57, f"dlt list mail --filter {BOMB}", 2, "the filter is wrong at character 2001"),
    (57, f"dlt list {BOMB}", 1, "topics that look like one"),
    (57, f"job show {BOMB}", 2, "UUID"),
    (62, "submit {shop} ping --priority LOWEST", 2, "--help"),
    (62, "submit {shop} ping --format xml", 2, "Choose from"),
    (62, "submit {shop} pong", 2, "'ping'"),
    (62, "submit {shop} ping --json [1]", 65, "--json"),
    (62, "submit {shop} ping --json {", 65, "--json"),
    (62, "submit {shop} ping --json nan", 65, "--json"),
    (62, 'submit {shop} ping --json {"nosuch":1}', 65, "signature"),
    (62, 'submit {shop} send_receipt --json {"order_id":"x"}', 65, "signature"),
    (62, "work {shop} --processes 0", 2, "allowed: 1 to"),
    (62, "work {shop} --concurrency -3", 2, "allowed: 1 to"),
    (62, "work {shop} --queue nosuch", 2, "mail"),
    (62, "work {shop} --wait 60", 2, "'30s'"),
    (62, "work {shop}", 78, "shifter topics apply"),
    (62, "job show 7", 2, "UUID"),
    (62, f"job show {JOB}", 1, "shifter status"),
    (62, "schemas --write a --check b", 2, "keep one"),
    (62, "doctor --wait soon", 2, "'30s'"),
    (62, "log fsck", 78, "sqlite:///"),
    (62, "status --namespace A_B", 78, "lower-case"),
    (62, "status --config nowhere.toml", 78, "No such file"),
    (62, "topics plan {shop} --namespace other", 2, "'shop'"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [row[1:] for row in MISTAKES],
    ids=[f"{row[0]}-{row[1][:60]}" for row in MISTAKES],
)
def test_a_mistake_is_three_lines_and_an_exit_code(world, shop, arguments, code, said):
    tokens = arguments.replace("{shop}", shop).split(" ")
    world.log.create_lanes("shop.mail.dlt")

    ended = world.run(*filter(None, tokens))

    assert ended.code == code
    assert ended.out == ""
    assert any(said in line for line in ended.problem), ended.problem


ASKING_JSON = [
    "statsu --json",
    "status --json --nosuch",
    "status --json --namespace A",
    "status --json=maybe --json",
    "dlt list nosuch --json",
    "dlt show mail 0/1 --json",
    "topics plan nosuch:app --json",
    f"job show {JOB} --json",
    "config show --json --config nowhere",
    "doctor nosuch:app --json",
    "log fsck --json",
    "submit nosuch:app x --format json",
    "submit nosuch:app x --format=json --json {}",
]


@pytest.mark.parametrize("arguments", ASKING_JSON, ids=[f"62-{a}" for a in ASKING_JSON])
def test_json_stays_parseable_on_errors(world, arguments):
    world.log.create_lanes("shop.mail.dlt")

    ended = world.run(*arguments.split())

    error = ended.json["error"]
    assert set(error) == {"kind", "what", "why", "fix", "exit_code"}
    assert error["exit_code"] == ended.code != 0
    assert ended.problem == [error["what"], error["why"], error["fix"]]


def test_62_exit_codes_are_documented():
    text = (ROOT / "docs" / "reference" / "cli.md").read_text()

    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", text, re.MULTILINE)

    assert [(int(number), name) for number, name in rows] == [
        (int(code), code.name) for code in Exit
    ]


# --- as a process ---------------------------------------------------------------------

JOBS = """
from __future__ import annotations
import asyncio
from shifter import Shifter

app = Shifter("shop")

@app.job
async def ping(text: str = "") -> None:
    await asyncio.sleep(300 if text == "slow" else 0)
"""


class Shell:
    """A user in an empty directory with one module and an embedded log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "jobs.py").write_text(JOBS)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
        self.environ = {
            **kept,
            "SHIFTER_LOG": f"sqlite://{folder / 'jobs.db'}",
            "SHIFTER_STATE": f"sqlite://{folder / 'jobs.db'}",
            "SHIFTER_NAMESPACE": "shop",
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(folder / "state"),
        }

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "shifter.cli"]

    def start(self, *arguments: str, **more) -> subprocess.Popen[str]:
        environ = {**self.environ, **more.pop("environ", {})}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen(
            [*self.command, *arguments],
            cwd=self.folder,
            env=environ,
            text=True,
            **pipes,
        )

    def run(self, *arguments: str, **more) -> tuple[int, str, str]:
        """One command to its end, which must come."""
        with self.start(*arguments, **more) as process:
            try:
                out, err = process.communicate(timeout=100)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert "Traceback" not in (err or "")
        return process.returncode, out, err


@pytest.fixture
def shell(tmp_path) -> Shell:
    return Shell(tmp_path)


def lines(err: str) -> list[str]:
    return [line[:7] for line in err.splitlines()]


THREE = ["error: ", "  why: ", "  fix: "]


@pytest.mark.parametrize("verb", ["config show", "schemas", "version", "--help"])
def test_58_a_full_disk_behind_stdout_is_reported(shell, verb):
    with Path("/dev/full").open("w") as full:
        code, _, err = shell.run(*verb.split(), stdout=full)

    assert code == 74
    assert lines(err) == THREE
    assert "No space left" in err


@pytest.mark.parametrize("verb", ["config show", "schemas", "status --json"])
def test_58_a_reader_that_left_ends_a_command_quietly(shell, verb):
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        code, _, err = shell.run(*verb.split(), stdout=theirs)
    finally:
        os.close(theirs)

    assert (code, err) == (141, "")


@pytest.mark.parametrize(
    ("verb", "place"),
    [
        ("schemas --write", "a-file"),
        ("schemas --write", "a-file/below"),
        ("schemas --write", "/proc/nowhere"),
        ("demo --headless --seconds 1 --out", "a-file"),
        ("demo --headless --seconds 1 --out", "/proc/nowhere"),
    ],
)
def test_58_a_place_that_cannot_be_written_is_named(shell, verb, place):
    (shell.folder / "a-file").write_text("mine")

    code, out, err = shell.run(*verb.split(), place)

    assert (code, out) == (73, "")
    assert lines(err) == THREE
    assert (shell.folder / "a-file").read_text() == "mine"


class Mute:
    """A server that takes connections and never says a word."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(30)
        self._taken: list[socket.socket] = []
        self.url = f"kafka://127.0.0.1:{self._socket.getsockname()[1]}"

    def wait(self) -> None:
        """Return when somebody has connected."""
        self._taken.append(self._socket.accept()[0])

    def close(self) -> None:
        for one in (*self._taken, self._socket):
            one.close()


@pytest.fixture
def mute() -> Iterator[Mute]:
    mute = Mute()
    yield mute
    mute.close()


def test_59_a_worker_that_is_stopped_hands_back_what_it_has(shell):
    shell.run("submit", "jobs:app", "ping", "--json", '{"text": "slow"}')
    environ = {"SHIFTER_DRAIN_TIMEOUT": "100ms"}
    worker = shell.start("work", "jobs:app", environ=environ)
    try:
        until(lambda: lanes(shell)["running"] == 1)

        worker.send_signal(signal.SIGINT)
        _, err = worker.communicate(timeout=60)
    finally:
        worker.kill()

    assert worker.returncode == 0
    assert "Traceback" not in err
    assert lanes(shell)["waiting"] == 1


def lanes(shell: Shell) -> dict[str, int]:
    """Waiting and running, over all lanes."""
    found = json.loads(shell.run("status", "--json")[1])["lanes"]
    return {
        key: sum(lane[key] or 0 for lane in found) for key in ("waiting", "running")
    }


def until(check, timeout_s: float = 90) -> None:
    end = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("verb", ["doctor --wait 60s", "work jobs:app --wait 60s"])
def test_59_ctrl_c_while_waiting_for_servers(shell, verb, mute):
    environ = {"SHIFTER_LOG": mute.url, "SHIFTER_SPOOL": "off"}
    with on_a_terminal(shell, *verb.split(), columns=80, **environ) as (process, ours):
        mute.wait()
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
        seen = read_all(ours)

    assert code == 130, seen
    assert b"Traceback" not in seen


def test_59_ctrl_c_in_the_middle_of_a_flush_loses_nothing(shell, mute):
    path, count = shell.folder / "spool.db", 50
    spool = SqliteSpool(Database(path), SystemClock())
    entries = [
        SpoolEntry(n, Record("shop.default.normal", b"{}", [])) for n in range(1, count)
    ]
    spool.put(entries, timeout_s=10)
    environ = {"SHIFTER_LOG": mute.url, "SHIFTER_SPOOL": str(path)}

    flush = shell.start("spool", "flush", environ=environ)
    mute.wait()
    flush.send_signal(signal.SIGINT)
    out, err = flush.communicate(timeout=100)

    assert (flush.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert len(spool.take(1_000)) == len(entries)
    spool.close()


VERBS = [
    ("config show", 0),
    ("demo --headless --seconds 1 --speed 100 --out .", None),
    ("dlt list default", 1),
    ("dlt show default 0/1", 1),
    ("doctor", 0),
    (f"job cancel {JOB}", 0),
    (f"job show {JOB}", 1),
    ("log fsck", 78),
    ("schemas", 0),
    ("spool flush", 78),
    ("status", 0),
    ("submit jobs:app ping", 0),
    ("topics apply jobs:app", 0),
    ("version", 0),
    ("work jobs:app --burst", 0),
]


@pytest.mark.parametrize(("verb", "code"), VERBS, ids=[f"60-{v}" for v, _ in VERBS])
def test_no_verb_asks_or_waits_for_a_person(shell, verb, code):
    ours, theirs = os.pipe()
    try:
        # Open and silent: who reads it waits for ever.
        ended, _, err = shell.run(*verb.split(), stdin=ours)
    finally:
        os.close(ours)
        os.close(theirs)

    assert code in (None, ended), err


def read_all(ours: int) -> bytes:
    seen = b""
    with contextlib.suppress(OSError):
        while part := os.read(ours, 65_536):
            seen += part
    return seen


@pytest.mark.parametrize("verb", ["--help", "status", "config show", "statsu"])
def test_61_twenty_columns_no_colour_and_no_locale(shell, verb):
    environ = {"NO_COLOR": "1", "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}
    with on_a_terminal(shell, *verb.split(), columns=20, **environ) as (
        process,
        ours,
    ):
        seen = read_all(ours)
        code = process.wait(60)

    assert code == (2 if verb == "statsu" else 0)
    assert seen
    assert not re.search(rb"\x1b\[[0-9;]*[34][0-9]", seen)
    assert b"Traceback" not in seen
    seen.decode("ascii")

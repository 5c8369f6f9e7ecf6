"""``shifter demo`` as a newcomer runs it: a process, its output, and nothing left."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import uuid
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

COUNTS = {"offered", "accepted", "executed", "dead", "waiting", "lost", "duplicates"}
ROW = {"priority", "wait_p50_s", "wait_p99_s", *COUNTS} - {"lost", "duplicates"}
EMBEDDED = pytest.param("embedded", id="embedded")
SERVERS = pytest.param(
    "servers", id="servers", marks=[pytest.mark.kafka, pytest.mark.redis]
)


class Home:
    """A place of its own: where the demo runs, and all it may leave behind."""

    def __init__(self, folder, temp):
        self.folder, self.temp, self.options = folder, temp, []
        self.mark = str(uuid.uuid4())
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
        self.environ = {
            **kept,
            "TMPDIR": str(temp),
            "DEMO_TEST": self.mark,
            # A newcomer may have a real log configured; the demo keeps off it.
            "SHIFTER_LOG": "kafka://127.0.0.1:1",
            "SHIFTER_STATE": "redis://127.0.0.1:1/0",
        }
        (folder / "shifter.toml").write_text("this is not TOML")

    def command(self, *arguments):
        return [
            sys.executable,
            "-m",
            "shifter.cli",
            *self.options,
            "demo",
            "--out",
            "out",
            *arguments,
        ]

    def start(self, *arguments, **options):
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            text=True,
            **options,
        )

    def run(self, *arguments):
        with self.start(
            *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            out, err = process.communicate(timeout=110)
        return process.returncode, out, err

    def processes(self):
        """Ids of all processes that the demo started, itself included."""
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and (
                    self.mark.encode() in (folder / "environ").read_bytes()
                ):
                    found.append(int(folder.name))
        return found

    def is_quiet(self, within_s=8.0):
        """Whether nothing runs and nothing is left in the temporary folder.

        Sooner than the reaper would see to it, which has a grace of 12 s.
        """
        until = time.monotonic() + within_s
        while self.processes() or any(self.temp.iterdir()):
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    def files(self):
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != "shifter.toml"
        )


@pytest.fixture
def home(tmp_path):
    # Short: the backend's socket has its name in it.
    temp = Path(tempfile.mkdtemp(prefix="demo", dir="/tmp"))
    home = Home(tmp_path, temp)
    try:
        yield home
    finally:
        for pid in home.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(temp, ignore_errors=True)


@pytest.fixture(params=[EMBEDDED, SERVERS])
def anywhere(home, request):
    """The same home; on servers too, where there are any."""
    if request.param == "servers":
        log = request.getfixturevalue("kafka").url
        home.options = ["--log", log, "--state", request.getfixturevalue("redis_url")]
    return home


def line_with(stream, word, within_s=60.0):
    """Read lines up to one with this word."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        line = stream.readline()
        if word in line:
            return
        assert line, f"ended before it said {word!r}"
    raise AssertionError(f"never said {word!r}")


def test_a_headless_run_gives_one_object_and_leaves_two_files(anywhere):
    code, out, err = anywhere.run("--headless", "--seconds", "8", "--json")

    assert code == 0, err
    [line] = out.splitlines()
    numbers = json.loads(line)
    assert numbers["ok"]
    assert numbers["offered"] == numbers["accepted"] == numbers["executed"] > 400
    assert all(
        numbers[name] == 0
        for name in ("dead", "waiting", "lost", "duplicates", "unknown")
    )
    assert [row["priority"] for row in numbers["priorities"]] == [
        "CRITICAL",
        "HIGH",
        "NORMAL",
        "LOW",
    ]
    for row in numbers["priorities"]:
        assert row.keys() >= ROW
        assert row["offered"] > 0
        assert 0 <= row["wait_p50_s"] <= row["wait_p99_s"]
    assert 8 <= numbers["played_s"] < 20
    assert anywhere.files() == ["out/demo.json", "out/demo.svg"]
    assert numbers["plot"] == str(anywhere.folder / "out" / "demo.svg")
    assert ET.parse(numbers["plot"]).getroot().tag.endswith("svg")
    saved = json.loads((anywhere.folder / "out" / "demo.json").read_text())
    assert saved == {k: v for k, v in numbers.items() if k != "plot"}
    assert anywhere.is_quiet()


def test_a_broken_backend_poison_and_a_killed_worker_lose_nothing(anywhere):
    script = "3:break,5:heal,6:poison,7:kill"

    code, out, err = anywhere.run("--seconds", "10", "--json", "--script", script)

    assert code == 0, err
    numbers = json.loads(out)
    assert (numbers["lost"], numbers["duplicates"], numbers["waiting"]) == (0, 0, 0)
    assert numbers["executed"] + numbers["dead"] == numbers["accepted"]
    for row in numbers["priorities"]:
        # What is urgent recovers, and each priority's poison is a dead letter.
        assert row["dead"] == 1
        assert row["executed"] == row["offered"] - 1
    events = [event["event"] for event in numbers["events"]]
    [killed] = [re.match(r"worker (\d+) killed", e) for e in events if "killed" in e]
    started = [e for e in events if re.fullmatch(r"worker \d+ started", e)]
    assert f"worker {killed[1]} started" not in started
    assert len(started) == 1
    assert anywhere.is_quiet()


def test_ctrl_c_ends_with_an_account_and_leaves_nothing_running(home):
    with home.start(stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        line_with(process.stderr, "playing")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "CRITICAL" in out
    assert "lost 0, duplicates 0" in out
    assert home.files() == ["out/demo.json", "out/demo.svg"]
    assert home.is_quiet()


def deliver(process, number):
    """Send a signal and wait until it has arrived: two pending ones would be one."""
    process.send_signal(number)
    status = Path(f"/proc/{process.pid}/status")
    while (
        int(re.search(r"ShdPnd:\s*(\w+)", status.read_text())[1], 16) >> (number - 1)
        & 1
    ):
        time.sleep(0.001)


def test_a_second_ctrl_c_ends_at_once(home):
    with home.start(
        "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        line_with(process.stderr, "playing")
        deliver(process, signal.SIGINT)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)

    # The first one alone would have ended with an account.
    assert out == ""
    assert home.files() == []
    assert process.returncode == 130
    assert home.is_quiet()


def test_nothing_outlives_a_demo_that_is_killed(home):
    with home.start(
        "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        line_with(process.stderr, "playing")
        assert len(home.processes()) > 4
        process.kill()
        process.wait(30)

        assert home.is_quiet(within_s=40)


def test_workers_that_end_by_themselves_are_an_error_in_three_lines(home):
    with home.start(
        "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        line_with(process.stderr, "playing")
        for pid in home.processes():
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"shifter.cli\0work" in command and b"reaper" not in command:
                os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=60)

    assert process.returncode == 69
    assert json.loads(out)["error"]["kind"] == "demo"
    assert "error: the demo cannot go on" in err
    assert "Traceback" not in err
    assert home.is_quiet()


def on_a_terminal(home, keys, *arguments):
    """Run it on a terminal of 80 by 24; press each key after its text was seen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(home.folder)
        environ = {**home.environ, "TERM": "xterm-256color"}
        os.execve(sys.executable, home.command(*arguments), environ)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    seen, waiting = b"", list(keys)
    with contextlib.suppress(OSError):
        while select.select([terminal], [], [], 60)[0]:
            seen += (new := os.read(terminal, 65_536))
            if not new:
                break
            if waiting and waiting[0][0].encode() in seen:
                os.write(terminal, waiting.pop(0)[1].encode())
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), seen.decode()


def test_on_a_terminal_one_sees_it_and_every_key_is_heard(home):
    keys = [
        ("2 of 2 alive", "b"),
        ("DOWN", "h"),
        ("backend healed", "p"),
        ("poison jobs offered", "k"),
        ("killed (kill -9)", "x"),
        ("started", "q"),
    ]

    code, seen = on_a_terminal(home, keys)

    assert code == 0, seen[-3_000:]
    view, _, rest = seen.partition("\x1b[?1049l")
    assert "PRIORITY" in view
    assert "kill -9 a worker" in view
    assert "lost 0, duplicates 0: every accepted job ended, once" in rest
    assert re.search(r"all +\d+ +\d+ +4 +0", rest)
    assert home.is_quiet()


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--speed", "0"], 2, "--speed is out of range"),
        (["--seconds", "nan"], 2, "--seconds is out of range"),
        (["--script", "1:brake"], 2, "did you mean 'break'"),
        (["--out", "shifter.toml"], 73, "cannot be made"),
    ],
)
def test_what_cannot_be_is_said_at_once(home, arguments, code, word):
    command = [sys.executable, "-m", "shifter.cli", "demo", *arguments]

    result = subprocess.run(
        command,
        cwd=home.folder,
        env=home.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert result.returncode == code
    assert word in result.stderr
    assert result.stdout == ""
    assert home.is_quiet()

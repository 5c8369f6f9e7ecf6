"""`shifter top` in a real terminal (tmux), over a real log with real workers."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stack.errors import Missing
from stack.install import program

pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).parents[2]
WAIT_S = 60.0
JOBS = """
import asyncio
from shifter import Shifter

app = Shifter("shop")
mailer = app.dependency("mailer")

@app.job(queue="mail", uses=mailer)
async def send(number: int) -> None:
    await asyncio.sleep(0.2)
"""
# The foreground program of a pane: what it left of the terminal is shown behind it.
SHOWN = "; echo ended $?; stty -a | tr ' ' '\\n' | grep -E '^-?(icanon|echo);?$'; cat"


def tmux() -> str:
    try:
        return program("tmux", package="tmux", of="terminal")
    except Missing as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason))
        pytest.skip(str(reason))


class Screen:
    """One pane of a tmux server of its own, in a folder with an app.

    Args:
        folder: Where the app and its log are.
        environ: Settings of every command.
    """

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._tmux, self.folder, self.environ = tmux(), folder, environ
        self._socket = str(folder / "tmux")

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            [self._tmux, "-S", self._socket, "-f", os.devnull, *arguments],
            env={**self.environ, "LC_ALL": "C.UTF-8"},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *arguments: str, width: int = 80, height: int = 24) -> None:
        """Run ``shifter top`` in a new pane."""
        command = shlex.join([sys.executable, "-m", "shifter.cli", "top", *arguments])
        size = ("-x", str(width), "-y", str(height))
        self.tmux("new-session", "-d", *size, "echo before; " + command + SHOWN)
        self.tmux("set-option", "-g", "remain-on-exit", "on")

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    @property
    def text(self) -> str:
        return self.tmux("capture-pane", "-p")

    @property
    def pid(self) -> int:
        """The process of ``shifter top``."""
        shell = self.tmux("display-message", "-p", "#{pane_pid}").strip()
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text("ascii")
        return int(children.split()[0])

    def until(self, pattern: str) -> str:
        """Wait until the pane shows a text; returns all of it."""
        until = time.monotonic() + WAIT_S
        while True:
            text = self.text
            if re.search(pattern, text, re.MULTILINE):
                return text
            assert time.monotonic() < until, f"no {pattern!r} in:\n{text}"
            time.sleep(0.1)  # of the test, between two looks

    def restored(self) -> str:
        """Wait for the end; returns what the pane shows behind its own screen."""
        text = self.until(r"^echo$")
        assert re.search(r"^before$", text, re.MULTILINE), "another screen is left"
        assert re.search(r"^icanon$", text, re.MULTILINE), "keys come one by one"
        assert self.tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"
        return text

    def close(self) -> None:
        with contextlib.suppress(AssertionError):
            self.tmux("kill-server")


def settings(folder: Path) -> dict[str, str]:
    """The environment of every command over the log of a folder."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
    kept.pop("NO_COLOR", None)
    return {
        **kept,
        "SHIFTER_LOG": f"sqlite:///{folder}/log.db",
        "SHIFTER_NAMESPACE": "shop",
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture(scope="module")
def applied(tmp_path_factory):
    """A folder with an app and its log."""
    folder = tmp_path_factory.mktemp("applied")
    (folder / "jobs.py").write_text(JOBS)
    shifter(Screen(folder, settings(folder)), "topics", "apply", "jobs:app")
    return folder


@pytest.fixture
def screen(applied, tmp_path):
    shutil.copytree(applied, tmp_path, dirs_exist_ok=True)
    found = Screen(tmp_path, settings(tmp_path))
    yield found
    found.close()


def shifter(screen: Screen, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shifter.cli", *arguments],
        cwd=screen.folder,
        env=screen.environ,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def submit(screen: Screen, count: int) -> None:
    program = "from jobs import *\nwith app:\n for n in range(%d): send.defer_sync(n)"
    done = subprocess.run(
        [sys.executable, "-c", program % count],
        cwd=screen.folder,
        env=screen.environ,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def working(screen: Screen):
    """Workers while the block runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "shifter.cli", "work", "jobs:app", "--concurrency", "1"],
        cwd=screen.folder,
        env=screen.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def test_an_operator_watches_jobs_being_done(screen):
    submit(screen, 30)
    screen.start()

    text = screen.until(r"^mail/normal +30 +30 ")
    assert "Kept, but nobody works" in text
    assert text.startswith("SHIFTING shop at ")
    with working(screen):
        text = screen.until(r"^mail/normal +\d+ .* [1-9][\d.]*/s ")
        assert "Workers 1" in screen.until(r"^Dependencies 1")
        text = screen.until(r"^Done when\? +In about ")
        screen.until(r"^NORMAL ")
    screen.keys("q")

    assert "ended 0" in screen.restored()


def test_keys_filter_pause_and_explain(screen):
    screen.start(width=60, height=20)
    screen.until(r"^LANE +WAITING")

    screen.keys("/", "mail/low", "Enter")
    assert "Lanes 1 of 4" in screen.until(r"^filter mail/low  q quit")
    screen.keys("Escape", "s", "s")
    screen.until(r"^Lanes 4.*by waiting$")
    screen.keys("?")
    screen.until(r"^p pause +keep the picture")
    screen.keys("x", "p")
    screen.until(r"PAUSED")
    submit(screen, 3)
    paused = screen.until(r"UTC, [\d.]+s old")
    assert not re.search(r"^mail/normal +3", paused, re.MULTILINE)
    screen.keys("p")
    screen.until(r"^mail/normal +3 ")
    screen.tmux("resize-window", "-x", "100", "-y", "30")
    screen.until(r"^When will it be done\?")
    screen.keys("C-c")

    assert "ended 130" in screen.restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_the_terminal_as_it_was(screen, number):
    screen.start()
    screen.until(r"^LANE +WAITING")

    os.kill(screen.pid, number)

    ended = 130 if number is signal.SIGINT else 128 + number
    assert f"ended {ended}" in screen.restored()


def test_an_internal_error_leaves_the_terminal_as_it_was(screen):
    (screen.folder / "sitecustomize.py").write_text(
        "import shifter.cli.top.screen as screen\n"
        "def broken(*_): raise RuntimeError('broken')\n"
        "screen._answers = broken\n"
    )
    screen.environ["PYTHONPATH"] += f":{screen.folder}"

    screen.start()

    text = screen.restored()
    assert "RuntimeError: broken" in text
    assert "ended 70" in text


def test_a_stop_gives_the_terminal_back_until_it_goes_on(screen):
    screen.start()
    screen.until(r"^LANE +WAITING")
    pid = screen.pid

    os.kill(pid, signal.SIGTSTP)
    screen.until(r"^before$")
    assert screen.tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"
    os.kill(pid, signal.SIGCONT)
    screen.until(r"^LANE +WAITING")
    screen.keys("q")

    assert "ended 0" in screen.restored()


def test_a_hostile_text_moves_no_cursor(screen):
    reason = "\x1b[2J\x1b[H\u202egone"
    shifter(screen, "circuit", "open", "mailer", "--reason", reason, "--for", "1h")
    screen.start(width=160)

    text = screen.until(r"^mailer +open by hand .*: \\x1b\[2J\\x1b\[H\\u202egone$")

    assert text.startswith("DEGRADED")
    assert "Calls are kept back from mailer." in text
    screen.keys("q")
    screen.restored()


def test_a_store_that_is_away_is_named_and_top_goes_on(screen):
    screen.environ["SHIFTER_STATE"] = "redis://127.0.0.1:1"
    screen.start(width=120)
    text = screen.until(r"^workers are not shown: redis")
    assert "mail/normal" in text
    assert text.startswith("UNKNOWN")
    screen.keys("q")
    screen.restored()


def test_a_log_that_is_away_is_named_and_the_keys_work(screen):
    screen.environ["SHIFTER_LOG"] = "kafka://127.0.0.1:1"
    screen.start()
    screen.until(r"^The log is away; nothing is renewed: kafka")
    screen.keys("?")
    screen.until(r"^q quit +end")
    screen.keys("q")

    assert "ended 0" in screen.restored()


@pytest.mark.parametrize("colors", [True, False])
def test_no_color_is_honoured(screen, colors):
    if not colors:
        screen.environ["NO_COLOR"] = "1"
    screen.start()
    screen.until(r"^LANE +WAITING")

    drawn = screen.tmux("capture-pane", "-p", "-e")

    assert bool(re.search(r"\x1b\[[\d;]*3[1-7]", drawn)) is colors
    screen.keys("q")
    screen.restored()


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_without_a_terminal_the_error_names_status_watch(screen, term):
    command = [sys.executable, "-m", "shifter.cli", "top"]
    done = subprocess.run(
        command,
        cwd=screen.folder,
        env={**screen.environ, "TERM": term},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert done.stdout == ""
    assert "shifter status --watch" in done.stderr
    assert len(done.stderr.splitlines()) == 3

"""`make stack`: a pair that stays, is found again and can be taken down."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import uuid

import pytest

from stack.home import HOME
from stack.process import mark_of

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.timeout(240),
]


@pytest.fixture
def stack(kafka, redis_url):
    """Runs ``python -m stack`` on a stack of this test's own; stdout and exit code."""
    name = f"test-{uuid.uuid4().hex[:8]}"

    def run(*arguments: str) -> tuple[str, int]:
        command = [sys.executable, "-m", "stack", *arguments, "--name", name]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=False, cwd=HOME.parent
        )
        return done.stdout, done.returncode

    run.processes = lambda: json.loads((HOME / f"stack-{name}.json").read_text())[
        "processes"
    ]
    yield run
    run("down")


def test_up_prints_only_two_exports_and_is_idempotent(stack):
    first, code = stack("up")
    again, _ = stack("up")

    words = [shlex.split(line) for line in first.splitlines()]
    assert code == 0
    assert again == first
    assert [word[0] for word in words] == ["export", "export"]
    assert words[0][1].startswith("SHIFTER_LOG=kafka://127.0.0.1:")
    assert words[1][1].startswith("SHIFTER_STATE=redis://127.0.0.1:")


def test_down_ends_every_process_and_reports_it_twice(stack):
    stack("up")
    processes = stack.processes()
    assert len(processes) == 2
    assert stack("status") == ("", 0)

    assert stack("down") == ("", 0)

    assert all(mark_of(one["pid"]) is None for one in processes)
    assert stack("status") == ("", 3)
    assert stack("down") == ("", 0)


def test_a_stack_of_which_a_part_died_is_made_anew(stack):
    stack("up")
    old = stack.processes()
    subprocess.run(["kill", "-9", str(old[0]["pid"])], check=True)

    _, code = stack("up")

    new = stack.processes()
    assert code == 0
    assert {one["pid"] for one in old}.isdisjoint(one["pid"] for one in new)
    assert mark_of(old[1]["pid"]) is None

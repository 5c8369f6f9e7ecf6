"""`shifter completion`, and `python -m shifter`."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from shifter.cli.verbs import VERBS

COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
$(complete -p shifter | sed -E 's/.*-F ([^ ]+) .*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (("dl",), {"dlt"}),
        (("dlt", "re"), {"replay"}),
        (("circuit", ""), {"list", "open", "close", "auto"}),
        (("work", "--conc"), {"--concurrency"}),
    ],
    ids=" ".join,
)
def test_bash_completes_verbs_and_options(world, tmp_path, typed, expected):
    script = tmp_path / "shifter"
    script.write_text(world.run("completion", "bash").out)

    done = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", script, "shifter", *typed],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stderr == ""
    assert expected <= set(done.stdout.split())


@pytest.mark.parametrize(
    ("shell", "first"), [("zsh", "#compdef shifter"), ("fish", "# Fish completion")]
)
def test_other_shells_get_a_script_that_names_every_verb(world, shell, first):
    script = world.run("completion", shell).out

    assert script.startswith(first)
    assert [verb.words[-1] for verb in VERBS if verb.words[-1] not in script] == []


def test_the_package_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "shifter", "version"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == f"shifter {version('shifter-queue')}\n"

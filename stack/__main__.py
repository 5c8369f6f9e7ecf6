"""``python -m stack install | up [--brokers N] [--secure] | down | status | sums``.

``up`` prints the two ``export`` lines on standard output and everything else on
standard error, so that ``eval "$(make -s stack)"`` works. It is idempotent: a stack
that runs is used again. ``--name`` tells apart stacks that run side by side.
"""

from __future__ import annotations

import argparse
import shlex
import sys

from stack.errors import StackError
from stack.install import say, write_sums
from stack.local import LocalStack, install

_UNAVAILABLE = 69
_NOT_RUNNING = 3


def main() -> int:
    """Run one verb; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stack")
    parser.add_argument("verb", choices=["install", "up", "down", "status", "sums"])
    parser.add_argument("--brokers", type=int, choices=[1, 3], default=1)
    parser.add_argument("--name", default="default", help="one of several stacks")
    parser.add_argument("--secure", action="store_true", help="TLS, SCRAM and ACLs")
    arguments = parser.parse_args()
    try:
        return _run(arguments)
    except StackError as error:
        say(str(error))
        return _UNAVAILABLE


def _run(arguments: argparse.Namespace) -> int:
    verb: str = arguments.verb
    pair = LocalStack(arguments.name)
    match verb:
        case "install":
            install()
        case "sums":
            write_sums()
        case "up":
            state = pair.up(brokers=arguments.brokers, secure=arguments.secure)
            print(f"export SHIFTER_LOG={shlex.quote(state['log'])}")
            print(f"export SHIFTER_STATE={shlex.quote(state['state'])}")
        case "down":
            say("stopped" if pair.down() else "was not running")
        case "status":
            is_up = pair.running() is not None
            say("up" if is_up else "down")
            return 0 if is_up else _NOT_RUNNING
        case _:
            raise StackError(f"unknown verb {verb!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

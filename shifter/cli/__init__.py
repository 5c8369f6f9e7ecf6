"""The command ``shifter``: data to stdout, progress and logs to stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

from shifter.supervise.init_process import become_init


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: Without the program's name; by default the process's.
    """
    ended = become_init()
    if ended is not None:
        return ended
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    if tokens in (["version"], ["--version"]):
        # Scripts and health checks ask for it: the parser would double its price.
        from shifter.cli.version import version  # noqa: PLC0415

        # An output that cannot be written is reported below, as for any other verb.
        with contextlib.suppress(OSError):
            version()
            sys.stdout.flush()
            return 0
    from shifter.cli.entry import run  # noqa: PLC0415

    return run(tokens)

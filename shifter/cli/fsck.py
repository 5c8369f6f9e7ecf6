"""``shifter log fsck``, ``shifter spool fsck``: read a file, set damage aside."""

from __future__ import annotations

from pathlib import Path

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.cli.columns import instant_text
from shifter.cli.output import note, write_json, write_line, write_table
from shifter.cli.problem import Exit, Problem, ProblemError
from shifter.cli.session import InSession, need_log
from shifter.cli.spool import need_spool

_COLUMNS = ("was at", "found", "bytes")


def log(*, json: bool = False, session: InSession) -> int:
    """Read every record of an embedded log; ends with 3 if any was damaged.

    A damaged record is set aside, all others stay. Where a page of the file cannot be
    read, stop what uses it first: a sound file takes its place, and the damaged one is
    kept beside it.

    Args:
        json: One JSON object.
        session: This command line.
    """
    path = wiring.log_path(need_log(session.settings()))
    if path is None:
        raise ProblemError(
            Problem(
                "no_file",
                "the log is not a file",
                "only an embedded log is checked here; Kafka checks its own records",
                "point --log at a file: sqlite:///var/lib/shop.db",
                Exit.CONFIG,
            )
        )
    return _check(path, as_json=json)


def spool(*, json: bool = False, session: InSession) -> int:
    """Read every record of the spool; ends with 3 if any was damaged.

    What is damaged is set aside, as by `shifter log fsck`.

    Args:
        json: One JSON object.
        session: This command line.
    """
    return _check(need_spool(session.settings()), as_json=json)


def _check(path: Path, *, as_json: bool) -> int:
    clock = SystemClock()
    found = wiring.check_file(path, clock)
    if as_json:
        write_json(
            {
                "as_of_ms": clock.epoch_ms(),
                "file": str(path),
                **found._asdict(),
                "kept": None if found.kept is None else str(found.kept),
                "set_aside": [one._asdict() for one in found.set_aside],
            }
        )
    else:
        write_line(f"{path}: {found.records} sound records")
        rows = [(at, instant_text(ms), size) for at, ms, size in found.set_aside]
        if rows:
            write_table(_COLUMNS, rows, empty="")
    if found.damaged:
        note(f"{found.damaged} damaged records were set aside")
    if found.kept is not None:
        note(f"{found.unreadable} records could not be read")
        note(f"the damaged file is kept: {found.kept}")
    return Exit.PARTIAL if found.damaged or found.kept is not None else Exit.OK

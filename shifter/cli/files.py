"""`shifter spool` and `shifter log fsck`: the files of this machine.

A spool holds the jobs that a service accepted while Kafka was away; an embedded log
holds a whole deployment's jobs. Only the checks of damage change a file's records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.cli.output import note, write_json, write_line, write_rows, write_table
from shifter.cli.problem import Exit, ProblemError
from shifter.cli.progress import scan_progress
from shifter.cli.session import InSession, need_log
from shifter.config import Settings
from shifter.deadletter.reader import ScanProgress
from shifter.ops.texts import instant_text
from shifter.ports import SpoolDepth
from shifter.produce.forward import forward

_SPOOL_COLUMNS: Final = ("file", "waiting", "oldest", "refused", "used")
_DAMAGE_COLUMNS: Final = ("was at", "found", "bytes")
# How long the log may take to answer for the last records that were forwarded.
_FLUSH_S: Final = 10.0


def spool_status(*, json: bool = False, session: InSession) -> None:
    """Show what waits on this machine for Kafka to come back.

    Example: shifter spool status --json

    Args:
        json: Print one JSON object.
        session: This command line.
    """
    with _opened(session.settings()) as (path, spool):
        depth = spool.depth()
        _show(path, depth, as_json=json)


def spool_flush(*, json: bool = False, session: InSession) -> int:
    """Forward everything in the spool to the log now.

    Running services do so by themselves. This is for a machine whose services are
    stopped, before its disk is removed. It ends with 3 if something stays in the spool.

    Example: shifter spool flush

    Args:
        json: Print one JSON object: what is left.
        session: This command line.
    """
    settings = session.settings()
    log = wiring.open_log(settings)
    with _opened(settings) as (path, spool), spool.forwarding() as is_ours:
        if not is_ours:
            raise ProblemError(
                "busy",
                "another process forwards this spool",
                f"it holds {path}.forward",
                "let it: shifter spool status shows how far it is",
                Exit.TRY_LATER,
            )
        # After an interruption nothing is awaited: unanswered records stay here.
        close_s = 0.0
        try:
            _forward_all(spool, log)
            close_s = _FLUSH_S
        finally:
            log.close(timeout_s=close_s)
        depth = spool.depth()
        _show(path, depth, as_json=json)
        return Exit.PARTIAL if depth.waiting or depth.refused else Exit.OK


def log_fsck(*, json: bool = False, session: InSession) -> int:
    """Read every record of an embedded log, and set damaged ones aside.

    Sound records stay where they are. Where a page of the file cannot be read, stop the
    programs that use the file first: a sound file takes its place, and the damaged one
    is kept beside it. It ends with 3 if a record was damaged.

    Example: shifter log fsck --log sqlite:///var/lib/shop.db

    Args:
        json: Print one JSON object.
        session: This command line.
    """
    path = wiring.log_path(need_log(session.settings()))
    if path is None:
        raise ProblemError(
            "no_file",
            "the log is not a file",
            "only an embedded log is checked here; Kafka checks its own records",
            "point --log at a file: sqlite:///var/lib/shop.db",
            Exit.CONFIG,
        )
    return _check(path, as_json=json)


def spool_fsck(*, json: bool = False, session: InSession) -> int:
    """Read every record of the spool, and set damaged ones aside.

    Damage is treated as by `shifter log fsck`.

    Example: shifter spool fsck --json

    Args:
        json: Print one JSON object.
        session: This command line.
    """
    return _check(_need_spool(session.settings()), as_json=json)


def _need_spool(settings: Settings) -> Path:
    """The spool's file.

    Raises:
        ProblemError: There is none.
    """
    path = wiring.spool_path(settings)
    if path is None:
        raise ProblemError(
            "no_spool",
            "there is no spool",
            "the log is not Kafka, or spool is off",
            "a spool is for SHIFTER_LOG=kafka://… with SHIFTER_SPOOL=auto",
            Exit.CONFIG,
        )
    return path


@contextlib.contextmanager
def _opened(settings: Settings) -> Generator[tuple[Path, Any]]:
    path = _need_spool(settings)
    spool = wiring.open_spool(settings, path)
    try:
        yield path, spool
    finally:
        spool.close()


def _forward_all(spool: Any, log: Any) -> None:
    spool.put_back()
    moved, total = 0, spool.depth().waiting
    with scan_progress("forwarding", SystemClock()) as on_progress:
        while count := forward(spool, log):
            moved += count
            on_progress(ScanProgress(moved, total, {}))


def _show(path: Path, depth: SpoolDepth, *, as_json: bool) -> None:
    now_ms = SystemClock().epoch_ms()
    facts = {"as_of_ms": now_ms, "file": str(path), **depth._asdict()}
    facts.pop("first")
    oldest = "-" if depth.oldest_ms is None else instant_text(depth.oldest_ms)
    row = (path, depth.waiting, oldest, depth.refused, f"{depth.used:.1%}")
    write_rows(_SPOOL_COLUMNS, [row], facts, as_json=as_json, empty="")
    if depth.refused and not as_json:
        note(f"{depth.refused} records were refused by the log and are kept here")


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
            write_table(_DAMAGE_COLUMNS, rows, empty="")
    if found.damaged:
        note(f"{found.damaged} damaged records were set aside")
    if found.kept is not None:
        note(f"{found.unreadable} records could not be read")
        note(f"the damaged file is kept: {found.kept}")
    return Exit.PARTIAL if found.damaged or found.kept is not None else Exit.OK

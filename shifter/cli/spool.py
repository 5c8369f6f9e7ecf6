"""``shifter spool status|flush``: jobs a service accepted while Kafka was away."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.cli.columns import instant_text
from shifter.cli.output import note, write_json, write_table
from shifter.cli.problem import Exit, Problem, ProblemError
from shifter.cli.session import InSession
from shifter.config import Settings
from shifter.ports import SpoolDepth
from shifter.produce.forward import forward

_COLUMNS: Final = ("file", "waiting", "oldest", "refused", "used")
_FLUSH_S: Final = 10.0


def status(*, json: bool = False, session: InSession) -> None:
    """Show what waits on this machine for Kafka to come back.

    Args:
        json: One JSON object.
        session: This command line.
    """
    with _opened(session.settings()) as (path, spool):
        depth = spool.depth()
        _show(path, depth, as_json=json)


def flush(*, json: bool = False, session: InSession) -> int:
    """Bring everything to the log now; ends with 3 if something stays here.

    Services that run do so by themselves. This is for a machine whose services are
    stopped, and before its disk is given away.

    Args:
        json: One JSON object: what is left.
        session: This command line.
    """
    settings = session.settings()
    log = wiring.open_log(settings)
    with _opened(settings) as (path, spool), spool.forwarding() as is_ours:
        if not is_ours:
            raise ProblemError(
                Problem(
                    "busy",
                    "another process forwards this spool",
                    f"it holds {path}.forward",
                    "let it: shifter spool status shows how far it is",
                    Exit.TRY_LATER,
                )
            )
        # Interrupted: what has no answer yet stays here, nobody need wait for it.
        close_s = 0.0
        try:
            _forward_all(spool, log)
            close_s = _FLUSH_S
        finally:
            log.close(timeout_s=close_s)
        depth = spool.depth()
        _show(path, depth, as_json=json)
        return Exit.PARTIAL if depth.waiting or depth.refused else Exit.OK


def need_spool(settings: Settings) -> Path:
    """The spool's file.

    Raises:
        ProblemError: There is none.
    """
    path = wiring.spool_path(settings)
    if path is None:
        raise ProblemError(
            Problem(
                "no_spool",
                "there is no spool",
                "the log is not Kafka, or spool is off",
                "a spool is for SHIFTER_LOG=kafka://… with SHIFTER_SPOOL=auto",
                Exit.CONFIG,
            )
        )
    return path


@contextlib.contextmanager
def _opened(settings: Settings) -> Generator[tuple[Path, Any]]:
    path = need_spool(settings)
    spool = wiring.open_spool(settings, path)
    try:
        yield path, spool
    finally:
        spool.close()


def _forward_all(spool: Any, log: Any) -> None:
    console = Console(file=sys.stderr)
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    spool.put_back()
    total = spool.depth().waiting
    with bar:
        task = bar.add_task("to the log", total=total)
        while moved := forward(spool, log):
            bar.advance(task, moved)


def _show(path: Path, depth: SpoolDepth, *, as_json: bool) -> None:
    if as_json:
        found = {
            "as_of_ms": SystemClock().epoch_ms(),
            "file": str(path),
            **depth._asdict(),
        }
        found.pop("first")
        write_json(found)
        return
    oldest = "-" if depth.oldest_ms is None else instant_text(depth.oldest_ms)
    row = (path, depth.waiting, oldest, depth.refused, f"{depth.used:.1%}")
    write_table(_COLUMNS, [row], empty="")
    if depth.refused:
        note(f"{depth.refused} records were refused by the log and are kept here")

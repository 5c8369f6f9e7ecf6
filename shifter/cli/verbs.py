"""Every verb of the command: where its function is, what it does, how it may end.

A verb is imported when it is called, or when its own `--help` is asked for; a list of
verbs is made of this table alone. Each summary is the first line of its function.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from shifter.cli.problem import Exit


class Verb(NamedTuple):
    """One verb.

    Attributes:
        name: The last of the words that call it, such as ``open``.
        path: ``module:function`` under `shifter.cli`.
        summary: First line of the function's docstring.
        codes: Exit codes besides those that every command may end with.
    """

    name: str
    path: str
    summary: str
    codes: tuple[Exit, ...] = ()


class Group(NamedTuple):
    """Verbs that share their first word.

    Attributes:
        name: That word.
        summary: One line for the list of commands.
        verbs: The verbs, in the order of the help.
    """

    name: str
    summary: str
    verbs: tuple[Verb, ...]


_WORDS: Final = {
    Exit.OK: "done",
    Exit.FAILURE: "failed",
    Exit.USAGE: "usage",
    Exit.PARTIAL: "in part",
    Exit.DATA: "data",
    Exit.UNAVAILABLE: "unavailable",
    Exit.SOFTWARE: "internal error",
    Exit.CANNOT_CREATE: "cannot create",
    Exit.OUTPUT: "output",
    Exit.TRY_LATER: "try later",
    Exit.NO_PERMISSION: "not permitted",
    Exit.CONFIG: "settings",
    Exit.INTERRUPTED: "Ctrl-C",
    Exit.BROKEN_PIPE: "reader gone",
}
_EVERY: Final = (
    *(Exit.OK, Exit.FAILURE, Exit.USAGE, Exit.SOFTWARE, Exit.OUTPUT),
    *(Exit.INTERRUPTED, Exit.BROKEN_PIPE),
)
"""Any command may end with these."""
_STORES: Final = (Exit.UNAVAILABLE, Exit.NO_PERMISSION, Exit.CONFIG)
"""A command that needs the log or the state store may end with these."""
_RUN: Final = (Exit.PARTIAL, Exit.DATA, Exit.TRY_LATER, *_STORES)
"""A run over dead letters may end with these."""

VERBS: Final = (
    Verb("work", "work:work", "Run workers for an app.", _STORES),
    Verb(
        "submit",
        "submit:submit",
        "Submit one job and print its id once it is durable.",
        (Exit.DATA, Exit.TRY_LATER, *_STORES),
    ),
    Verb(
        "status",
        "status:status",
        "Show lanes, dead letters, circuits and workers of a namespace.",
        _STORES,
    ),
    Verb(
        "explain",
        "explain:explain",
        "Show what would happen to a job now, rule by rule.",
        _STORES,
    ),
    Verb(
        "demo",
        "demo:demo",
        "Play a recorded overload and watch it being shifted in time.",
        (Exit.PARTIAL, Exit.UNAVAILABLE, Exit.CANNOT_CREATE),
    ),
    Verb(
        "doctor",
        "doctor:doctor",
        "Check log, state store, topics and versions, each finding with its fix.",
        (Exit.PARTIAL, Exit.UNAVAILABLE, Exit.CONFIG),
    ),
    Verb(
        "schemas",
        "schemas:schemas",
        "List the published wire contracts, write them, or check a folder of them.",
        (Exit.CANNOT_CREATE,),
    ),
    Verb("version", "version:version", "Show the version."),
)
GROUPS: Final = (
    Group(
        "topics",
        "Create and change the topics of an app.",
        (
            Verb(
                "plan",
                "topics:plan",
                "Show every topic that an app needs, and what `apply` would change.",
                _STORES,
            ),
            Verb(
                "apply",
                "topics:apply",
                "Create the missing topics of an app, and widen those that are narrow.",
                (Exit.PARTIAL, *_STORES),
            ),
            Verb(
                "diff",
                "topics:diff",
                "Show only the topics that differ from what an app needs.",
                _STORES,
            ),
        ),
    ),
    Group(
        "job",
        "Show or cancel one job.",
        (
            Verb("show", "job:show", "Show the state of a job.", _STORES),
            Verb(
                "cancel",
                "job:cancel",
                "Ask that a job not run, or not run again.",
                _STORES,
            ),
        ),
    ),
    Group(
        "circuit",
        "Show circuits; open or close them by hand.",
        (
            Verb(
                "list",
                "fleet:list_circuits",
                "Show the circuit and the calls of every dependency of the fleet.",
                _STORES,
            ),
            Verb(
                "open",
                "fleet:open_circuit",
                "Keep all processes from calling a dependency, for a while.",
                _STORES,
            ),
            Verb(
                "close",
                "fleet:close_circuit",
                "Let all processes call a dependency, for a while.",
                _STORES,
            ),
            Verb(
                "auto",
                "fleet:auto_circuit",
                "Remove the override of a circuit, so that the fleet decides again.",
                _STORES,
            ),
        ),
    ),
    Group(
        "budget",
        "Show retry budgets.",
        (
            Verb(
                "list",
                "fleet:list_budgets",
                "Show the retry budget of every dependency of the fleet.",
                _STORES,
            ),
        ),
    ),
    Group(
        "quality",
        "Show the quality of answers, or set it by hand.",
        (
            Verb(
                "show",
                "fleet:show_quality",
                "Show the quality that the fleet serves at, and the load.",
                _STORES,
            ),
            Verb(
                "set",
                "fleet:set_quality",
                "Set the quality of the whole fleet by hand, for a while.",
                _STORES,
            ),
            Verb(
                "auto",
                "fleet:auto_quality",
                "Remove the override of the quality, so that load decides again.",
                _STORES,
            ),
        ),
    ),
    Group(
        "window",
        "Show execution windows, and override them for a while.",
        (
            Verb(
                "list",
                "fleet:list_windows",
                "Show overrides of execution windows, and the windows of an app.",
                _STORES,
            ),
            Verb(
                "open-now",
                "fleet:open_windows",
                "Let jobs start now, whatever their execution windows are.",
                _STORES,
            ),
            Verb(
                "close-now",
                "fleet:close_windows",
                "Start no more jobs, whatever their execution windows are.",
                _STORES,
            ),
            Verb(
                "auto",
                "fleet:auto_windows",
                "Remove an override, so that the execution windows count again.",
                _STORES,
            ),
        ),
    ),
    Group(
        "dlt",
        "Show dead letters, replay them, or mark them as handled.",
        (
            Verb(
                "list",
                "dlt:list_",
                "Group the dead letters of a queue or topic by their failure.",
                _STORES,
            ),
            Verb(
                "show",
                "dlt:show",
                "Show one dead letter whole: reason, route, stack, headers, payload.",
                _STORES,
            ),
            Verb(
                "runs",
                "dlt:runs",
                "Show the runs of the namespace: replays, discards, edits and imports.",
                _STORES,
            ),
            Verb(
                "replay",
                "dlt_replay:replay",
                "Send dead letters back to their topics, each of them once.",
                _RUN,
            ),
            Verb(
                "discard",
                "dlt_replay:discard",
                "Mark dead letters as handled without replaying them.",
                _RUN,
            ),
            Verb(
                "export",
                "dlt_files:export",
                "Write dead letters whole to a file, one a line.",
                (Exit.CANNOT_CREATE, *_STORES),
            ),
            Verb(
                "import",
                "dlt_files:import_",
                "Append exported dead letters to a dead-letter topic.",
                (Exit.DATA, Exit.TRY_LATER, *_STORES),
            ),
            Verb(
                "edit",
                "dlt_files:edit",
                "Give one dead letter another payload, and keep the original.",
                (Exit.DATA, Exit.TRY_LATER, *_STORES),
            ),
        ),
    ),
    Group(
        "spool",
        "Show, forward or check the jobs that wait on this machine for Kafka.",
        (
            Verb(
                "status",
                "files:spool_status",
                "Show what waits on this machine for Kafka to come back.",
                (Exit.CONFIG,),
            ),
            Verb(
                "flush",
                "files:spool_flush",
                "Forward everything in the spool to the log now.",
                (Exit.PARTIAL, Exit.TRY_LATER, *_STORES),
            ),
            Verb(
                "fsck",
                "files:spool_fsck",
                "Read every record of the spool, and set damaged ones aside.",
                (Exit.PARTIAL, *_STORES),
            ),
        ),
    ),
    Group(
        "log",
        "Check and repair an embedded log.",
        (
            Verb(
                "fsck",
                "files:log_fsck",
                "Read every record of an embedded log, and set damaged ones aside.",
                (Exit.PARTIAL, *_STORES),
            ),
        ),
    ),
    Group(
        "config",
        "Show the settings.",
        (
            Verb(
                "show",
                "config:show",
                "Show all settings; secrets are masked.",
                (Exit.CONFIG,),
            ),
        ),
    ),
)


def exit_codes(codes: Iterable[Exit] | None = None) -> str:
    """The exit codes of a verb as one sentence; of all verbs together by default."""
    chosen = _WORDS if codes is None else {*_EVERY, *codes}
    shown = (f"{code:d} {_WORDS[code]}" for code in Exit if code in chosen)
    return f"Exit codes: {', '.join(shown)}."

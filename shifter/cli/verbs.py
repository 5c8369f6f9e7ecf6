"""Every verb of the command: where its function is, what it does, how it may end.

A verb is imported when it is called, or when its own `--help` is asked for; a list of
verbs is made of this table alone. Each summary is the first line of its function.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from shifter.cli.problem import Exit

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

# Module of a verb, or of all verbs with the same first word, where it has another name.
_MODULES: Final = {
    "top": "top.verb",
    "submit": "job",
    "explain": "job",
    "job show": "job_history",
    "job list": "job_history",
    "doctor": "deployment",
    "topics": "deployment",
    "config": "deployment",
    "schemas": "version",
    "circuit": "fleet",
    "budget": "fleet",
    "quality": "fleet",
    "window": "fleet",
    "spool": "files",
    "log": "files",
    "dlt replay": "dlt_replay",
    "dlt discard": "dlt_replay",
    "dlt show": "dlt_letters",
    "dlt edit": "dlt_letters",
    "dlt export": "dlt_letters",
    "dlt import": "dlt_letters",
}


class Verb(NamedTuple):
    """One verb.

    Attributes:
        name: Its words, such as ``circuit open``.
        summary: First line of its function's docstring.
        codes: Exit codes besides those that every command may end with.
    """

    name: str
    summary: str
    codes: tuple[Exit, ...] = _STORES

    @property
    def words(self) -> tuple[str, ...]:
        """The words that call it: its own, behind that of its group if it has one."""
        return tuple(self.name.split())

    @property
    def path(self) -> str:
        """``module:function`` under `shifter.cli`; the function is named by the words.

        >>> Verb("window open-now", "").path
        'fleet:window_open_now'
        """
        first = self.words[0]
        module = _MODULES.get(self.name, _MODULES.get(first, first))
        return f"{module}:{self.name.replace(' ', '_').replace('-', '_')}"


GROUPS: Final = {
    "topics": "Create and change the topics of an app.",
    "job": "List jobs; show or cancel one.",
    "lane": "Look into a lane.",
    "worker": "Drain one worker.",
    "cron": "Show cron jobs; run one now, pause it, or resume it.",
    "circuit": "Show circuits; open or close them by hand.",
    "dependency": "Show the endpoints of dependencies; drain or restore one.",
    "budget": "Show retry budgets.",
    "quality": "Show the quality of answers, or set it by hand.",
    "window": "Show execution windows, and override them for a while.",
    "dlt": "Show dead letters, replay them, or mark them as handled.",
    "spool": "Show, forward or check the jobs that wait on this machine for Kafka.",
    "log": "Check and repair an embedded log.",
    "config": "Show the settings.",
}
"""First word of several verbs, and one line about them for the list of commands."""

VERBS: Final = (
    Verb("work", "Run workers for an app."),
    Verb(
        "submit",
        "Submit one job and print its id once it is durable.",
        (Exit.DATA, Exit.TRY_LATER, *_STORES),
    ),
    Verb("status", "Show lanes, dead letters, circuits and workers of a namespace."),
    Verb("web", "Serve the operator's page for an app."),
    Verb(
        "top", "Show lanes, dependencies and workers on the whole terminal, with keys."
    ),
    Verb("explain", "Show what would happen to a job now, rule by rule."),
    Verb("scale", "Show how many workers each worker group should have, and why."),
    Verb(
        "scaler",
        "Tell KEDA how many workers each worker group should have, over gRPC.",
    ),
    Verb(
        "plan",
        "Plan a fleet and its servers for a workload, and check the plan.",
        (Exit.CANNOT_CREATE, *_STORES),
    ),
    Verb(
        "demo",
        "Play a recorded overload and watch it being shifted in time.",
        (Exit.PARTIAL, Exit.UNAVAILABLE, Exit.CANNOT_CREATE),
    ),
    Verb(
        "doctor",
        "Check log, state store, topics and versions, each finding with its fix.",
        (Exit.PARTIAL, Exit.UNAVAILABLE, Exit.CONFIG),
    ),
    Verb(
        "schemas",
        "List the published wire contracts, write them, or check a folder of them.",
        (Exit.CANNOT_CREATE,),
    ),
    Verb("completion", "Print the script that completes this command in a shell.", ()),
    Verb("version", "Show the version.", ()),
    Verb(
        "topics plan",
        "Show every topic that an app needs, and what `apply` would change.",
    ),
    Verb(
        "topics apply",
        "Create the missing topics of an app, and widen those that are narrow.",
        (Exit.PARTIAL, *_STORES),
    ),
    Verb("topics diff", "Show only the topics that differ from what an app needs."),
    Verb("job show", "Show the state and the history of a job."),
    Verb("job list", "List jobs that wait or run, and those that ended lately."),
    Verb("job cancel", "Ask that a job not run, or not run again."),
    Verb(
        "worker drain",
        "Let one worker finish what it runs, and end it; no other one is started "
        "instead.",
    ),
    Verb(
        "lane peek",
        "Show the first waiting and delayed jobs of a lane, and take none of them.",
    ),
    Verb(
        "cron list",
        "Show cron jobs: when each fired last, how that ended, and when it fires next.",
    ),
    Verb(
        "cron run",
        "Run a cron job once, now, and print the id of its job.",
        (Exit.TRY_LATER, *_STORES),
    ),
    Verb("cron pause", "Let a cron job not fire, for a while."),
    Verb("cron resume", "End the pause of a cron job."),
    Verb(
        "circuit list",
        "Show the circuit and the calls of every dependency of the fleet.",
    ),
    Verb("circuit open", "Keep all processes from calling a dependency, for a while."),
    Verb("circuit close", "Let all processes call a dependency, for a while."),
    Verb(
        "circuit auto",
        "Remove the override of a circuit, so that the fleet decides again.",
    ),
    Verb("dependency list", "Show how many endpoints each dependency has, by state."),
    Verb(
        "dependency show",
        "Show the endpoints of a dependency: state, weight, calls, latency, errors.",
    ),
    Verb(
        "dependency drain",
        "Keep all processes from calling an endpoint, for a while.",
    ),
    Verb("dependency restore", "Let all processes call an endpoint again."),
    Verb("budget list", "Show the retry budget of every dependency of the fleet."),
    Verb("quality show", "Show the quality that the fleet serves at, and the load."),
    Verb("quality set", "Set the quality of the whole fleet by hand, for a while."),
    Verb(
        "quality auto",
        "Remove the override of the quality, so that load decides again.",
    ),
    Verb(
        "window list", "Show overrides of execution windows, and the windows of an app."
    ),
    Verb(
        "window open-now", "Let jobs start now, whatever their execution windows are."
    ),
    Verb(
        "window close-now", "Start no more jobs, whatever their execution windows are."
    ),
    Verb(
        "window auto", "Remove an override, so that the execution windows count again."
    ),
    Verb("dlt list", "Group the dead letters of a queue or topic by their failure."),
    Verb(
        "dlt show",
        "Show one dead letter whole: reason, route, stack, headers, payload.",
    ),
    Verb(
        "dlt runs",
        "Show the runs of the namespace: replays, discards, edits and imports.",
    ),
    Verb(
        "dlt replay", "Send dead letters back to their topics, each of them once.", _RUN
    ),
    Verb("dlt discard", "Mark dead letters as handled without replaying them.", _RUN),
    Verb(
        "dlt export",
        "Write dead letters whole to a file, one a line.",
        (Exit.CANNOT_CREATE, *_STORES),
    ),
    Verb(
        "dlt import",
        "Append exported dead letters to a dead-letter topic.",
        (Exit.DATA, Exit.TRY_LATER, *_STORES),
    ),
    Verb(
        "dlt edit",
        "Give one dead letter another payload, and keep the original.",
        (Exit.DATA, Exit.TRY_LATER, *_STORES),
    ),
    Verb(
        "spool status",
        "Show what waits on this machine for Kafka to come back.",
        (Exit.CONFIG,),
    ),
    Verb(
        "spool flush",
        "Forward everything in the spool to the log now.",
        (Exit.PARTIAL, Exit.TRY_LATER, *_STORES),
    ),
    Verb(
        "spool fsck",
        "Read every record of the spool, and set damaged ones aside.",
        (Exit.PARTIAL, *_STORES),
    ),
    Verb(
        "log fsck",
        "Read every record of an embedded log, and set damaged ones aside.",
        (Exit.PARTIAL, *_STORES),
    ),
    Verb("config show", "Show all settings; secrets are masked.", (Exit.CONFIG,)),
)


def exit_codes(codes: Iterable[Exit] | None = None) -> str:
    """The exit codes of a verb as one sentence; of all verbs together by default."""
    chosen = _WORDS if codes is None else {*_EVERY, *codes}
    shown = (f"{code:d} {_WORDS[code]}" for code in Exit if code in chosen)
    return f"Exit codes: {', '.join(shown)}."

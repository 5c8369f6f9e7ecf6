"""Parses a command line, runs one verb, and turns every end into an exit code.

Verbs are imported when they are called: ``shifter version`` must not pay for Kafka.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

from cyclopts import App, CycloptsError, Parameter, UnknownCommandError

from shifter.cli.output import report
from shifter.cli.problem import Exit, Problem, explain, usage
from shifter.cli.session import Session
from shifter.model.hint import nearest

_GLOBAL: Final = Parameter(group="Global options")

_VERBS: Final = (
    ("work", "shifter.cli.work:work", "Run workers for an app."),
    ("submit", "shifter.cli.submit:submit", "Submit one job."),
    ("status", "shifter.cli.status:status", "Show lanes, dead letters and workers."),
    ("explain", "shifter.cli.explain:explain", "Show what would happen to a job now."),
    ("demo", "shifter.cli.demo:demo", "Watch an overload being shifted in time."),
    ("doctor", "shifter.cli.doctor:doctor", "Check log, state, topics and versions."),
    ("schemas", "shifter.cli.schemas:schemas", "Write or check the wire contracts."),
    ("version", "shifter.cli.version:version", "Show the version."),
)
_GROUPS: Final = (
    (
        "topics",
        "Make the topics of an app.",
        (
            ("plan", "shifter.cli.topics:plan", "Show every topic and what it needs."),
            ("apply", "shifter.cli.topics:apply", "Make and widen topics."),
            (
                "diff",
                "shifter.cli.topics:diff",
                "Show differences; 1 if there are any.",
            ),
        ),
    ),
    (
        "job",
        "Look at one job.",
        (
            ("show", "shifter.cli.job:show", "Show a job's state."),
            ("cancel", "shifter.cli.job:cancel", "Ask that a job not run."),
        ),
    ),
    (
        "circuit",
        "Look at what jobs call, and keep them from it.",
        (
            (
                "list",
                "shifter.cli.fleet:list_circuits",
                "Show circuits of the fleet.",
            ),
            ("open", "shifter.cli.fleet:open_circuit", "Keep everybody from one."),
            ("close", "shifter.cli.fleet:close_circuit", "Let everybody call one."),
            ("auto", "shifter.cli.fleet:auto_circuit", "Let the fleet decide again."),
        ),
    ),
    (
        "budget",
        "Look at how many retries there may be.",
        (
            (
                "list",
                "shifter.cli.fleet:list_budgets",
                "Show retry budgets.",
            ),
        ),
    ),
    (
        "quality",
        "Look at how good answers are, and set it.",
        (
            ("show", "shifter.cli.fleet:show_quality", "Show the fleet's quality."),
            ("set", "shifter.cli.fleet:set_quality", "Set it by hand, for a while."),
            ("auto", "shifter.cli.fleet:auto_quality", "Let load decide again."),
        ),
    ),
    (
        "window",
        "Look at hours, and set them aside.",
        (
            (
                "list",
                "shifter.cli.fleet:list_windows",
                "Show windows and overrides.",
            ),
            ("open-now", "shifter.cli.fleet:open_windows", "Let jobs start now."),
            ("close-now", "shifter.cli.fleet:close_windows", "Start no more of them."),
            ("auto", "shifter.cli.fleet:auto_windows", "Let the windows count again."),
        ),
    ),
    (
        "dlt",
        "Look at dead letters, and send them back.",
        (
            ("list", "shifter.cli.dlt:list_", "Group dead letters by their failure."),
            ("show", "shifter.cli.dlt:show", "Show one dead letter whole."),
            ("runs", "shifter.cli.dlt:runs", "Show what was replayed and discarded."),
            ("replay", "shifter.cli.dlt_replay:replay", "Send dead letters back."),
            ("discard", "shifter.cli.dlt_replay:discard", "Be done with them."),
            ("export", "shifter.cli.dlt_files:export", "Write them to a file."),
            ("import", "shifter.cli.dlt_files:import_", "Take them from a file."),
            ("edit", "shifter.cli.dlt_files:edit", "Give one another payload."),
        ),
    ),
    (
        "spool",
        "Look after jobs that wait for Kafka here.",
        (
            ("status", "shifter.cli.spool:status", "Show what waits on this machine."),
            ("flush", "shifter.cli.spool:flush", "Bring it to the log now."),
            ("fsck", "shifter.cli.fsck:spool", "Read all of it, set damage aside."),
        ),
    ),
    (
        "log",
        "Look after an embedded log.",
        (("fsck", "shifter.cli.fsck:log", "Read all of it, set damage aside."),),
    ),
    (
        "config",
        "Look at the settings.",
        (("show", "shifter.cli.config:show", "Show settings and their origins."),),
    ),
)
_EXIT_CODES: Final = (
    "Exit codes: 0 done, 1 failed, 2 usage, 3 in part, 65 data, 69 unavailable, "
    "70 our fault, 73 cannot create, 74 output, 75 try later, 77 not permitted, "
    "78 settings, 130 Ctrl-C, 141 reader gone."
)
_PRINTS_NOTHING: Final[dict[str, Any]] = {"exit_on_error": False, "print_error": False}
_OUTPUT_ERRORS: Final = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG)


def run(tokens: Sequence[str]) -> int:
    """Run one command line, without the program's name; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A job's text must not crash a terminal that cannot write it (LANG=C).
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _end(tokens)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has left; a complaint at exit would only be noise.
        _drop_stdout()
        return Exit.BROKEN_PIPE
    except OSError as error:
        _drop_stdout()
        report(_lost_output(error), as_json=False)
        return Exit.OUTPUT
    return code


def build() -> App:
    """All verbs, none of them imported."""
    app = App(
        name="shifter",
        help="Shift work in time: run it now, or when it hurts nobody.",
        help_epilogue=_EXIT_CODES,
        version_flags=[],
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative=""),
        help_format="plaintext",
    )
    for name, path, text in _VERBS:
        app.command(path, name=name, help=text)
    for name, text, verbs in _GROUPS:
        group = App(name=name, help=text, version_flags=[])
        for verb, path, verb_text in verbs:
            group.command(path, name=verb, help=verb_text)
        app.command(group)
    app.meta.suppress_keyboard_interrupt = False
    app.meta.default(_launcher(app))
    return app


def _launcher(app: App) -> Callable[..., int]:
    def launch(
        *rest: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        namespace: Annotated[str | None, _GLOBAL] = None,
        log: Annotated[str | None, _GLOBAL] = None,
        state: Annotated[str | None, _GLOBAL] = None,
        config: Annotated[str | None, _GLOBAL] = None,
    ) -> int:
        """Take the global options out of the command line, then run the verb.

        Args:
            rest: The verb and its own arguments.
            namespace: First part of every topic, for verbs that take no app.
            log: Where jobs are kept, such as kafka://host:9092.
            state: Where claims are kept, such as redis://host:6379/0.
            config: A configuration file to read instead of shifter.toml.
        """
        verb, bound, extra = app.parse_args(rest, **_PRINTS_NOTHING)
        if getattr(verb, "__func__", None) is App.help_print:
            path = " ".join(("shifter", *rest))
            raise usage(
                "a verb is missing", f"{path!r} is not complete", f"see: {path} --help"
            )
        if "session" in extra:
            flags = {"namespace": namespace, "log": log, "state": state}
            bound.arguments["session"] = Session({**flags, "config": config})
        return int(verb(*bound.args, **bound.kwargs) or 0)

    return launch


def _end(tokens: Sequence[str]) -> int:
    try:
        code = build().meta(tokens, result_action="return_value", **_PRINTS_NOTHING)
        return int(code or 0)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except CycloptsError as error:
        problem = _misuse(error)
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  # the last line
        cause = _first(error)
        if isinstance(cause, KeyboardInterrupt):
            return Exit.INTERRUPTED
        if isinstance(cause, OSError) and _is_output(cause):
            raise cause from None
        found = explain(cause)
        if found is None and os.environ.get("SHIFTER_TRACEBACK"):
            traceback.print_exception(error)
        problem = _fault(cause) if found is None else found
    report(problem, as_json=_wants_json(tokens))
    return problem.exit_code


def _first(error: BaseException) -> BaseException:
    # A task group wraps what one of its tasks raised.
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _misuse(error: CycloptsError) -> Problem:
    chain = error.command_chain or ()
    path = " ".join(("shifter", *chain))
    if isinstance(error, UnknownCommandError):
        return _unknown_verb(path, chain, (error.unused_tokens or [""])[0])
    error.verbose = False
    what, _, rest = str(error).partition(". ")
    why, hint, guess = rest.partition("Did you mean ")
    fix = f"did you mean {guess.strip(' ?.')}?" if hint else f"see: {path} --help"
    why = why.strip(" .") or "the command line does not fit"
    return Problem("usage", what.removesuffix("."), why, fix, Exit.USAGE)


def _unknown_verb(path: str, chain: Sequence[str], word: str) -> Problem:
    # Not by the error's own text: composing that imports every verb.
    known = [name for name, *_ in (*_VERBS, *_GROUPS)]
    for name, _, verbs in _GROUPS:
        if tuple(chain) == (name,):
            known = [verb for verb, *_ in verbs]
    what = f"{path} has no verb {word!r}"
    why = f"its verbs are: {', '.join(sorted(known))}"
    fix = nearest(word, known, "choose one")
    return Problem("usage", what, why, fix, Exit.USAGE)


def _fault(error: BaseException) -> Problem:
    text = f"{type(error).__name__}: {error}"
    fix = "this is a fault of shifter; SHIFTER_TRACEBACK=1 shows where"
    return Problem("internal", "shifter itself failed", text, fix, Exit.SOFTWARE)


def _lost_output(error: OSError) -> Problem:
    why = error.strerror or str(error)
    fix = "free some space, or send the output elsewhere"
    return Problem("output", "standard output cannot be written", why, fix, Exit.OUTPUT)


def _is_output(error: OSError) -> bool:
    return isinstance(error, BrokenPipeError) or error.errno in _OUTPUT_ERRORS


def _drop_stdout() -> None:
    # What is left in the buffer would fail again when the interpreter ends.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _wants_json(tokens: Sequence[str]) -> bool:
    # `submit --json` is the payload; its output is chosen by --format.
    if "submit" in tokens:
        text = " ".join(tokens)
        return "--format json" in text or "--format=json" in text
    return "--json" in tokens

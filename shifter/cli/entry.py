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
from collections.abc import Callable, Container, Sequence
from typing import Annotated, Any, Final

from cyclopts import App, CycloptsError, Parameter, UnknownCommandError

from shifter.cli.output import report
from shifter.cli.problem import Exit, Problem, explain, innermost, usage
from shifter.cli.session import Session
from shifter.cli.verbs import GROUPS, VERBS, exit_codes
from shifter.model.advice import nearest

_GLOBAL: Final = Parameter(group="Global options")

_PRINTS_NOTHING: Final[dict[str, Any]] = {"exit_on_error": False, "print_error": False}
# A full disk, a broken one, and a closed or limited file: standard output is lost.
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


def build(shown: Container[tuple[str, ...]] = ()) -> App:
    """All verbs, none of them imported.

    Args:
        shown: Verbs whose help is printed whole, each as its words; their functions are
            imported for it.
    """
    app = App(
        name="shifter",
        help="Shift work in time: run each job now, later, cheaper, or not at all.",
        help_epilogue=exit_codes(),
        version_flags=[],
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative=""),
        help_format="plaintext",
    )
    groups = {
        name: App(name=name, help=line, version_flags=[])
        for name, line in GROUPS.items()
    }
    for verb in VERBS:
        *group, name = verb.words
        # Without a text of its own the command's help is its function's docstring, for
        # which the function is imported.
        text: dict[str, Any] = {} if verb.words in shown else {"help": verb.summary}
        (groups[group[0]] if group else app).command(
            f"shifter.cli.{verb.path}",
            name=name,
            help_epilogue=exit_codes(verb.codes),
            **text,
        )
    for inner in groups.values():
        app.command(inner)
    app.meta.suppress_keyboard_interrupt = False
    app.meta.default(_launcher(app))
    return app


def _asked_about(tokens: Sequence[str]) -> list[tuple[str, ...]]:
    """The verbs whose own help a command line asks for."""
    if not {"--help", "-h"}.intersection(tokens):
        return []
    return [verb.words for verb in VERBS if set(verb.words) <= set(tokens)]


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
            log: URL of the log, which keeps the jobs, such as kafka://host:9092.
            state: URL of the state store, which keeps the claims, such as
                redis://host:6379/0.
            config: Configuration file to read instead of shifter.toml.
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
        code = build(_asked_about(tokens)).meta(
            tokens, result_action="return_value", **_PRINTS_NOTHING
        )
        return int(code or 0)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except CycloptsError as error:
        problem = _misuse(error)
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  # the last line
        cause = innermost(error)
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
    # The error's own text is not used: composing it imports every verb.
    given = tuple(chain)
    known = sorted(
        {v.words[len(given)] for v in VERBS if v.words[:-1][: len(given)] == given}
    )
    what = f"{path} has no verb {word!r}"
    why = f"its verbs are: {', '.join(known)}"
    fix = nearest(word, known, "choose one")
    return Problem("usage", what, why, fix, Exit.USAGE)


def _fault(error: BaseException) -> Problem:
    text = f"{type(error).__name__}: {error}"
    fix = "this is an error in shifter; SHIFTER_TRACEBACK=1 shows where"
    return Problem(
        "internal", "shifter failed on an internal error", text, fix, Exit.SOFTWARE
    )


def _lost_output(error: OSError) -> Problem:
    why = error.strerror or str(error)
    fix = "free some space, or send the output elsewhere"
    return Problem("output", "standard output cannot be written", why, fix, Exit.OUTPUT)


def _is_output(error: OSError) -> bool:
    return isinstance(error, BrokenPipeError) or error.errno in _OUTPUT_ERRORS


def _drop_stdout() -> None:
    # Text that is still in the buffer would fail again when the interpreter ends.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _wants_json(tokens: Sequence[str]) -> bool:
    # `submit --json` is the payload; its output is chosen by --format.
    if "submit" in tokens:
        text = " ".join(tokens)
        return "--format json" in text or "--format=json" in text
    return "--json" in tokens

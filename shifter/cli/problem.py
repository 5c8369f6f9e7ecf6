"""Errors of the command: three lines and one exit code.

The lines are what failed, why, and how to fix it; a user's mistake never prints a
traceback. With ``--json`` the same facts stand on stdout as
``{"error": {"kind", "what", "why", "fix", "exit_code"}}``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, NamedTuple

from shifter.errors import (
    AlreadyAskedError,
    ConfigError,
    DecodeError,
    FilterError,
    HeldElsewhereError,
    NotTakenError,
    OutcomeUnknownError,
    PayloadError,
    ShifterError,
    StoreRefusedError,
    StoreUnavailableError,
    UnknownNameError,
    UnknownSourceError,
)


class Exit(IntEnum):
    """Exit codes, after sysexits.h where it has one."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    PARTIAL = 3
    DATA = 65
    UNAVAILABLE = 69
    SOFTWARE = 70
    CANNOT_CREATE = 73
    OUTPUT = 74
    TRY_LATER = 75
    NO_PERMISSION = 77
    CONFIG = 78
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class Problem(NamedTuple):
    """One error as it is shown.

    Attributes:
        kind: A stable word for scripts.
        what: The step that failed.
        why: The reason, with the value at fault.
        fix: An action that removes the reason.
        exit_code: Exit code of the command.
    """

    kind: str
    what: str
    why: str
    fix: str
    exit_code: Exit

    def as_json(self) -> dict[str, Any]:
        """The error object of ``--json``."""
        return {"error": self._asdict()}


class ProblemError(ShifterError):
    """Ends a command with a problem; arguments as of `Problem`."""

    def __init__(
        self, kind: str, what: str, why: str, fix: str, exit_code: Exit
    ) -> None:
        self.problem = Problem(kind, what, why, fix, exit_code)
        super().__init__(f"{what}: {why}")


def usage(what: str, why: str, fix: str) -> ProblemError:
    """The error of a command line that is wrong itself.

    Args:
        what: The part that is wrong.
        why: The value at fault.
        fix: A command line that would work.
    """
    return ProblemError("usage", what, why, fix, Exit.USAGE)


def missing(name: str) -> Problem:
    """The setting ``log`` or ``state`` is not set."""
    return Problem(
        "config",
        f"no {name} is configured",
        f"neither --{name}, SHIFTER_{name.upper()} nor a file names one",
        f'eval "$(make -s stack)" starts a local one, or set {_EXAMPLES[name]}',
        Exit.CONFIG,
    )


_EXAMPLES: Final = {
    "log": "SHIFTER_LOG=kafka://host:9092",
    "state": "SHIFTER_STATE=redis://host:6379/0",
}


def innermost(error: BaseException) -> BaseException:
    """The first error inside the groups that task groups wrap around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def explain(error: BaseException) -> Problem | None:
    """The problem behind an exception; ``None`` for an internal error."""
    if isinstance(error, ProblemError):
        return error.problem
    for kind, explainer in _EXPLAINERS:
        if isinstance(error, kind):
            return explainer(error)
    return None


def _payload(error: PayloadError) -> Problem:
    fix = f"compare with the signature of job {error.job!r}"
    return Problem(
        "data", "the job's arguments do not fit", error.detail, fix, Exit.DATA
    )


def _record(error: DecodeError) -> Problem:
    what = "a record cannot be read"
    fix = "look at it with: shifter dlt show TOPIC PARTITION/OFFSET"
    return Problem("data", what, str(error), fix, Exit.DATA)


def _unknown_outcome(error: OutcomeUnknownError) -> Problem:
    return Problem(
        "unknown_outcome",
        f"it is not known whether job {error.job_id} was written",
        f"{error.detail} (waited {error.waited_s:.1f} s)",
        "submit it again with an --idempotency-key: it then takes effect once",
        Exit.TRY_LATER,
    )


def _filter(error: FilterError) -> Problem:
    what = f"the filter is wrong at character {error.at + 1}"
    why = f"{error.what}: {error.shown}"
    return Problem("usage", what, why, error.want, Exit.USAGE)


def _held(error: HeldElsewhereError) -> Problem:
    return Problem(
        "held_elsewhere",
        f"another run works on {error.source}",
        "one run at a time replays or discards the letters of a topic",
        "wait for it: shifter dlt runs",
        Exit.TRY_LATER,
    )


def _other(error: ShifterError) -> Problem:
    fix = "see: shifter doctor"
    return Problem("failure", "the command failed", str(error), fix, Exit.FAILURE)


def _unknown_source(error: UnknownSourceError) -> Problem:
    return Problem(
        "unknown_topic",
        f"there is no dead-letter topic for {error.value!r}",
        f"neither a queue of {error.namespace!r} nor a topic has this name",
        error.want,
        Exit.FAILURE,
    )


def _unknown_name(error: UnknownNameError) -> Problem:
    what = f"there is no {error.field} {error.value!r}"
    why = f"no {error.field} of the namespace has this name now"
    return Problem("unknown_name", what, why, error.want, Exit.FAILURE)


def _already_asked(error: AlreadyAskedError) -> Problem:
    return Problem(
        "already_asked",
        f"{error.what} was asked for before",
        f"{error.owner} asked for it, and it is not done yet",
        "look again in a few seconds",
        Exit.TRY_LATER,
    )


def _not_taken(error: NotTakenError) -> Problem:
    return Problem(
        "not_taken",
        f"no worker took {error.what}",
        f"none did within {error.waited_s:g} s; {error.detail}",
        "look whether workers live and reach the log: shifter status",
        Exit.TRY_LATER,
    )


def _config(error: ConfigError) -> Problem:
    if error.value is None and error.field in _EXAMPLES:
        return missing(error.field)
    value = "it is not set" if error.value is None else f"it is {error.value!r}"
    what = f"{error.field} cannot be used"
    if _is_argument(error.field):
        return Problem("usage", what, value, error.want, Exit.USAGE)
    return Problem("config", what, value, error.want, Exit.CONFIG)


# Fields of `ConfigError` that name an argument of a command, not a setting.
_ARGUMENTS: Final = frozenset(
    {
        *("MODULE:APP", "job", "delay", "due_at", "deadline", "priority", "key"),
        *("idempotency_key", "job_id"),
    }
)


def _is_argument(field: str) -> bool:
    return field.startswith("--") or field in _ARGUMENTS


def _unavailable(error: StoreUnavailableError) -> Problem:
    what = f"{error.store} did not answer {error.op}"
    fix = "check that it runs and that the URL is right: shifter doctor"
    return Problem("unavailable", what, error.detail, fix, Exit.UNAVAILABLE)


def _refused(error: StoreRefusedError) -> Problem:
    what = f"{error.store} refused {error.op}"
    fix = "check rights and topics: shifter doctor, shifter topics diff MODULE:APP"
    return Problem("refused", what, error.detail, fix, Exit.NO_PERMISSION)


# The first that fits explains, so the root of all comes last.
_EXPLAINERS: Final[tuple[tuple[type[BaseException], Callable[[Any], Problem]], ...]] = (
    (UnknownSourceError, _unknown_source),
    (UnknownNameError, _unknown_name),
    (ConfigError, _config),
    (StoreUnavailableError, _unavailable),
    (StoreRefusedError, _refused),
    (PayloadError, _payload),
    (DecodeError, _record),
    (OutcomeUnknownError, _unknown_outcome),
    (FilterError, _filter),
    (HeldElsewhereError, _held),
    (AlreadyAskedError, _already_asked),
    (NotTakenError, _not_taken),
    (ShifterError, _other),
)

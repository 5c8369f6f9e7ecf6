"""An exception as facts that can travel: type, message, stack and fingerprint.

Errors come from user code and may hold line breaks, escape sequences, megabytes, or a
``__str__`` that raises. All texts are bounded and made printable here. Source lines are
left out, since reading them takes longer than the failed attempt did.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import traceback
from collections.abc import Iterable
from pathlib import PurePath
from types import FrameType, TracebackType
from typing import Final, NamedTuple

from shifter.wire.untrusted import printable

MAX_TYPE_CHARS: Final = 200
MAX_MESSAGE_CHARS: Final = 1_000
MAX_LINE_CHARS: Final = 300
MAX_FRAMES: Final = 20
MAX_CAUSES: Final = 4

_FINGERPRINT_FRAMES: Final = 8
_PLUMBING: Final = ("asyncio.", "concurrent.futures.", "threading")
_SEPARATOR: Final = "\x1f"

# A quoted text, the name of an unknown field, or a number. The name of an argument is
# the job's own, and stays.
_GIVEN: Final = re.compile(
    r"""
    (?<!\bargument\ )'(?:[^'\\]|\\.)*'?
    | "(?:[^"\\]|\\.)*"?
    | (?<=\bunknown\ field\ )`[^`]*`?
    | 0x[0-9a-f]+ | [0-9]+
    """,
    re.VERBOSE,
)


class ErrorFacts(NamedTuple):
    """What is kept of an exception.

    Attributes:
        type: Class name with its module, without ``builtins``; <= 200 characters.
        message: One printable line, <= 1000 characters.
        stack: Lines, innermost frame last, then the causes; printable apart from
            the line breaks.
        fingerprint: 12 hexadecimal digits, equal for failures of one kind.
    """

    type: str
    message: str
    stack: str
    fingerprint: str


def describe_error(error: BaseException) -> ErrorFacts:
    """The facts of an exception; never raises.

    A group of a single exception, which is what a task group makes of a failure, is
    described as that exception. The frames that lead to the handler (of this package,
    the thread and the event loop) are left out, so that the same failure has one
    fingerprint wherever the handler ran.
    """
    error = _unwrapped(error)
    frames = _handlers_frames(error.__traceback__)
    kind = _type_name(error)
    lines = [_line(frame, line) for frame, line in frames[-MAX_FRAMES:]]
    if len(frames) > MAX_FRAMES:
        lines.insert(0, f"… {len(frames) - MAX_FRAMES} more")
    return ErrorFacts(
        type=kind,
        message=_message(error),
        stack="\n".join(lines + _causes(error)),
        fingerprint=fingerprint(kind, (_place(frame) for frame, _ in frames)),
    )


def failure_text(
    error: BaseException, most_kind: int, most_message: int
) -> tuple[str, str]:
    r"""The type and the message of an exception; never raises.

    Args:
        error: The exception.
        most_kind: Most characters of the type, >= 1.
        most_message: Most characters of the message, >= 1.

    >>> failure_text(OSError("no\nroute"), 10, 10)
    ('OSError', 'no\\nroute')
    """
    error = _unwrapped(error)
    kind, message = _type_name(error), _message(error)
    return printable(kind, most_kind), printable(message, most_message)


def fingerprint(error_type: str, frames: Iterable[tuple[str, str]]) -> str:
    """12 hexadecimal digits that group failures of one kind.

    No line number, no address and no message goes in, so it survives edits of the
    code above a failure and ids inside a message. Of recursion only one turn counts.

    Args:
        error_type: The exception's class, or a reason where there is no exception.
        frames: Module and function, innermost last; the last 8 count.
    """
    turns = [frame for frame, _ in itertools.groupby(frames)]
    words = [error_type, *itertools.chain(*turns[-_FINGERPRINT_FRAMES:])]
    text = _SEPARATOR.join(words).encode("utf-8", "replace")
    # 48 bits: among 10,000 kinds of failures, two are alike with a chance of 2e-7.
    return hashlib.blake2b(text, digest_size=6).hexdigest()


def damage_fingerprint(reason: str, detail: str) -> str:
    """12 hexadecimal digits that group bad records by the kind of their damage.

    Names, values, sizes and places in the record are left out, so that there are only
    as many kinds as there are checks.

    >>> one = damage_fingerprint("x", "id is 'a'; use a UUID")
    >>> one == damage_fingerprint("x", "id is 'b'; use a UUID")
    True
    >>> one == damage_fingerprint("x", "Object missing required field `id`")
    False

    Args:
        reason: Why the record is refused.
        detail: What is wrong with it.
    """
    return fingerprint(reason, [("", _GIVEN.sub("…", detail[:MAX_MESSAGE_CHARS]))])


def _unwrapped(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _handlers_frames(trace: TracebackType | None) -> list[tuple[FrameType, int]]:
    frames = [
        (frame, line)
        for frame, line in traceback.walk_tb(trace)
        if not _module(frame).startswith("shifter.")
    ]
    return list(itertools.dropwhile(_is_plumbing, frames))


def _is_plumbing(place: tuple[FrameType, int]) -> bool:
    return _module(place[0]).startswith(_PLUMBING)


def _module(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    if isinstance(name, str) and not name.startswith("__"):
        return name
    # A program run as a script has no module name of its own.
    return PurePath(frame.f_code.co_filename).stem


def _place(frame: FrameType) -> tuple[str, str]:
    return _module(frame), frame.f_code.co_qualname


def _line(frame: FrameType, line: int) -> str:
    module, function = _place(frame)
    return printable(f"{module}:{line} in {function}", MAX_LINE_CHARS)


def _causes(error: BaseException) -> list[str]:
    lines: list[str] = []
    seen = {id(error)}
    cause = _cause(error)
    # A chain of causes can be a circle.
    while cause is not None and id(cause) not in seen and len(lines) < MAX_CAUSES:
        seen.add(id(cause))
        lines.append(_summary("caused by", cause))
        cause = _cause(cause)
    if isinstance(error, BaseExceptionGroup):
        members = error.exceptions[:MAX_CAUSES]
        lines += [_summary("together with", member) for member in members]
    return lines


def _cause(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None or error.__suppress_context__:
        return error.__cause__
    return error.__context__


def _summary(how: str, error: BaseException) -> str:
    return printable(f"{how} {_type_name(error)}: {_message(error)}", MAX_LINE_CHARS)


def _type_name(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    return printable(name, MAX_TYPE_CHARS)


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as broken:  # noqa: BLE001  # user code, inside an error already
        text = f"(its __str__ raised {type(broken).__name__})"
    return printable(text, MAX_MESSAGE_CHARS)

"""`shifter dlt show|edit|export|import`: dead letters whole, one of them or a file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import msgspec
from cyclopts import Parameter

from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.cli.dlt import NO_CHOICE, Choice, letter_at, parse_place
from shifter.cli.output import escape, note, write_json, write_line
from shifter.cli.problem import Exit, ProblemError, usage
from shifter.cli.progress import scan_progress
from shifter.cli.session import InSession, consent, need_log, need_state
from shifter.config import Settings
from shifter.deadletter import transfer
from shifter.deadletter.journal import Run
from shifter.deadletter.letter import read_job
from shifter.deadletter.reader import Selection
from shifter.errors import DecodeError
from shifter.ops.dead_letters import letter_facts, run_facts
from shifter.ops.operator import who
from shifter.ops.texts import instant_text
from shifter.ports import Delivery
from shifter.wire.untrusted import encode_line
from shifter.wiring.dead_letters import opened_dead_letters, opened_letter_reader


def dlt_show(
    source: str, which: str | None = None, /, *, json: bool = False, session: InSession
) -> None:
    """Show one dead letter whole: reason, route, stack, headers, payload.

    Example: shifter dlt show mail 0/42

    Args:
        source: A queue of the namespace, any topic, or TOPIC/PARTITION/OFFSET.
        which: Id of its job, a fingerprint (its newest dead letter), or
            PARTITION/OFFSET.
        json: Print one JSON object.
        session: This command line.
    """
    if which is None:
        source, which = _split(source)
    letter = letter_facts(asyncio.run(letter_at(session.settings(), source, which)))
    if json:
        write_json(letter)
    else:
        _write_whole(letter)


def dlt_export(
    source: str,
    /,
    *,
    choice: Choice = NO_CHOICE,
    format: Literal["jsonl", "csv"] = "jsonl",  # noqa: A002  # the option's name
    out: Path | None = None,
    session: InSession,
) -> None:
    """Write dead letters whole to a file, one a line.

    `shifter dlt import` reads them back. The file holds payloads, so its mode is 0600.

    Example: shifter dlt export mail --out letters.jsonl

    Args:
        source: A queue of the namespace, or any topic.
        choice: Which dead letters are meant.
        format: JSON lines, or CSV for a spreadsheet.
        out: A file that does not exist yet; standard output by default.
        session: This command line.
    """
    selection = choice.selection(SystemClock())
    with _opened(out) as stream:
        work = _export(session.settings(), source, selection, stream, format)
        count = asyncio.run(work)
    note(f"{count} dead letters")


def dlt_import(
    source: str,
    file: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    reason: str = "",
    yes: bool = False,
    json: bool = False,
    session: InSession,
) -> None:
    """Append exported dead letters to a dead-letter topic.

    The whole file is read and checked before anything is appended.

    Example: shifter dlt import mail letters.jsonl --reason "from the old cluster"

    Args:
        source: A queue of the namespace, or any topic.
        file: File that `export` wrote; - reads standard input.
        reason: Why, for the audit record.
        yes: Do not ask.
        json: Print one JSON object.
        session: This command line.
    """
    settings = need_state(session.settings())
    if str(file) == "-":
        consent(f"dead letters of standard input go to {source}", yes=yes)
        run = asyncio.run(_import(settings, source, sys.stdin, (str(file), reason)))
    else:
        with _reading(file) as stream:
            # The whole file is checked before anything is written.
            count = sum(1 for _ in transfer.read_lines(stream))
            consent(f"{count} dead letters go to {source}", yes=yes)
            stream.seek(0)
            origin = (str(file.absolute()), reason)
            run = asyncio.run(_import(settings, source, stream, origin))
    if json:
        write_json(run_facts(run))
    else:
        count = run.counts.get("imported", 0)
        note(f"run {run.begun.run}: {run.state}, {count} dead letters")


def dlt_edit(  # noqa: PLR0913  # one parameter an option
    target: str,
    source: str,
    which: str,
    /,
    *,
    payload: str,
    reason: str,
    yes: bool = False,
    json: bool = False,
    session: InSession,
) -> None:
    """Give one dead letter another payload, and keep the original.

    The edited dead letter is appended beside the original, which no replay sends any
    more.

    Example: shifter dlt edit shop.jobs:app mail 0/42 --payload '{"id": 7}' --reason x

    Args:
        target: MODULE:APP whose job checks the payload.
        source: A queue of the namespace, or any topic.
        which: Id of its job, or PARTITION/OFFSET.
        payload: Arguments of the job by name, as one JSON object.
        reason: Why, for the audit record.
        yes: Do not ask.
        json: Print one JSON object.
        session: This command line.
    """
    app = session.app(target)
    settings = need_state(app.settings)
    if not reason.strip():
        raise usage("--reason is empty", "an edit is audited", "say why")
    delivery = asyncio.run(letter_at(settings, source, which))
    value, content_type = _checked(app, delivery, payload)
    consent(f"{which} of {source} gets another payload", yes=yes)
    run = asyncio.run(_edit(settings, delivery, value, content_type, reason))
    if json:
        write_json(run_facts(run))
    else:
        note(f"run {run.begun.run}: {run.state}; replay it as any other letter")


async def _export(
    settings: Settings, source: str, selection: Selection, stream: TextIO, kind: str
) -> int:
    count = 0
    async with opened_letter_reader(need_log(settings), source) as reader:
        stream.write(transfer.heading(kind))
        with scan_progress("reading", SystemClock()) as bar:
            async for letter in reader.letters(selection, bar):
                stream.write(transfer.write_line(transfer.line_of(letter), kind))
                count += 1
    return count


async def _import(
    settings: Settings, source: str, stream: Iterable[str], origin: tuple[str, str]
) -> Run:
    file, reason = origin
    async with opened_dead_letters(need_log(settings), source) as letters:
        return await letters.bring_in(
            transfer.read_lines(stream), reason=reason, by=who(), file=file
        )


async def _edit(
    settings: Settings, delivery: Delivery, value: bytes, content_type: str, reason: str
) -> Run:
    async with opened_dead_letters(settings, delivery.topic) as letters:
        return await letters.edit(
            delivery, value, content_type=content_type, reason=reason, by=who()
        )


def _checked(app: Shifter, delivery: Delivery, text: str) -> tuple[bytes, str]:
    """The new payload, as the job's codec writes it.

    Raises:
        ProblemError: The letter holds no job, or the payload does not fit it.
    """
    read = read_job(delivery.headers)
    if read is None:
        raise ProblemError(
            "not_a_job",
            "this letter cannot be edited",
            "it holds no job whose types could check a payload",
            "export it, change the line, and import it",
            Exit.DATA,
        )
    codec = app.find_job(read.envelope.type).codec
    try:
        arguments = codec.read_json(text.encode("utf-8", "surrogateescape"))
    except DecodeError as error:
        what = "--payload is not a JSON object"
        raise usage(what, error.detail, "use one JSON object") from None
    return codec.encode((), arguments), codec.content_type


def _private(path: str, flags: int) -> int:
    """Open a file with mode 0600 under any umask, since it holds payloads."""
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _opened(out: Path | None) -> Generator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    try:
        stream = open(out, "x", encoding="utf-8", opener=_private)  # noqa: SIM115  # closed below
    except OSError as error:
        raise ProblemError(
            "output",
            f"{out} cannot be made",
            error.strerror or str(error),
            "name a file that is not there, in a folder that is",
            Exit.CANNOT_CREATE,
        ) from None
    with stream:
        yield stream


@contextlib.contextmanager
def _reading(file: Path) -> Generator[TextIO]:
    try:
        stream = file.open(encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as error:
        why = error.strerror or str(error)
        raise ProblemError(
            "input", f"{file} cannot be read", why, "see ls -l", Exit.DATA
        ) from None
    with stream:
        yield stream


def _split(text: str) -> tuple[str, str]:
    topic, _, rest = text.partition("/")
    if parse_place(rest) is None:
        fix = "add the job's id or PARTITION/OFFSET: shifter dlt show mail 0/42"
        raise usage("no dead letter is named", f"only {text!r} is given", fix)
    return topic, rest


def _write_whole(letter: dict[str, Any]) -> None:
    """Write one dead letter as text: facts, route, stack, headers, payload."""
    story = dict(letter["story"])
    stack = story.pop("error_stack", "")
    for name, value in story.items():
        if value is not None and not name.startswith("origin_"):
            shown = instant_text(value) if name.endswith("_ms") else value
            write_line(f"{name.removesuffix('_ms')}: {escape(shown)}")
    write_line("road:")
    for step in _route(letter, story):
        write_line(f"  {escape(step)}")
    if stack:
        write_line("stack:")
        for line in stack.splitlines():
            write_line(f"  {escape(line)}")
    place = f"{letter['topic']}/{letter['partition']}/{letter['offset']}"
    write_line(f"headers of {place}:")
    for header in letter["headers"]:
        value = "-" if header["value"] is None else escape(header["value"])
        write_line(f"  {escape(header['name'])}: {value}")
    write_line(f"payload ({letter['payload_encoding']}):")
    text = msgspec.json.format(encode_line(letter["payload"]), indent=2).decode()
    write_line(text)


def _route(letter: dict[str, Any], story: dict[str, Any]) -> list[str]:
    """The places that a dead letter has been at, in order."""
    steps = []
    if letter["replay_of"] is not None:
        steps.append(f"replay {letter['replays']} of job {letter['replay_of']}")
    if story["origin_topic"] is not None:
        place = "/".join(
            "?" if story[name] is None else str(story[name])
            for name in ("origin_topic", "origin_partition", "origin_offset")
        )
        at_ms = story["origin_timestamp_ms"]
        since = "" if at_ms is None else f" at {instant_text(at_ms)}"
        steps.append(f"read from {place}, written{since}")
    if story["first_failed_ms"] is not None:
        steps.append(f"failed first at {instant_text(story['first_failed_ms'])}")
    attempts = story["attempts"]
    tried = "" if attempts is None else f" after {attempts} attempts"
    steps.append(f"given up{tried} at {instant_text(story['last_failed_ms'])}")
    place = f"{letter['topic']}/{letter['partition']}/{letter['offset']}"
    steps.append(f"parked at {place}")
    return steps

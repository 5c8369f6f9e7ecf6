"""The lines of `shifter top`: made of a reading, the operator's choices and a size.

From top to bottom: the mode and the age of the data, the three answers, what could not
be read, then lanes, dependencies, dead letters and workers, and the keys. Each section
gets a few rows, and lanes come first with the others; a title gives the rows that are
shown where they are not all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from shifter.cli.status import CIRCUITS, circuit_cells
from shifter.cli.top.state import ORDERS, Choices
from shifter.cli.top.table import (
    Column,
    Line,
    Look,
    Row,
    Span,
    clean,
    crop,
    lines_of,
)
from shifter.fleet.view import BudgetRow, CircuitRow
from shifter.model.answer import Quality
from shifter.ops.answers import (
    MODE_TEXTS,
    QUESTIONS,
    Grade,
    LaneView,
    Mode,
    answers_of,
    is_unhealthy,
    mode_of,
    view_lane,
)
from shifter.ops.reading import Reading
from shifter.ops.status import Overview
from shifter.ops.texts import age_text, instant_text
from shifter.ops.worker_view import view_worker

_LANES: Final = (
    Column("LANE", 0, is_name=True),
    Column("WAITING", 2),
    Column("DUE", 6),
    Column("DELAYED", 9),
    Column("RUNNING", 8),
    Column("OLDEST", 3),
    Column("RATE", 7),
    Column("ETA", 4),
    Column("DEADLINE", 5),
    Column("", 1, is_name=True),
)
_DEPENDENCIES: Final = (
    Column("DEPENDENCY", 0, is_name=True),
    Column("CIRCUIT", 1, is_name=True),
    Column("CALLS", 4),
    Column("FAILED", 2),
    Column("INFLIGHT", 6),
    Column("LIMIT", 5),
    Column("BUDGET", 3),
    Column("HELD BACK", 7, is_name=True),
    Column("BY HAND", 8, is_name=True),
)
_WORKERS: Final = (
    Column("WORKER", 0, is_name=True),
    Column("HOST", 3, is_name=True),
    Column("PID", 4),
    Column("SLOTS", 2),
    Column("RUNNING", 1),
    Column("RATE", 5),
    Column("STATE", 6, is_name=True),
    Column("SLOWEST JOB", 8, is_name=True),
    Column("LAST END", 7),
    Column("VERSION", 10, is_name=True),
    Column("REPORTED", 9),
)
_GRADES: Final = {
    Grade.GOOD: Look.GOOD,
    Grade.WARNING: Look.WARNING,
    Grade.BAD: Look.BAD,
    Grade.UNKNOWN: Look.UNKNOWN,
}
_MODES: Final = {
    Mode.UNKNOWN: Look.UNKNOWN,
    Mode.NORMAL: Look.GOOD,
    Mode.SHIFTING: Look.WARNING,
    Mode.DEGRADED: Look.WARNING,
    Mode.SHEDDING: Look.BAD,
}
_KEYS: Final = (
    ("q", "quit", "end; Ctrl-C does too"),
    ("s", "sort", "sort lanes by the next column; S: the previous"),
    ("r", "reverse", "turn the order round"),
    ("/", "filter", "show names with a text; Enter keeps, Esc ends it"),
    ("p", "pause", "keep the picture; p again goes on"),
    ("?", "help", "show this page; any key goes back"),
)
_SCROLL: Final = ("j", "scroll", "lanes, one down; k: one up; also arrows, pages")
_MARKS: Final = (
    ("late", "not empty by the tightest deadline of its jobs"),
    ("stuck", "jobs wait, and none ends"),
)
_LEAST: Final = 3
"""Rows that each section gets before another one gets more."""
_HEADLINE: Final = 22
_NARROW: Final = 90
"""Columns below which the questions are shortened, so that the answers are not."""
_SHORT: Final = dict(
    zip(QUESTIONS, ("Users safe?", "Work safe?", "Done when?"), strict=True)
)
_STALE_S: Final = 3.0
"""Age of data, beyond one pause between two readings, at which it is marked."""


class Size(NamedTuple):
    """Columns and rows of a terminal."""

    width: int
    height: int


class _Section(NamedTuple):
    """One part of the picture.

    Attributes:
        title: What it lists.
        total: How many there are, as text.
        note: Follows the title.
        columns: Of its table.
        rows: Of its table; a section without rows is its title alone.
    """

    title: str
    total: str
    note: Line
    columns: Sequence[Column] = ()
    rows: Sequence[Row] = ()


def lines_for(
    namespace: str, reading: Reading, choices: Choices, size: Size, age_s: float
) -> list[Line]:
    """The whole picture: at most ``size.height`` lines of ``size.width`` columns.

    Args:
        namespace: Of the lanes.
        reading: What is known now.
        choices: The operator's; their ``page`` and ``offset`` are set to what fits.
        size: Of the terminal.
        age_s: Seconds since the overview was read.
    """
    head = [
        _banner(namespace, reading, choices, age_s),
        *_answers(reading, size.width),
        *_missing(reading),
    ]
    foot = _foot(choices)
    room = size.height - len(head) - 1
    if choices.shows_help:
        body = _help()
    elif reading.overview is None:
        text = "Nothing could be read yet." if reading.failure else "Reading ..."
        body = [[], [Span(text, Look.FAINT)]]
    else:
        body = _body(reading.overview, choices, Size(size.width, room))
    lines = [*head, *body][: max(0, size.height - 1)]
    lines += [[] for _ in range(size.height - 1 - len(lines))]
    return [crop(line, size.width) for line in (*lines, foot)]


def _banner(namespace: str, reading: Reading, choices: Choices, age_s: float) -> Line:
    overview = reading.overview
    mode = mode_of(overview)
    line = [Span(f"{mode.value.upper()} ", _MODES[mode])]
    if choices.is_paused:
        line.append(Span("PAUSED ", Look.WARNING))
    if overview is not None:
        at = instant_text(overview.as_of_ms)[11:19] or clean(overview.as_of_ms)
        is_old = age_s > reading.every_s + _STALE_S
        look = Look.BAD if is_old else Look.FAINT
        old = f", {age_text(age_s)} old" if is_old else ""
        line.append(Span(f"{clean(namespace)} at {at} UTC{old}  ", look))
    return [*line, Span(MODE_TEXTS[mode], Look.FAINT)]


def _answers(reading: Reading, width: int) -> list[Line]:
    answers = answers_of(reading.overview)
    names = [
        _SHORT[one.question] if width < _NARROW else one.question for one in answers
    ]
    longest = max(map(len, names))
    return [
        [
            Span(f"{name.ljust(longest)}  ", Look.TITLE),
            Span(f"{answer.headline.ljust(_HEADLINE)}  ", _GRADES[answer.grade]),
            Span(" ".join(map(clean, answer.details))),
        ]
        for name, answer in zip(names, answers, strict=True)
    ]


def _missing(reading: Reading) -> list[Line]:
    lines = [[Span(clean(note), Look.WARNING)] for note in reading.notes]
    if reading.failure is not None:
        text = f"The log is away; nothing is renewed: {clean(reading.failure)}"
        lines.insert(0, [Span(text, Look.BAD)])
    return lines


def _body(overview: Overview, choices: Choices, size: Size) -> list[Line]:
    sections = [
        _lanes(overview, choices),
        _dependencies(overview, choices),
        _letters(overview, choices),
        _workers(overview, choices),
    ]
    wanted = [len(section.rows) for section in sections]
    # A title for each section, and a table's head and a blank line where it has rows.
    taken = sum(3 if count else 1 for count in wanted)
    given = _shares(wanted, size.height - taken)
    choices.show(rows=wanted[0], page=given[0])
    starts = [choices.offset, 0, 0, 0]
    lines: list[Line] = []
    for section, start, count in zip(sections, starts, given, strict=True):
        lines += _section_lines(section, start, start + count, size.width)
    return lines


def _shares(wanted: Sequence[int], room: int) -> list[int]:
    """Rows of each section: a few of each, and what is left in their order."""
    given = [min(count, _LEAST) for count in wanted]
    left = room - sum(given)
    for at, count in enumerate(wanted):
        more = max(0, min(left, count - given[at]))
        given[at] += more
        left -= more
    return given


def _section_lines(section: _Section, start: int, end: int, width: int) -> list[Line]:
    title, rows = f"{section.title} {section.total}", section.rows[start:end]
    if len(rows) < len(section.rows):
        title += f", {start + 1} to {start + len(rows)} shown"
    lines = [[Span(title, Look.TITLE), *section.note]]
    if rows:
        lines = [[], *lines, *lines_of(section.columns, rows, width)]
    return lines


def _lanes(overview: Overview, choices: Choices) -> _Section:
    lanes = choices.chosen([view_lane(row) for row in overview.lanes])
    total = str(len(lanes))
    if len(lanes) != len(overview.lanes):
        total += f" of {len(overview.lanes)}"
    order = ORDERS[choices.order].name
    note = f"  by {order}{', reversed' if choices.is_reversed else ''}"
    if not overview.lanes:
        note = "  There are none: shifter topics apply"
    rows = [_lane_row(lane) for lane in lanes]
    return _Section("Lanes", total, [Span(note, Look.FAINT)], _LANES, rows)


def _lane_row(lane: LaneView) -> Row:
    row = lane.row
    word = "late" if lane.is_late else "stuck" if lane.is_stuck else ""
    look = Look.BAD if lane.is_late else Look.WARNING if lane.is_stuck else Look.PLAIN
    cells = (
        f"{row.queue}/{row.priority.lower()}",
        f"{row.waiting:,}",
        f"{row.due:,}",
        None if row.delayed is None else f"{row.delayed:,}",
        row.running,
        age_text(row.oldest_age_s),
        None if row.rate_per_s is None else f"{row.rate_per_s:,.1f}/s",
        age_text(row.eta_s),
        age_text(row.tightest_deadline_s),
        word,
    )
    return Row(cells, look)


def _dependencies(overview: Overview, choices: Choices) -> _Section:
    found = [row for row in overview.circuits if choices.matches(row.dependency)]
    found.sort(key=lambda row: (not is_unhealthy(row), row.dependency))
    budgets = {row.dependency: row for row in overview.budgets}
    rows = [_dependency_row(row, budgets.get(row.dependency)) for row in found]
    return _Section(
        "Dependencies", str(len(rows)), _quality(overview), _DEPENDENCIES, rows
    )


def _dependency_row(circuit: CircuitRow, budget: BudgetRow | None) -> Row:
    cells = dict(zip(CIRCUITS, circuit_cells([circuit])[0], strict=True))
    left = None if budget is None else f"{budget.left:.1f}"
    names = ("dependency", "circuit", "calls", "failed", "inflight", "limit")
    more = (left, cells["held back"] or "", cells["by hand"] or "")
    look = Look.BAD if is_unhealthy(circuit) else Look.PLAIN
    return Row((*(cells[name] for name in names), *more), look)


def _quality(overview: Overview) -> Line:
    quality = overview.quality
    if quality is None:
        return [Span("  not known: the state store is away", Look.UNKNOWN)]
    load = "" if quality.load is None else f", load {quality.load:.2f}"
    by_hand = "" if quality.by_hand is None else ", by hand"
    look = Look.FAINT if quality.quality == Quality.FULL else Look.WARNING
    return [Span(f"  quality {clean(quality.quality)}{by_hand}{load}", look)]


def _letters(overview: Overview, choices: Choices) -> _Section:
    found = [row for row in overview.dead_letters if choices.matches(row.queue)]
    found = sorted((row for row in found if row.count), key=lambda row: -row.count)
    total = sum(row.count for row in found)
    text = ", ".join(f"{clean(row.queue)} {row.count:,}" for row in found)
    return _Section("Dead letters", f"{total:,}", [Span(f"  {text}", Look.WARNING)])


def _workers(overview: Overview, choices: Choices) -> _Section:
    views = [view_worker(row, overview.as_of_ms) for row in overview.workers]
    rows = [
        Row(
            (
                view.report.worker_id,
                view.report.host,
                view.report.pid,
                view.report.concurrency,
                view.busy,
                f"{sum(view.report.rate_per_s.values()):,.1f}/s",
                "draining" if view.report.is_draining else "",
                view.slowest,
                view.progress,
                view.version,
                view.seen,
            )
        )
        for view in views
        if choices.matches(view.report.worker_id, view.report.host)
    ]
    note: Line = []
    if overview.quality is None:
        note = [Span("  not known: the state store is away", Look.UNKNOWN)]
    return _Section("Workers", str(len(rows)), note, _WORKERS, rows)


def _help() -> list[Line]:
    lines: list[Line] = [[], [Span("Keys", Look.TITLE)]]
    for key, name, text in (*_KEYS, _SCROLL):
        lines.append([Span(f"{key} ", Look.KEY), Span(f"{name:<9}{text}")])
    lines += [[], [Span("Marks of a lane", Look.TITLE)]]
    return lines + [[Span(f"  {mark:<9}{text}")] for mark, text in _MARKS]


def _foot(choices: Choices) -> Line:
    if choices.is_typing:
        text = f"filter: {clean(choices.match)}"
        return [Span(text), Span("_  Enter keeps it, Esc removes it", Look.FAINT)]
    line: Line = []
    if choices.match:
        line.append(Span(f"filter {clean(choices.match)}  ", Look.WARNING))
    for key, name, _ in _KEYS:
        line += [Span(key, Look.KEY), Span(f" {name}  ", Look.FAINT)]
    return line

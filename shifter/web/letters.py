"""Pages of dead letters: by failure, one by one, and what a run would do with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from shifter.deadletter import FailureGroup, Forecast, Letter, Selection, Triage
from shifter.ops.dead_letters import letter_facts
from shifter.web.guard import (
    RefusedError,
    check_operator,
    read_form,
    read_reason,
    visit_of,
)
from shifter.web.payload import payload_text
from shifter.wiring.dead_letters import opened_letter_reader

if TYPE_CHECKING:
    from shifter.web.pages import WebPage

VERBS: Final = ("replay", "discard")
_LETTERS: Final = 100
"""Dead letters on one page."""
_COLUMNS: Final = 30
_HEIGHT: Final = 30


class Bar(NamedTuple):
    """One bar of a histogram, in units of its picture."""

    left: int
    top: int
    height: int


class GroupView(NamedTuple):
    """A kind of failure as a row.

    Attributes:
        group: Its counts and texts.
        bars: Its dead letters over time.
    """

    group: FailureGroup
    bars: list[Bar]


class LetterPages:
    """The pages of dead letters.

    Args:
        page: The page that they belong to.
    """

    def __init__(self, page: WebPage) -> None:
        self._page = page

    def routes(self) -> list[Route]:
        """The routes of these pages."""
        base = "/dead-letters/{source}"
        return [
            Route(base, self._groups),
            Route(f"{base}/letters", self._letters),
            Route(f"{base}/at/{{partition:int}}/{{offset:int}}", self._letter),
            Route(f"{base}/{{verb}}", self._act, methods=["GET", "POST"]),
        ]

    async def _groups(self, request: Request) -> Response:
        source: str = request.path_params["source"]
        async with opened_letter_reader(self._page.app.settings, source) as reader:
            found = await reader.triage()
        return self._page.page(
            request, "letter_groups.html", source=source, views=_views(found)
        )

    async def _letters(self, request: Request) -> Response:
        source: str = request.path_params["source"]
        selection = Selection(filter=request.query_params.get("filter", ""))
        letters: list[Letter] = []
        count = 0
        async with opened_letter_reader(self._page.app.settings, source) as reader:
            async for letter in reader.letters(selection):
                count += 1
                # The newest of each partition come last.
                letters.append(letter)
                del letters[:-_LETTERS]
        return self._page.page(
            request,
            "letters.html",
            source=source,
            filter=selection.filter,
            letters=letters[::-1],
            count=count,
        )

    async def _letter(self, request: Request) -> Response:
        source: str = request.path_params["source"]
        partition, offset = (
            request.path_params[name] for name in ("partition", "offset")
        )
        selection = Selection(parts={partition: (offset, offset + 1)}, again=True)
        found = None
        async with opened_letter_reader(self._page.app.settings, source) as reader:
            async for letter in reader.letters(selection):
                found = letter
        if found is None:
            raise RefusedError(404, f"{source} holds nothing at {partition}/{offset}")
        facts = letter_facts(found.delivery)
        may_see = visit_of(request).person.may_operate
        job = facts["story"]["job_type"]
        payload = payload_text(self._page.redact, job, facts["payload"])
        return self._page.page(
            request,
            "letter.html",
            source=source,
            facts=facts,
            story=facts["story"],
            at=f"{partition}/{offset}",
            filter=_by_place([(partition, offset)]),
            payload=payload if may_see else None,
            headers=facts["headers"] if may_see else None,
        )

    async def _act(self, request: Request) -> Response:
        verb: str = request.path_params["verb"]
        if verb not in VERBS:
            raise RefusedError(404, "use replay or discard")
        if request.method == "POST":
            return await self._begin(request, verb)
        source: str = request.path_params["source"]
        filter_ = request.query_params.get("filter", "")
        places = _places(request.query_params.getlist("at"))
        if places:
            filter_ = _by_place(places)
        # The run covers what is shown here, and nothing that arrives afterwards.
        until_ms = self._page.clock.epoch_ms()
        selection = Selection(filter=filter_, until_ms=until_ms)
        async with opened_letter_reader(self._page.app.settings, source) as reader:
            if verb == "replay":
                forecast, kinds = await reader.forecast(selection)
            else:
                kinds = await reader.triage(selection)
                count = sum(group.count for group in kinds.groups())
                forecast = Forecast(selected=count)
        return self._page.page(
            request,
            "act.html",
            source=source,
            verb=verb,
            filter=filter_,
            until_ms=until_ms,
            forecast=forecast,
            count=forecast.moved if verb == "replay" else forecast.selected,
            views=_views(kinds),
        )

    async def _begin(self, request: Request, verb: str) -> Response:
        """Begin a run after the answer is sent, and lead to its page."""
        person = check_operator(request)
        source: str = request.path_params["source"]
        fields = await read_form(request)
        reason = read_reason(fields, "kept with the run")
        until = fields.get("until_ms", "")
        if not (until.isdecimal() and len(until) < 16):
            raise RefusedError(400, "look at the dry run first")
        selection = Selection(filter=fields.get("filter", ""), until_ms=int(until))
        run = self._page.runs.prepare(verb, source, selection, reason, person)
        return RedirectResponse(
            f"{self._page.root(request)}/runs/{run.name}",
            303,
            background=BackgroundTask(self._page.runs.carry_out, run),
        )


def _views(found: Triage) -> list[GroupView]:
    groups, span = found.groups(), found.span_ms
    views = []
    for group in groups:
        counts = found.course(group.fingerprint).counts(*span, _COLUMNS)
        views.append(GroupView(group, _bars(counts)))
    return views


def _bars(counts: Sequence[int]) -> list[Bar]:
    """A histogram: a count that is not 0 is seen, however small it is.

    >>> [bar.height for bar in _bars([0, 1, 100])]
    [1, 30]
    """
    most = max(counts, default=0) or 1
    bars = []
    for column, count in enumerate(counts):
        if count:
            height = -(-count * _HEIGHT // most)
            bars.append(Bar(column * 4, _HEIGHT - height, height))
    return bars


def _places(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Partitions and offsets that were selected on a page of dead letters.

    Raises:
        RefusedError: One of them is none.
    """
    found = []
    for text in texts[:_LETTERS]:
        partition, _, offset = text.partition("/")
        if not (partition.isdecimal() and offset.isdecimal() and len(text) < 30):
            raise RefusedError(400, "a dead letter is named by PARTITION/OFFSET")
        found.append((int(partition), int(offset)))
    return found


def _by_place(places: Sequence[tuple[int, int]]) -> str:
    """A filter that selects dead letters by their places.

    >>> _by_place([(0, 7), (1, 2), (0, 9)])
    'partition == 0 and offset in (7, 9) or partition == 1 and offset in (2)'
    """
    offsets: dict[int, list[int]] = {}
    for partition, offset in places:
        offsets.setdefault(partition, []).append(offset)
    return " or ".join(
        f"partition == {partition} and offset in ({', '.join(map(str, of))})"
        for partition, of in offsets.items()
    )

"""The parts of the first page that follow the state, drawn once for all open pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shifter.ops.answers import MODE_TEXTS, answers_of, mode_of, mode_since_ms
from shifter.ops.reading import Reading
from shifter.ops.worker_view import view_workers
from shifter.web.view import (
    SHOWN_LANES,
    DependencyView,
    is_idle,
    view_dependencies,
    view_lanes,
    view_priorities,
    with_dependencies,
)

if TYPE_CHECKING:
    from shifter.web.pages import WebPage

SECTIONS: Final = (
    *("banner", "flow", "changes", "dependencies", "lanes", "letters", "workers"),
    "settings",
)
"""Names of the parts, each a template and an event of the stream."""


_CHANGES: Final = 12
"""Changes that are shown, the newest ones."""


class LiveSections:
    """The parts of the first page as HTML, for the last reading.

    Args:
        page: The page that they belong to.
    """

    def __init__(self, page: WebPage) -> None:
        self._page = page
        self._drawn: tuple[int, int] | None = None
        self._texts: dict[str, str] = {}

    def sections(self) -> dict[str, str]:
        """Each part by its name: drawn once a reading, once a second while stale."""
        reading, now = self._page.reader.reading, self._page.clock.monotonic()
        is_stale = reading.is_stale(now)
        wanted = reading.number, int(now) if is_stale else 0
        if wanted != self._drawn:
            facts = self._facts(reading, is_stale=is_stale)
            self._texts = {
                name: self._page.templates.get_template(f"live/{name}.html").render(
                    facts
                )
                for name in SECTIONS
            }
            self._drawn = wanted
        return self._texts

    def dependencies(self) -> list[DependencyView]:
        """The dependencies of the last reading, those that need attention first."""
        overview = self._page.reader.reading.overview
        if overview is None:
            return []
        return view_dependencies(
            overview,
            self._page.changes,
            self._lanes_of(),
            self._page.app.namespace,
        )

    def _facts(self, reading: Reading, *, is_stale: bool) -> dict[str, Any]:
        overview = reading.overview
        mode = mode_of(overview)
        lanes = [] if overview is None else view_lanes(overview)
        dependencies = self.dependencies()
        return {
            "overview": overview,
            "reading": reading,
            "is_stale": is_stale,
            "age_s": reading.age_s(self._page.clock.monotonic()),
            "mode": mode,
            "mode_text": MODE_TEXTS[mode],
            "since_ms": mode_since_ms(overview),
            "answers": with_dependencies(answers_of(overview), dependencies, lanes),
            "changes": self._page.changes.newest(_CHANGES),
            "lanes": [lane for lane in lanes if not is_idle(lane)][:SHOWN_LANES],
            "lanes_total": len(lanes),
            "priorities": [] if overview is None else view_priorities(overview),
            "dependencies": dependencies,
            "workers": view_workers(overview),
        }

    def _lanes_of(self) -> dict[str, set[str]]:
        """Lanes of the jobs that call each dependency, by its name."""
        found: dict[str, set[str]] = {}
        for job in self._page.app.jobs.values():
            if job.dependency is not None:
                found.setdefault(job.dependency.name, set()).add(job.plan.lane)
        return found

"""``/startupz``, ``/livez``, ``/readyz`` and ``/metrics`` of worker processes."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

import msgspec

from shifter.ops.scale_reader import ScaleReader
from shifter.supervise.pages import JSON, Page, PageServer
from shifter.supervise.supervisor import ProcessCondition, ProcessHealth
from shifter.telemetry.exposition import CONTENT_TYPE, Exposition
from shifter.telemetry.metric import FLEET_SPECS, WORKER_SPECS


class ProbeServer(PageServer):
    """Answers probes and scrapes.

    Args:
        health: Health of the processes.
        version: Version that ``shifter_build_info`` shows.
        scaling: Has the numbers of ``/scale``; ``None`` without that page.
    """

    def __init__(
        self,
        health: ProcessHealth,
        *,
        version: str,
        scaling: ScaleReader | None = None,
    ) -> None:
        self._health = health
        specs = WORKER_SPECS | FLEET_SPECS
        self._exposition = Exposition(health.metrics, specs, version=version)
        pages: dict[str, Callable[[], Page]] = {
            "/startupz": self._startup,
            "/livez": lambda: self._probe(lambda c: c.is_live),
            "/readyz": lambda: self._probe(lambda c: c.is_ready),
            "/metrics": self._metrics,
        }
        super().__init__(pages, scaling)

    def _probe(self, holds: Callable[..., bool]) -> Page:
        """Answer ``ok`` only if a condition holds for every process."""
        conditions = self._health.conditions()
        return self._conditions(conditions, is_well=all(map(holds, conditions)))

    def _startup(self) -> Page:
        """Answer ``ok`` once every process has joined its groups, and ever after."""
        conditions = self._health.conditions()
        return self._conditions(conditions, is_well=self._health.is_started)

    def _conditions(self, conditions: list[ProcessCondition], *, is_well: bool) -> Page:
        body = {
            "ok": is_well,
            "processes": [condition._asdict() for condition in conditions],
        }
        status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
        return Page(status, JSON, msgspec.json.encode(body))

    def _metrics(self) -> Page:
        return Page(HTTPStatus.OK, CONTENT_TYPE, self._exposition.render())

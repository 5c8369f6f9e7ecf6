"""The pages of ``shifter scaler``: ``/scale``, ``/livez``, ``/readyz``, ``/metrics``.

They show the numbers that the external scaler gives over gRPC, of the same readings. So
KEDA's ``metrics-api`` and a Prometheus have them also while no worker runs.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec

from shifter.ops.scale_reader import ScaleReader
from shifter.supervise.lane_gauges import show_scale
from shifter.supervise.pages import JSON, Page, PageServer
from shifter.telemetry import FleetMetrics
from shifter.telemetry.exposition import CONTENT_TYPE, Exposition
from shifter.telemetry.series import Snapshot

_PREFIX: Final = "shifter_scale_"


class ScalerPages(PageServer):
    """Answers scalers, probes and scrapes.

    Args:
        reader: Has the numbers.
        version: Version that ``shifter_build_info`` shows.
    """

    def __init__(self, reader: ScaleReader, *, version: str) -> None:
        self._reader, self._gauges = reader, FleetMetrics()
        specs = {
            name: spec
            for name, spec in self._gauges.specs.items()
            if name.startswith(_PREFIX)
        }
        self._exposition = Exposition(self._read, specs, version=version)
        pages = {
            "/livez": lambda: _probe(is_well=True),
            "/readyz": lambda: _probe(is_well=reader.answer().is_given),
            "/metrics": self._metrics,
        }
        super().__init__(pages, reader)

    def _metrics(self) -> Page:
        return Page(HTTPStatus.OK, CONTENT_TYPE, self._exposition.render())

    def _read(self) -> Snapshot:
        """The gauges; none while the number is stale, since a gauge has no age."""
        answer = self._reader.answer()
        self._gauges.clear_lanes()
        if not answer.is_stale:
            show_scale(answer.groups, self._gauges)
        return self._gauges.snapshot()


def _probe(*, is_well: bool) -> Page:
    status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
    return Page(status, JSON, msgspec.json.encode({"ok": is_well}))

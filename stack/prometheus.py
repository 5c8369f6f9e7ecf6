"""Debian's Prometheus on a free port, and a time scale for its rules.

A published rule holds for minutes and looks back over tens of them. `scaled` divides
all durations of rules and configuration by one factor, so that a test sees the rules
as they are published, only faster.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlencode

from stack.errors import StackError
from stack.home import make_run_dir
from stack.install import program
from stack.process import Server, free_port

_START_S: Final = 60.0
_ANSWER_S: Final = 10.0
_LOOKBACK_MS: Final = 300_000
"""How old a sample may be that a query still takes: Prometheus' default."""

_UNIT_MS: Final = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
}
# A whole word: `rate5m` in a rule's name is none.
_DURATION: Final = re.compile(r"(?<![\w.])((?:\d+(?:ms|[smhd]))+)(?!\w)")
_PART: Final = re.compile(r"(\d+)(ms|[smhd])")


def promtool() -> str:
    """The path of promtool; raises `stack.errors.Missing`."""
    return program("promtool", package="prometheus", of="Prometheus")


def duration_ms(text: str) -> int:
    """Milliseconds of a duration as Prometheus writes it.

    Args:
        text: Such as ``30s`` or ``1h30m``; days are the largest unit.

    Raises:
        ValueError: It is no duration.

    >>> duration_ms("1h30m")
    5400000
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration")
    return sum(int(count) * _UNIT_MS[unit] for count, unit in _PART.findall(text))


def scaled(text: str, factor: int) -> str:
    """Rules or a configuration with all durations divided by one factor.

    Fields (``for: 5m``), ranges (``[10m]``), offsets and durations in annotations are
    rewritten alike. Numbers without a unit stay as they are: a threshold that means
    seconds is not scaled.

    Args:
        text: YAML.
        factor: Greater than 0; a duration becomes 1 ms at least.

    >>> scaled("expr: increase(x[10m] offset 1h) > 0.05", 60)
    'expr: increase(x[10000ms] offset 60000ms) > 0.05'
    """

    def shorter(match: re.Match[str]) -> str:
        return f"{max(1, duration_ms(match[1]) // factor)}ms"

    return _DURATION.sub(shorter, text)


class FiringAlert(NamedTuple):
    """An alert that fires now.

    Attributes:
        name: Of the rule.
        labels: All others, the severity included.
    """

    name: str
    labels: tuple[tuple[str, str], ...]


class PrometheusServer:
    """A Prometheus on 127.0.0.1 that keeps its data in its folder.

    Args:
        config: The text of its configuration file.
        rules: Texts of rule files, by the names that the configuration gives them.
        factor: By which `scaled` divides what it is given, and the lookback.
        folder: Where its files go; a temporary one by default.
    """

    def __init__(
        self,
        config: str,
        rules: Mapping[str, str],
        *,
        factor: int = 1,
        folder: Path | None = None,
    ) -> None:
        self._program = program("prometheus", package="prometheus", of="Prometheus")
        self._temporary = folder is None
        self.folder = make_run_dir("prometheus") if folder is None else folder
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, text in {"prometheus.yml": config, **rules}.items():
            (self.folder / name).write_text(scaled(text, factor), "utf-8")
        self._lookback_ms = _LOOKBACK_MS // factor
        self.port = free_port()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and wait until it answers queries.

        Raises:
            StackError: It ended, or did not get ready.
        """
        command = [
            self._program,
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--query.lookback-delta={self._lookback_ms}ms",
        ]
        self._server = Server(command, self.folder / "prometheus.log", attached=True)
        try:
            self._server.wait_for_port(self.port, timeout_s=_START_S)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it; its temporary folder goes."""
        if self._server is not None:
            self._server.stop()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def firing(self) -> set[FiringAlert]:
        """The alerts that fire now, without those that wait for their ``for``."""
        found = self._get("alerts")["alerts"]
        return {
            FiringAlert(
                labels.pop("alertname"),
                tuple(sorted(labels.items())),
            )
            for alert in found
            if alert["state"] == "firing"
            for labels in [dict(alert["labels"])]
        }

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series that an expression gives now.

        Args:
            expression: PromQL that gives a vector.

        Raises:
            StackError: It is no expression, or Prometheus does not answer.
        """
        answer = self._get("query", query=expression)
        return [(one["metric"], float(one["value"][1])) for one in answer["result"]]

    def history(
        self, expression: str, *, since_s: float, step_ms: int
    ) -> list[tuple[float, list[float]]]:
        """What an expression gave at each step until now, by the instants of samples.

        Args:
            expression: PromQL that gives a vector.
            since_s: The first instant, epoch seconds.
            step_ms: Milliseconds between two instants, > 0.

        Returns:
            Each instant that has values, epoch seconds, with the values of all series.
        """
        span = {"start": f"{since_s:.3f}", "end": f"{time.time():.3f}"}
        step = f"{step_ms / 1_000:.3f}"
        answer = self._get("query_range", query=expression, step=step, **span)
        found: dict[float, list[float]] = {}
        for series in answer["result"]:
            for at, value in series["values"]:
                found.setdefault(float(at), []).append(float(value))
        return sorted(found.items())

    def _get(self, page: str, **parameters: str) -> Any:
        status, body = self._ask(f"/api/v1/{page}?{urlencode(parameters)}")
        if status != http.client.OK:
            raise StackError(f"Prometheus refuses {page} {parameters}: {body!r}")
        return json.loads(body)["data"]

    def _ask(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=_ANSWER_S
        )
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise StackError(f"Prometheus does not answer {path}: {error}") from error
        finally:
            connection.close()

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + _START_S
        while self._ask("/-/ready")[0] != http.client.OK:
            if time.monotonic() > until:
                raise StackError(f"Prometheus is not ready: {self.folder}")
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

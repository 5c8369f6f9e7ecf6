"""`shifter scaler`: KEDA's external scaler for the worker groups of an app."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import NamedTuple

from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.cli.address import host_and_port
from shifter.cli.output import note
from shifter.cli.problem import Exit, ProblemError
from shifter.cli.session import InSession, need_log, need_state
from shifter.cli.version import DISTRIBUTION, version_of
from shifter.errors import ConfigError
from shifter.ops.scale_reader import ScaleReader
from shifter.telemetry import configure_logging


class _Address(NamedTuple):
    """Where to listen, and the option that says so."""

    option: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def scaler(
    target: str,
    /,
    *,
    listen: str = "127.0.0.1:9090",
    health: str | None = None,
    session: InSession,
) -> None:
    """Tell KEDA how many workers each worker group should have, over gRPC.

    KEDA names the group in the metadata of its trigger; without one, the app must have
    one group. The standard health service answers beside it. The command ends with
    SIGTERM or Ctrl-C.

    Example: shifter scaler shop.jobs:app --listen 0.0.0.0:9090

    Args:
        target: MODULE:APP, such as shop.jobs:app.
        listen: HOST:PORT to serve on; port 0 takes a free one.
        health: HOST:PORT that answers /scale, /metrics, /livez and /readyz.
        session: This command line.
    """
    served = _Address("--listen", *host_and_port("--listen", listen, usual=9090))
    pages = None
    if health is not None:
        pages = _Address("--health", *host_and_port("--health", health, usual=9000))
    app = session.app(target)
    need_state(need_log(app.settings))
    configure_logging(app.settings.log_level, app.settings.log_format)
    asyncio.run(_serve(app, served, pages))


async def _serve(app: Shifter, served: _Address, pages: _Address | None) -> None:
    """Serve until a signal.

    Raises:
        ConfigError: An address cannot be bound.
        ProblemError: The extra is not installed.
    """
    try:
        from shifter.grpc.scaler import serve_scaler  # noqa: PLC0415  # of an extra
    except ImportError as error:
        raise ProblemError(
            "missing_extra",
            "the external scaler is not installed",
            str(error),
            'pip install "shifter-queue[grpc]"',
            Exit.CONFIG,
        ) from error
    reader = ScaleReader(app, SystemClock(), is_asked_only=False)
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)

    def serving(bound: int) -> None:
        groups = ", ".join(reader.groups)
        at = served._replace(port=bound)
        note(f"the external scaler listens at {at}, for groups: {groups}")

    async with contextlib.AsyncExitStack() as stack:
        if pages is not None:
            await _open_pages(stack, reader, pages)
        try:
            await serve_scaler(reader, str(served), serving=serving, until=stopping)
        except OSError as error:
            raise ConfigError(served.option, str(served), str(error)) from error


async def _open_pages(
    stack: contextlib.AsyncExitStack, reader: ScaleReader, at: _Address
) -> None:
    # Only a scaler that is scraped needs prometheus-client.
    from shifter.supervise.scaler_pages import ScalerPages  # noqa: PLC0415

    pages = ScalerPages(reader, version=version_of(DISTRIBUTION))
    try:
        bound = await stack.enter_async_context(pages.serving(at.host, at.port))
    except OSError as error:
        raise ConfigError(at.option, str(at), str(error)) from error
    note(f"the pages of the scaler are at {at._replace(port=bound)}")

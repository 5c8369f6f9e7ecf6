"""`shifter scaler`: KEDA's external scaler for the worker groups of an app."""

from __future__ import annotations

import asyncio
import signal

from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.cli.output import note
from shifter.cli.problem import Exit, ProblemError
from shifter.cli.session import InSession, need_log, need_state
from shifter.errors import ConfigError
from shifter.ops.scale_reader import ScaleReader
from shifter.telemetry import configure_logging

_MAX_PORT = 65_535


def scaler(
    target: str, /, *, listen: str = "127.0.0.1:9090", session: InSession
) -> None:
    """Tell KEDA how many workers each worker group should have, over gRPC.

    KEDA names the group in the metadata of its trigger; without one, the app must have
    one group. The command ends with SIGTERM or Ctrl-C.

    Example: shifter scaler shop.jobs:app --listen 0.0.0.0:9090

    Args:
        target: MODULE:APP, such as shop.jobs:app.
        listen: HOST:PORT to serve on; port 0 takes a free one.
        session: This command line.
    """
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or int(port) > _MAX_PORT:
        raise ConfigError("--listen", listen, "use HOST:PORT, such as 127.0.0.1:9090")
    app = session.app(target)
    need_state(need_log(app.settings))
    configure_logging(app.settings.log_level, app.settings.log_format)
    try:
        asyncio.run(_serve(app, host or "127.0.0.1", int(port)))
    except OSError as error:
        raise ConfigError("--listen", listen, str(error)) from error


async def _serve(app: Shifter, host: str, port: int) -> None:
    """Serve until a signal.

    Raises:
        OSError: The address cannot be bound.
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
        note(f"the external scaler listens at {host}:{bound}, for groups: {groups}")

    await serve_scaler(reader, f"{host}:{port}", serving=serving, until=stopping)

"""KEDA's external scaler over gRPC: ``shifter scaler``.

KEDA asks how large a metric is and divides it by the target of one worker. The metric
is the number of desired workers and the target is 1, so that the quotient is that
number. The trigger's metadata name the group: ``group: mail``.

The standard health service is beside it, for the probes of a kubelet: the whole server
serves while it answers, and the scaler while it has a number to give.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, TypeVar

import grpc
import grpc.aio

from shifter.grpc.scaler_messages import (
    active,
    health_status,
    metric_spec,
    metric_value,
    read_health_check,
    read_question,
    read_scaled_object,
)
from shifter.model.advice import nearest
from shifter.ops.scale_reader import ScaleAnswer, ScaleReader

SERVICE: Final = "externalscaler.ExternalScaler"
"""Full name of the service, by which a probe asks about it."""
_HEALTH: Final = "grpc.health.v1.Health"
_WAIT_S: Final = 2.0
"""How long a question waits for a reading; KEDA waits for 3 s by default."""
_GRACE_S: Final = 1.0
_MESSAGE_BYTES: Final = 65_536
"""Largest question: the metadata of a trigger are a few lines."""
_NAME: Final = "shifter-"

T = TypeVar("T")


class ExternalScaler:
    """Answers KEDA.

    Args:
        reader: Has the numbers; its `ScaleReader.run` runs beside this.
    """

    def __init__(self, reader: ScaleReader) -> None:
        self._reader = reader

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """The methods of both services, for ``add_generic_rpc_handlers``."""
        one, many = (
            grpc.unary_unary_rpc_method_handler,
            grpc.unary_stream_rpc_method_handler,
        )
        scaler: dict[str, Any] = {
            "IsActive": one(self._is_active),
            "StreamIsActive": many(self._stream),
            "GetMetricSpec": one(self._spec),
            "GetMetrics": one(self._metrics),
        }
        return (
            grpc.method_handlers_generic_handler(SERVICE, scaler),
            grpc.method_handlers_generic_handler(_HEALTH, {"Check": one(self._check)}),
        )

    async def _check(self, raw: bytes, context: Any) -> bytes:
        service = await _read(read_health_check, raw, context)
        if service not in ("", SERVICE):
            detail = f"ask about {SERVICE!r}, or about no service"
            await context.abort(grpc.StatusCode.NOT_FOUND, detail)
        is_serving = not service or self._reader.answer().is_given
        return health_status(is_serving=is_serving)

    async def _is_active(self, raw: bytes, context: Any) -> bytes:
        group = await self._group(raw, context)
        return active(is_active=await self._desired(group, context) > 0)

    async def _stream(self, raw: bytes, context: Any) -> AsyncGenerator[bytes]:
        """Tell each change, and the state at the start; nothing while it is unknown."""
        group, told = await self._group(raw, context), None
        await self._reader.fresh(wait_s=_WAIT_S)
        while True:
            attempt = self._reader.next_attempt()
            desired = _desired(self._reader.answer(), group)
            if desired is not None and (desired > 0) != told:
                told = desired > 0
                yield active(is_active=told)
            await attempt.wait()

    async def _spec(self, raw: bytes, context: Any) -> bytes:
        return metric_spec(_NAME + await self._group(raw, context), target=1)

    async def _metrics(self, raw: bytes, context: Any) -> bytes:
        question = await _read(read_question, raw, context)
        group = await self._known(question.scaled_object.metadata, context)
        return metric_value(
            question.metric or _NAME + group, await self._desired(group, context)
        )

    async def _group(self, raw: bytes, context: Any) -> str:
        found = await _read(read_scaled_object, raw, context)
        return await self._known(found.metadata, context)

    async def _known(self, metadata: dict[str, str], context: Any) -> str:
        """The group that is asked about; the only one where none is named."""
        groups, name = self._reader.groups, metadata.get("group")
        if name is None and len(groups) == 1:
            return groups[0]
        if name in groups:
            return name
        want = nearest(name or "", groups, "worker groups")
        detail = f"metadata 'group' is {name!r}: {want}"
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, detail)
        raise AssertionError  # abort has raised

    async def _desired(self, group: str, context: Any) -> int:
        answer = await self._reader.fresh(wait_s=_WAIT_S)
        desired = _desired(answer, group)
        if desired is None:
            detail = f"{answer.error} (age: {answer.age_s} s)"
            await context.abort(grpc.StatusCode.UNAVAILABLE, detail)
            raise AssertionError  # abort has raised
        if answer.is_stale:
            facts = (("shifter-age-s", str(answer.age_s)),)
            context.set_trailing_metadata(facts)
        return desired


def _desired(answer: ScaleAnswer, group: str) -> int | None:
    """Workers of a group; ``None`` where there is no number to give."""
    return next((one.desired for one in answer.groups if one.name == group), None)


async def _read(read: Callable[[bytes], T], raw: bytes, context: Any) -> T:
    try:
        return read(raw)
    except ValueError as error:
        detail = f"the message cannot be read: {error}"
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, detail)
        raise AssertionError from error  # abort has raised


async def serve_scaler(
    reader: ScaleReader,
    address: str,
    *,
    serving: Callable[[int], None],
    until: asyncio.Event,
) -> None:
    """Serve KEDA until an event.

    Args:
        reader: Has the numbers.
        address: HOST:PORT to listen on; port 0 takes a free one.
        serving: Called with the port.
        until: Ends it when it is set.

    Raises:
        OSError: The address cannot be bound.
    """
    options = [
        # Two scalers on one port would each answer some questions.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers(ExternalScaler(reader).handlers())
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(str(error)) from error
    reading = asyncio.get_running_loop().create_task(reader.run())
    try:
        await server.start()
        serving(port)
        await until.wait()
    finally:
        await server.stop(_GRACE_S)
        reading.cancel()
        await asyncio.wait([reading])

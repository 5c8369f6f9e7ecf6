"""Plays KEDA: a client of its external scaler, with the messages of its proto file.

The messages are made by protobuf from the descriptor, so that they are not encoded by
what is tested. Source: KEDA, ``externalscaler.proto``.
"""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = descriptor_pb2.FieldDescriptorProto
_ONE, _MANY = _TYPES.LABEL_OPTIONAL, _TYPES.LABEL_REPEATED
_PACKAGE = "externalscaler"
_SERVICE = f"/{_PACKAGE}.ExternalScaler"

# Fields by message: name, number, type, label, and the message of the type.
_MESSAGES = {
    "ScaledObjectRef": [
        ("name", 1, _TYPES.TYPE_STRING, _ONE, None),
        ("namespace", 2, _TYPES.TYPE_STRING, _ONE, None),
        ("scalerMetadata", 3, _TYPES.TYPE_MESSAGE, _MANY, "ScaledObjectRef.Entry"),
    ],
    "IsActiveResponse": [("result", 1, _TYPES.TYPE_BOOL, _ONE, None)],
    "MetricSpec": [
        ("metricName", 1, _TYPES.TYPE_STRING, _ONE, None),
        ("targetSize", 2, _TYPES.TYPE_INT64, _ONE, None),
        ("targetSizeFloat", 3, _TYPES.TYPE_DOUBLE, _ONE, None),
    ],
    "GetMetricSpecResponse": [
        ("metricSpecs", 1, _TYPES.TYPE_MESSAGE, _MANY, "MetricSpec"),
    ],
    "GetMetricsRequest": [
        ("scaledObjectRef", 1, _TYPES.TYPE_MESSAGE, _ONE, "ScaledObjectRef"),
        ("metricName", 2, _TYPES.TYPE_STRING, _ONE, None),
    ],
    "MetricValue": [
        ("metricName", 1, _TYPES.TYPE_STRING, _ONE, None),
        ("metricValue", 2, _TYPES.TYPE_INT64, _ONE, None),
        ("metricValueFloat", 3, _TYPES.TYPE_DOUBLE, _ONE, None),
    ],
    "GetMetricsResponse": [
        ("metricValues", 1, _TYPES.TYPE_MESSAGE, _MANY, "MetricValue"),
    ],
}


def _describe(found: Any, fields: list[Any]) -> None:
    for name, number, kind, label, message in fields:
        field = found.field.add(name=name, number=number, type=kind, label=label)
        if message is not None:
            field.type_name = f".{_PACKAGE}.{message}"


def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(
        name="externalscaler.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        found = file.message_type.add(name=name)
        if name == "ScaledObjectRef":
            entry = found.nested_type.add(name="Entry")
            # A map is a repeated message with a key and a value.
            _describe(
                entry,
                [
                    ("key", 1, _TYPES.TYPE_STRING, _ONE, None),
                    ("value", 2, _TYPES.TYPE_STRING, _ONE, None),
                ],
            )
        _describe(found, fields)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _pool()


def message(name: str) -> Any:
    """The class of a message."""
    found = _POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}")
    return message_factory.GetMessageClass(found)


class Keda:
    """Asks an external scaler about one ScaledObject.

    Args:
        channel: To the scaler.
        metadata: Of the trigger.
    """

    def __init__(self, channel: grpc.aio.Channel, **metadata: str) -> None:
        self._channel = channel
        self.about = message("ScaledObjectRef")(name="workers", namespace="shop")
        for key, value in metadata.items():
            self.about.scalerMetadata.add(key=key, value=value)

    def _call(self, kind: str, method: str, answer: str) -> Any:
        return getattr(self._channel, kind)(
            f"{_SERVICE}/{method}",
            request_serializer=lambda asked: asked.SerializeToString(),
            response_deserializer=message(answer).FromString,
        )

    async def is_active(self) -> bool:
        call = self._call("unary_unary", "IsActive", "IsActiveResponse")
        return (await call(self.about, wait_for_ready=True, timeout=30)).result

    def stream(self) -> Any:
        call = self._call("unary_stream", "StreamIsActive", "IsActiveResponse")
        return call(self.about, wait_for_ready=True)

    async def spec(self) -> Any:
        call = self._call("unary_unary", "GetMetricSpec", "GetMetricSpecResponse")
        answer = await call(self.about, wait_for_ready=True, timeout=30)
        [spec] = answer.metricSpecs
        return spec

    async def metric(self) -> Any:
        asked = message("GetMetricsRequest")(
            scaledObjectRef=self.about, metricName=(await self.spec()).metricName
        )
        call = self._call("unary_unary", "GetMetrics", "GetMetricsResponse")
        answer = await call(asked, timeout=30)
        [value] = answer.metricValues
        return value

    async def replicas(self) -> int:
        """What the horizontal pod autoscaler makes of it, rounded up."""
        spec, value = await self.spec(), await self.metric()
        return -int(-value.metricValueFloat // spec.targetSizeFloat)

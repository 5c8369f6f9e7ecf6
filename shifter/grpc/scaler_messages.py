"""The messages of KEDA's external scaler, and of a health check, as protocol buffers.

They are nine small messages that do not change, so that no compiler and no library is
needed for them. What a client sends is untrusted: a message that breaks the encoding is
refused, and unknown fields are skipped.

Sources: KEDA, ``externalscaler.proto``; gRPC, ``grpc/health/v1/health.proto``; Protocol
Buffers, "Encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5
_MOST_VARINT_BYTES: Final = 10
_SERVING: Final = 1
_NOT_SERVING: Final = 2


class ScaledObject(NamedTuple):
    """What KEDA asks about.

    Attributes:
        name: Name of the ScaledObject.
        namespace: Its namespace in Kubernetes.
        metadata: The trigger's metadata.
    """

    name: str
    namespace: str
    metadata: dict[str, str]


class MetricsQuestion(NamedTuple):
    """A question for a metric.

    Attributes:
        scaled_object: What KEDA asks about.
        metric: Name of the metric.
    """

    scaled_object: ScaledObject
    metric: str


def read_scaled_object(raw: bytes) -> ScaledObject:
    """Read a ``ScaledObjectRef``.

    Raises:
        ValueError: The bytes are none.
    """
    texts, metadata = {1: "", 2: ""}, dict[str, str]()
    for number, value in _fields(raw):
        if number in texts and isinstance(value, bytes):
            texts[number] = value.decode()
        elif number == 3 and isinstance(value, bytes):
            entry = {n: v.decode() for n, v in _fields(value) if isinstance(v, bytes)}
            metadata[entry.get(1, "")] = entry.get(2, "")
    return ScaledObject(texts[1], texts[2], metadata)


def read_question(raw: bytes) -> MetricsQuestion:
    """Read a ``GetMetricsRequest``.

    Raises:
        ValueError: The bytes are none.
    """
    found = MetricsQuestion(ScaledObject("", "", {}), "")
    for number, value in _fields(raw):
        if number == 1 and isinstance(value, bytes):
            found = found._replace(scaled_object=read_scaled_object(value))
        elif number == 2 and isinstance(value, bytes):
            found = found._replace(metric=value.decode())
    return found


def read_health_check(raw: bytes) -> str:
    """The service of a ``HealthCheckRequest``; empty for the whole server.

    Raises:
        ValueError: The bytes are none.
    """
    found = ""
    for number, value in _fields(raw):
        if number == 1 and isinstance(value, bytes):
            found = value.decode()
    return found


def health_status(*, is_serving: bool) -> bytes:
    """A ``HealthCheckResponse``.

    >>> health_status(is_serving=True).hex(), health_status(is_serving=False).hex()
    ('0801', '0802')
    """
    return _whole(1, _SERVING if is_serving else _NOT_SERVING)


def active(*, is_active: bool) -> bytes:
    """An ``IsActiveResponse``.

    >>> active(is_active=True).hex(), active(is_active=False).hex()
    ('0801', '')
    """
    return _whole(1, int(is_active))


def metric_spec(name: str, target: int) -> bytes:
    """A ``GetMetricSpecResponse`` with one metric.

    Args:
        name: Name of the metric.
        target: Its value for each worker, >= 1.
    """
    spec = _text(1, name) + _whole(2, target) + _float(3, float(target))
    return _nested(1, spec)


def metric_value(name: str, value: int) -> bytes:
    """A ``GetMetricsResponse`` with one value, >= 0."""
    found = _text(1, name) + _whole(2, value) + _float(3, float(value))
    return _nested(1, found)


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: number, and a whole number or bytes.

    Raises:
        ValueError: The message ends within a field, or has a kind that is not used.
    """
    at = 0
    while at < len(raw):
        key, at = _read_varint(raw, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _read_varint(raw, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _read_varint(raw, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} is not used")
        if at + size > len(raw):
            raise ValueError("the message ends within a field")
        yield number, raw[at : at + size]
        at += size


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    found = 0
    for place in range(_MOST_VARINT_BYTES):
        if at + place >= len(raw):
            raise ValueError("the message ends within a number")
        byte = raw[at + place]
        found |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return found, at + place + 1
    raise ValueError("a number has more than 64 bits")


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _whole(number: int, value: int) -> bytes:
    """A whole number; 0 is not written, as of proto3."""
    return _varint(number << 3 | _VARINT) + _varint(value) if value else b""


def _float(number: int, value: float) -> bytes:
    packed = struct.pack("<d", value)
    return _varint(number << 3 | _FIXED64) + packed if value else b""


def _nested(number: int, message: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(message)) + message


def _text(number: int, text: str) -> bytes:
    return _nested(number, text.encode()) if text else b""

"""Writes any record into the first part of a lane, and says where it is.

On Kafka by librdkafka's own calls: the Python client makes text of a header's name, and
strangers are not bound to that.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import confluent_kafka

from shifter.config import Settings
from shifter.ports import Appended, Record
from shifter.wire.headers import Headers
from shifter.wiring import open_log

_FLUSH_MS = 60_000
_ERROR_BYTES = 512
_POINTER = ctypes.c_void_p
# rd_kafka_vtype_t and flags of rd_kafka_producev
_END, _TOPIC, _PARTITION, _VALUE, _OPAQUE, _FLAGS, _HEADERS = 0, 1, 3, 4, 6, 7, 10
_COPY = 2


class Place(NamedTuple):
    """Where a record is in its topic."""

    partition: int
    offset: int


class Writer(Protocol):
    """Collects records; `flush` says of each where it is, or why it is nowhere."""

    def put(self, name: str, headers: Headers, value: bytes | None) -> None: ...

    def flush(self) -> dict[str, Place | str]: ...


@contextlib.contextmanager
def writer_of(settings: Settings, topic: str) -> Iterator[Writer]:
    """A writer into the log that settings name."""
    if settings.log_url.reveal().startswith("sqlite:"):
        log = open_log(settings)
        try:
            yield FileWriter(log, topic)
        finally:
            log.close(timeout_s=10)
        return
    kafka = KafkaWriter(settings.kafka_client()["bootstrap.servers"], topic)
    try:
        yield kafka
    finally:
        kafka.close()


class FileWriter:
    """Of an embedded log: it counts up, and has no records without a value."""

    def __init__(self, log, topic: str) -> None:
        self._log, self._topic, self._next = log, topic, 0
        self._line: list[tuple[str, Record]] = []

    def put(self, name: str, headers: Headers, value: bytes | None) -> None:
        record = Record(self._topic, b"" if value is None else value, headers)
        self._line.append((name, record))

    def flush(self) -> dict[str, Place | str]:
        found: dict[str, Place | str] = {}
        line, self._line = self._line, []
        answers = self._log.append_sync([r for _, r in line], timeout_s=60)
        for (name, _), answer in zip(line, answers, strict=True):
            if answer == Appended():
                found[name] = Place(0, self._next)
                self._next += 1
            else:
                found[name] = answer.reason
        return found


class _Message(ctypes.Structure):
    _fields_ = [
        ("err", ctypes.c_int),
        ("rkt", _POINTER),
        ("partition", ctypes.c_int32),
        ("payload", _POINTER),
        ("len", ctypes.c_size_t),
        ("key", _POINTER),
        ("key_len", ctypes.c_size_t),
        ("offset", ctypes.c_int64),
        ("private", _POINTER),
    ]


_REPORT = ctypes.CFUNCTYPE(None, _POINTER, ctypes.POINTER(_Message), _POINTER)


class KafkaWriter:
    """A producer that writes what it is given, whatever that is."""

    def __init__(self, servers: str, topic: str) -> None:
        self._lib, self._topic = _library(), topic.encode()
        self._names: list[str] = []
        self._found: dict[str, Place | str] = {}
        self._report = _REPORT(self._reported)
        conf = self._lib.rd_kafka_conf_new()
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        for name, text in (
            ("bootstrap.servers", servers),
            ("message.max.bytes", "20000000"),
            ("enable.idempotence", "true"),
            ("linger.ms", "5"),
            ("queue.buffering.max.messages", "1000000"),
        ):
            assert not self._lib.rd_kafka_conf_set(
                conf, name.encode(), text.encode(), error, _ERROR_BYTES
            ), error.value
        self._lib.rd_kafka_conf_set_dr_msg_cb(conf, self._report)
        self._client = self._lib.rd_kafka_new(0, conf, error, _ERROR_BYTES)
        assert self._client, error.value

    def put(self, name: str, headers: Headers, value: bytes | None) -> None:
        self._names.append(name)
        made = self._lib.rd_kafka_headers_new(len(headers))
        for header, content in headers:
            raw = header.encode(errors="surrogateescape")
            size = 0 if content is None else len(content)
            self._lib.rd_kafka_header_add(made, raw, len(raw), content, size)
        code = self._lib.rd_kafka_producev(
            _POINTER(self._client),
            *(ctypes.c_int(_TOPIC), ctypes.c_char_p(self._topic)),
            *(ctypes.c_int(_PARTITION), ctypes.c_int32(0)),
            *(ctypes.c_int(_VALUE), ctypes.c_char_p(value)),
            ctypes.c_size_t(0 if value is None else len(value)),
            *(ctypes.c_int(_OPAQUE), _POINTER(len(self._names))),
            *(ctypes.c_int(_FLAGS), ctypes.c_int(_COPY)),
            *(ctypes.c_int(_HEADERS), _POINTER(made)),
            ctypes.c_int(_END),
        )
        assert code == 0, self._lib.rd_kafka_err2name(code)

    def flush(self) -> dict[str, Place | str]:
        assert self._lib.rd_kafka_flush(self._client, _FLUSH_MS) == 0
        found, self._found = self._found, {}
        return found

    def close(self) -> None:
        self._lib.rd_kafka_destroy(self._client)

    def _reported(self, _client, message, _opaque) -> None:
        told = message.contents
        name = self._names[told.private - 1]
        if told.err:
            self._found[name] = self._lib.rd_kafka_err2name(told.err).decode()
        else:
            self._found[name] = Place(told.partition, told.offset)


def _library() -> ctypes.CDLL:
    folder = Path(confluent_kafka.__file__).parent.parent
    [path] = folder.glob("confluent_kafka.libs/librdkafka-*")
    lib = ctypes.CDLL(str(path))
    text, size, number = ctypes.c_char_p, ctypes.c_ssize_t, ctypes.c_int
    for name, result, arguments in (
        ("conf_new", _POINTER, []),
        ("conf_set", number, [_POINTER, text, text, text, size]),
        ("conf_set_dr_msg_cb", None, [_POINTER, _REPORT]),
        ("new", _POINTER, [number, _POINTER, text, size]),
        ("headers_new", _POINTER, [size]),
        ("header_add", number, [_POINTER, text, size, text, size]),
        ("producev", number, None),
        ("flush", number, [_POINTER, number]),
        ("destroy", None, [_POINTER]),
        ("err2name", text, [number]),
    ):
        function = getattr(lib, f"rd_kafka_{name}")
        function.restype = result
        if arguments is not None:
            function.argtypes = arguments
    return lib

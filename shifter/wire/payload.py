"""Payloads: from a handler's signature to bytes and back.

A payload is one object: the handler's parameters by name. Its type is made from the
signature, once, when the job is registered; msgspec then checks every field in C. A
signature that cannot be a payload is a `ConfigError` at that moment, so that no record
fails for it later.

A worker reads everything that `PayloadCodec.encode` lets through, since `encode` reads
its own output back the way a worker does. An argument that the caller left out is left
to the handler's own default.

The record's content type shows whether it is JSON or msgpack. Parameters without an
annotation, or annotated ``Any``, arrive as plain JSON values.
"""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from shifter.errors import ConfigError, DecodeError, PayloadError
from shifter.model.reason import Reason
from shifter.runtime.handler import function_of
from shifter.wire.headers import JSON, MSGPACK
from shifter.wire.untrusted import check_depth, check_msgpack_depth, printable

DEFAULT_MAX_PAYLOAD_BYTES: Final = 900_000
"""Leaves a dead letter, which is larger than its source, room in a 1 MB record."""

_MAX_DETAIL: Final = 300
_MSGPACK_NAMES: Final = frozenset(
    {MSGPACK, "application/x-msgpack", "application/vnd.msgpack"}
)
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii"})
_OTHER_VERSION: Final = (
    "Object contains unknown field ",
    "Object missing required field ",
    "Invalid enum value ",
    "Invalid value ",
)
"""How msgspec's messages begin if two versions of a handler differ: an argument or a
choice was added or removed."""

_AT: Final = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL).fullmatch

_UNWRITABLE: Final = (TypeError, ValueError, OverflowError, RecursionError)

_UNNAMED: Final = {
    inspect.Parameter.POSITIONAL_ONLY: "positional-only",
    inspect.Parameter.VAR_POSITIONAL: "a variable number of arguments",
    inspect.Parameter.VAR_KEYWORD: "a variable number of arguments",
}
_INSTANCES: Final = ("self", "cls")
_PLAIN: Final = (type(None), bool, int, float, str, bytes)

_read_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_to_json: Final = msgspec.json.Encoder().encode
_to_msgpack: Final = msgspec.msgpack.Encoder().encode


def _read_signature(
    function: Callable[..., Any], name: str, context_type: type
) -> tuple[type[msgspec.Struct], tuple[str, ...], str | None]:
    """The payload's type, the parameters by position, and the context parameter."""
    hints = _hints(function, name)
    contexts: list[str] = []
    taken: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in _UNNAMED:
            want = f"a payload is by name, this is {_UNNAMED[parameter.kind]}"
            raise ConfigError(_where(name), str(parameter), want)
        _refuse_instance(parameter, name)
        if _is_context(hints.get(parameter.name), context_type):
            contexts.append(parameter.name)
        else:
            taken.append(parameter)
    if len(contexts) > 1:
        raise ConfigError(_where(name), ", ".join(contexts), "use one context")
    positional = tuple(one.name for one in taken if one.kind != one.KEYWORD_ONLY)
    return _payload_type(name, taken, hints), positional, next(iter(contexts), None)


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function_of(function), include_extras=True)
    except Exception as error:
        want = "import what they name at run time, not under TYPE_CHECKING"
        raise ConfigError(f"annotations of job {name!r}", str(error), want) from error


def _refuse_instance(parameter: inspect.Parameter, name: str) -> None:
    """A method's own parameter is no part of a payload."""
    if parameter.name in _INSTANCES and parameter.annotation is parameter.empty:
        want = (
            "no instance exists where a worker runs the job: decorate a function, or "
            "register a bound method with app.job(instance.method)"
        )
        raise ConfigError(_where(name), parameter.name, want)


def _is_context(hint: object, context_type: type) -> bool:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return hint is context_type or (is_union and context_type in typing.get_args(hint))


def _payload_type(
    name: str, parameters: list[inspect.Parameter], hints: dict[str, Any]
) -> type[msgspec.Struct]:
    fields = [_field(parameter, hints) for parameter in parameters]
    for parameter, field in zip(parameters, fields, strict=True):
        try:
            # The schema is not used. Making it raises for a type that msgspec does not
            # support; a decoder raises only when a value arrives.
            msgspec.json.schema(_struct([field]))
        except Exception as error:
            reason = str(error).splitlines()[-1] if str(error) else error
            want = f"use a type that can travel as JSON: {reason}"
            raise ConfigError(_where(name), str(parameter), want) from error
    return _struct(fields)


def _struct(fields: list[tuple[str, Any, Any]]) -> type[msgspec.Struct]:
    # Keyword-only: a parameter without a default may then follow one that has one.
    return msgspec.defstruct(
        "Payload", fields, kw_only=True, forbid_unknown_fields=True
    )


def _field(parameter: inspect.Parameter, hints: dict[str, Any]) -> tuple[str, Any, Any]:
    kind = hints.get(parameter.name, Any)
    kind = Any if kind is object else kind
    default = parameter.default
    if default is parameter.empty:
        return parameter.name, kind, msgspec.field()
    if isinstance(default, _PLAIN):
        return parameter.name, kind, msgspec.field(default=default)
    # msgspec copies or refuses mutable defaults; Python hands over the object itself.
    return parameter.name, kind, msgspec.field(default_factory=lambda: default)


def _where(name: str) -> str:
    return f"parameter of job {name!r}"


class PayloadCodec:
    """Reads and writes the payload of one job type. Safe to share between threads.

    Args:
        function: The handler; its annotations may be strings.
        name: The job type's name, for errors.
        context_type: A parameter annotated with it is no part of the payload.
        content_type: Format that is written: ``application/json`` or
            ``application/msgpack``. JSON is always read.
        reads_msgpack: Whether msgpack is read too; the written format always is.
        max_bytes: Largest payload written or read, > 0.

    Raises:
        ConfigError: A parameter cannot be named in a payload (``*args``, ``**kwargs``,
            positional-only), or its type cannot travel.

    Attributes:
        content_type: What `encode` writes.
        context_parameter: Name of the handler's context parameter, or ``None``; it is
            no part of the payload.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        context_type: type,
        content_type: str = JSON,
        reads_msgpack: bool = True,
        max_bytes: int = DEFAULT_MAX_PAYLOAD_BYTES,
    ) -> None:
        self._struct, self._positional, self.context_parameter = _read_signature(
            function, name, context_type
        )
        self._reads_msgpack = reads_msgpack or content_type == MSGPACK
        self._job, self._max_bytes = name, max_bytes
        self._from_json = msgspec.json.Decoder(self._struct).decode
        self._from_msgpack = msgspec.msgpack.Decoder(self._struct).decode
        self.content_type = content_type

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The payload of a call.

        Raises:
            PayloadError: The call does not fit the signature, or the payload is too
                large; names the argument.
        """
        arguments = self._bind(args, kwargs) if args else {**kwargs}
        return self._write(arguments, self.content_type)

    def read_json(self, raw: bytes) -> dict[str, Any]:
        """The arguments of a call that comes as JSON text: from a terminal, a request.

        Defaults are not filled in. The arguments are read by the handler's types and
        not by way of plain JSON values, so that a `Decimal` keeps all its digits, and
        dates and bytes have the handler's types.

        Args:
            raw: One JSON object.

        Raises:
            DecodeError: With ``Reason.UNDECODABLE_PAYLOAD``: it is no JSON object.
            PayloadError: It does not fit the signature, or is too large; names the
                argument.
        """
        check_depth(raw)
        try:
            given = _read_object(raw)
        except Exception as error:  # noqa: BLE001  # its errors have no common type
            raise _bad(str(error) or type(error).__name__) from None
        try:
            typed = self._read(raw, JSON)
        except DecodeError as error:
            detail = self._misfit(given) or error.detail
            raise PayloadError(self._job, detail) from None
        return {name: getattr(typed, name) for name in given}

    def decode(self, value: bytes | None, content_type: str) -> dict[str, Any]:
        """The arguments in a payload, defaults filled in; no bytes raise anything else.

        Args:
            value: A record's value.
            content_type: As the record states it.

        Raises:
            DecodeError: With ``Reason.UNDECODABLE_PAYLOAD``.
        """
        if not value:
            raise _bad("null value" if value is None else "empty value")
        return msgspec.structs.asdict(self._read(value, content_type))

    def _read(self, value: bytes, content_type: str) -> msgspec.Struct:
        if len(value) > self._max_bytes:
            raise _bad(f"{len(value)} bytes; at most {self._max_bytes}")
        is_json = content_type == JSON or (
            content_type != MSGPACK and _is_json(content_type)
        )
        if not is_json and not self._reads_msgpack:
            want = "declare the job with msgpack=True"
            raise _bad(f"content type {content_type!r}; use {JSON!r}, or {want}")
        (check_depth if is_json else check_msgpack_depth)(value)
        try:
            found: msgspec.Struct = (
                self._from_json(value) if is_json else self._from_msgpack(value)
            )
        except Exception as error:  # noqa: BLE001  # its errors have no common type
            message = str(error) or type(error).__name__
            is_misfit = message.startswith(_OTHER_VERSION)
            raise _bad(_explained(message), is_misfit=is_misfit) from None
        return found

    def _write(self, arguments: dict[str, Any], content_type: str) -> bytes:
        encode = _to_json if content_type == JSON else _to_msgpack
        try:
            raw = encode(arguments)
        except _UNWRITABLE as error:
            raise PayloadError(
                self._job, _unwritable(arguments, error, encode)
            ) from error
        # JSON has no NaN: msgspec writes null, which an optional number would accept.
        if b"null" in raw and content_type == JSON:
            self._refuse_not_finite(arguments)
        try:
            self._read(raw, content_type)
        except DecodeError as error:
            detail = self._misfit(arguments) or error.detail
            raise PayloadError(self._job, detail) from None
        return raw

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        names = self._positional
        if len(args) > len(names):
            detail = f"takes {len(names)} positional arguments, {len(args)} given"
            raise PayloadError(self._job, detail)
        arguments = dict(zip(names, args, strict=False))
        if kwargs:
            for name in kwargs:
                if name in arguments:
                    raise PayloadError(self._job, f"argument {name!r} is given twice")
            arguments.update(kwargs)
        return arguments

    def _misfit(self, arguments: Mapping[str, Any]) -> str | None:
        # msgspec reports the first wrong field only, and calls it a field.
        fields = msgspec.structs.fields(self._struct)
        known = [field.name for field in fields]
        for name in arguments:
            if name not in known:
                return f"unknown argument {name!r}; {_nearest(str(name), known)}"
        required = [field.name for field in fields if field.required]
        missing = [repr(name) for name in required if name not in arguments]
        return f"missing: {', '.join(missing)}" if missing else None

    def _refuse_not_finite(self, arguments: Mapping[str, Any]) -> None:
        for name, value in arguments.items():
            if _has_not_finite(value):
                detail = f"argument {name!r}: NaN and infinity cannot travel as JSON"
                raise PayloadError(self._job, detail)


def _is_json(content_type: str) -> bool:
    """Whether to read JSON, else msgpack.

    Raises:
        DecodeError: Neither, or another charset than UTF-8.
    """
    kind, *parameters = content_type.lower().split(";")
    kind = kind.strip()
    for parameter in parameters:
        key, _, charset = parameter.strip().partition("=")
        if key == "charset" and charset.strip('"') not in _CHARSETS:
            raise _bad(f"content type {content_type!r}; use UTF-8")
    if kind == JSON or kind.endswith("+json"):
        return True
    if kind in _MSGPACK_NAMES:
        return False
    raise _bad(f"content type {content_type!r}; use {JSON!r} or {MSGPACK!r}")


def _explained(message: str) -> str:
    """The decoder's message with the argument in front."""
    found = _AT(message)
    return f"argument {found[2]!r}: {found[1]}" if found and found[2] else message


def _unwritable(
    arguments: Mapping[str, Any],
    error: Exception,
    encode: Callable[[object], bytes],
) -> str:
    at_fault = (
        f"argument {name!r}: "
        for name, value in arguments.items()
        if not _is_writable({name: value}, encode)
    )
    return printable(f"{next(at_fault, '')}{error}", _MAX_DETAIL)


def _is_writable(value: object, encode: Callable[[object], bytes]) -> bool:
    try:
        encode(value)
    except _UNWRITABLE:
        return False
    return True


def _nearest(name: str, known: list[str]) -> str:
    import difflib  # noqa: PLC0415  # only a wrong name needs it

    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"arguments: {', '.join(known) or 'none'}"


def _has_not_finite(value: object) -> bool:
    left: list[object] = [msgspec.to_builtins(value)]
    while left:
        item = left.pop()
        if isinstance(item, float) and not math.isfinite(item):
            return True
        if isinstance(item, Mapping):
            left.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            left.extend(item)
    return False


def _bad(detail: str, *, is_misfit: bool = False) -> DecodeError:
    detail = printable(detail, _MAX_DETAIL)
    return DecodeError(Reason.UNDECODABLE_PAYLOAD, detail, is_misfit=is_misfit)

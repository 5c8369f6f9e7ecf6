"""What a handler takes, as the type of its payload.

Every mistake is a `ConfigError` when the job is registered, so that no record has to
fail for it later.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from shifter.errors import ConfigError
from shifter.runtime.handler import function_of

_UNNAMED: Final = {
    inspect.Parameter.POSITIONAL_ONLY: "positional-only",
    inspect.Parameter.VAR_POSITIONAL: "a variable number of arguments",
    inspect.Parameter.VAR_KEYWORD: "a variable number of arguments",
}
_INSTANCES: Final = ("self", "cls")
_PLAIN: Final = (type(None), bool, int, float, str, bytes)


class Signature(NamedTuple):
    """A handler's parameters, without its context.

    Attributes:
        struct: The payload's type; unknown fields are refused.
        names: All parameters, in order.
        positional: Those that may be given by position, in order.
        required: Those without a default, in order.
        context_parameter: Name of the context parameter, or ``None``.
    """

    struct: type[msgspec.Struct]
    names: tuple[str, ...]
    positional: tuple[str, ...]
    required: tuple[str, ...]
    context_parameter: str | None


def read_signature(
    function: Callable[..., Any], *, name: str, context_type: type
) -> Signature:
    """What ``function`` takes.

    Args:
        function: A handler.
        name: The job type's name, for errors.
        context_type: A parameter annotated with it is the context.

    Raises:
        ConfigError: A parameter cannot be named or is a method's instance, two are
            contexts, an annotation cannot be resolved, or a type cannot travel.
    """
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
    return Signature(
        struct=_payload_type(name, taken, hints),
        names=tuple(one.name for one in taken),
        positional=tuple(one.name for one in taken if one.kind != one.KEYWORD_ONLY),
        required=tuple(one.name for one in taken if one.default is one.empty),
        context_parameter=contexts[0] if contexts else None,
    )


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
            # The schema is thrown away: making it is how msgspec tells whether it
            # knows a type, which its decoder only does when a value arrives.
            msgspec.json.schema(_struct([field]))
        except Exception as error:
            reason = str(error).splitlines()[-1] if str(error) else error
            want = f"use a type that can travel as JSON: {reason}"
            raise ConfigError(_where(name), str(parameter), want) from error
    return _struct(fields)


def _struct(fields: list[tuple[str, Any, Any]]) -> type[msgspec.Struct]:
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

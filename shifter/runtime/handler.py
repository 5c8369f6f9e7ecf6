"""What may be a handler, and how a call of one is completed.

A handler is a function or another callable. Its call returns a value, or something that
stands for work not done yet: an awaitable, or the future of an executor. The kind of
the callable does not decide which: a decorator turns an ``async def`` into a plain
function that returns a coroutine. The result decides it, so the result is looked at
wherever a handler runs.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context
from typing import Any

from shifter.errors import ConfigError

_MISSING = object()


def check_handler(field: str, handler: object) -> None:
    """Refuse what cannot do the work of a job when it is called.

    Args:
        field: What it was given as, for the error.
        handler: What was given.

    Raises:
        ConfigError: It is a class, cannot be called, or is a generator function.
    """
    if isinstance(handler, type) or not callable(handler):
        raise ConfigError(field, handler, "decorate a function, or another callable")
    function = function_of(handler)
    if inspect.isasyncgenfunction(function) or _is_generator_function(function):
        want = "calling a generator function runs nothing; use one without yield"
        raise ConfigError(field, handler, want)


def function_of(handler: Any) -> Any:
    """The function that a call of ``handler`` runs first.

    It is found behind `functools.partial`, methods, static methods and objects with a
    ``__call__``, but not behind ``__wrapped__``: a wrapper may do anything.
    """
    while True:
        if isinstance(handler, functools.partial):
            handler = handler.func
        elif isinstance(handler, types.MethodType | staticmethod):
            handler = handler.__func__
        elif inspect.isroutine(handler) or isinstance(handler, type):
            return handler
        else:
            handler = type(handler).__call__


def is_coroutine_function(handler: Any) -> bool:
    """Whether a call of ``handler`` certainly returns a coroutine, and does no more."""
    found = inspect.iscoroutinefunction
    return found(handler) or found(function_of(handler))


def is_unfinished(value: object) -> bool:
    """Whether a handler's call returned work that is still to be waited for."""
    return isinstance(value, Future) or inspect.isawaitable(value)


async def completed(value: Any) -> Any:
    """What a handler's call came to: it is waited for until there is a value.

    A cancellation is passed on. The future of a call that runs already cannot be
    cancelled; the wait ends, and the call goes on.

    Raises:
        TypeError: The call returned a generator, of which nothing has run.
    """
    import asyncio  # noqa: PLC0415  # `import shifter` does without

    while is_unfinished(value):
        value = await (
            asyncio.wrap_future(value) if isinstance(value, Future) else value
        )
    check_value(value)
    return value


def check_value(value: object) -> None:
    """Refuse what a handler must not return.

    Raises:
        TypeError: It is a generator, of which nothing has run.
    """
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise TypeError("the handler returned a generator, of which nothing has run")


def adopt(context: Context) -> None:
    """Set each context variable to what it is in ``context``.

    An awaitable is awaited with the variables that were set where it was made.
    """
    for variable, value in context.items():
        if variable.get(_MISSING) is not value:
            variable.set(value)


def _is_generator_function(function: Callable[..., Any]) -> bool:
    """Those of `types.coroutine` are awaitable, and no generators to their callers."""
    if not inspect.isgeneratorfunction(function):
        return False
    code = getattr(function, "__code__", None)
    return code is None or not code.co_flags & inspect.CO_ITERABLE_COROUTINE

"""From the options of ``@app.job(...)`` to a checked `JobSpec`.

Every mistake is one `ConfigError` at import time, before anything is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, TypedDict, TypeVar

from shifter.errors import ConfigError
from shifter.jobs.schedule import Window, read_cron, read_windows
from shifter.model.advice import nearest
from shifter.model.error_kinds import ErrorKinds
from shifter.model.job import ClaimsMode, Isolation, JobSpec, OnBlock, OnBudget
from shifter.model.lane import Priority, check_name, check_priority, check_quiet
from shifter.model.time import Duration, duration_ms
from shifter.policy.delivery.error_rules import Backoff, read_rules
from shifter.policy.protection.circuit.policy import check_lease
from shifter.policy.protection.dependency import Dependency
from shifter.runtime.handler import check_handler, is_coroutine_function

E = TypeVar("E", bound=StrEnum)

_MAX_ATTEMPTS = 1_000
_RULES = ("retry_on", "give_up_on", "retry")
_DURATIONS = {
    "timeout": ("timeout_ms", 1),
    "deadline": ("deadline_ms", 1),
    "backoff": ("backoff_base_ms", 1),
    "max_backoff": ("backoff_cap_ms", 1),
    "max_block": ("block_ms", 1),
    "dedup_window": ("dedup_ms", 1_000),
    "keep_status": ("keep_status_ms", 1_000),
}


class JobOptions(TypedDict, total=False):
    """Options of ``@app.job(...)``; `Shifter.job` describes each of them."""

    name: str | None
    queue: str
    priority: Priority
    timeout: Duration
    deadline: Duration | None
    attempts: int
    backoff: Duration
    max_backoff: Duration
    retry_on: ErrorKinds
    give_up_on: ErrorKinds
    retry: Mapping[type[BaseException], Backoff]
    isolate: str | None
    on_block: str
    max_block: Duration
    claims: str
    dedup_window: Duration
    keep_status: Duration
    inline: bool
    window: Window | Sequence[Window]
    cron: str
    uses: Dependency | None
    on_budget: str
    repair: bool
    opportunistic: bool
    msgpack: bool
    aliases: str | Sequence[str]


def declare_job(
    function: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    taken: Iterable[str] = (),
) -> JobSpec:
    """Check the options of a decorator, and make the job's specification of them.

    Args:
        function: The handler.
        options: The options by name, as given.
        taken: Names and aliases of the app's other jobs.

    Raises:
        ConfigError: An option is unknown, malformed or contradicts another one; the
            name or an alias is taken; the handler cannot be called, or is a generator
            function.
    """
    check_handler("job", function)
    _check_options(options)
    fields: dict[str, Any] = {
        field: duration_ms(option, options[option], minimum_ms=minimum_ms)
        for option, (field, minimum_ms) in _DURATIONS.items()
        if options.get(option) is not None
    }
    for option, (field, read) in _READERS.items():
        if option in options:
            fields[field] = read(option, options[option])
    name = _name(function, options.get("name"), taken)
    spec = JobSpec(
        name=name,
        aliases=_aliases(options.get("aliases", ()), {*taken, name}),
        isolation=_isolation(function, options.get("isolate")),
        error_rules=read_rules(
            options.get("retry_on"), options.get("give_up_on"), options.get("retry", {})
        ),
        **fields,
    )
    if spec.backoff_cap_ms < spec.backoff_base_ms:
        want = f"must be at least backoff ({spec.backoff_base_ms} ms)"
        raise ConfigError("max_backoff", options.get("max_backoff"), want)
    if spec.opportunistic:
        check_quiet("opportunistic", True, spec.priority)
    _check_uses(options.get("uses"), spec)
    return spec


def _check_uses(uses: object, spec: JobSpec) -> None:
    if uses is None:
        return
    if not isinstance(uses, Dependency):
        raise ConfigError("uses", uses, "use what app.dependency(...) returned")
    check_lease(uses.circuit, timeout_ms=spec.timeout_ms)


def _check_options(options: Mapping[str, Any]) -> None:
    known = ("name", "aliases", "isolate", "uses", *_RULES, *_READERS, *_DURATIONS)
    for option in options:
        if option not in known:
            raise ConfigError("job option", option, nearest(option, known, "options"))


def _name(function: Callable[..., Any], name: object, taken: Iterable[str]) -> str:
    given = getattr(function, "__name__", None) if name is None else name
    return _free_name("name", given, taken)


def _aliases(given: object, taken: set[str]) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, list | tuple):
        raise ConfigError("aliases", given, "use a name, or a list of names")
    for name in names:
        taken.add(_free_name("aliases", name, taken))
    return tuple(names)


def _free_name(option: str, found: object, taken: Iterable[str]) -> str:
    if not isinstance(found, str) or not 1 <= len(found) <= 200:
        raise ConfigError(option, found, "use 1-200 characters")
    if not found.isprintable() or found != found.strip():
        raise ConfigError(option, found, "use printable characters, no outer spaces")
    if found in taken:
        want = "another job of this app has this name, or had it"
        raise ConfigError(option, found, want)
    return found


def _isolation(function: Callable[..., Any], isolate: object) -> Isolation:
    if isolate is None:
        is_async = is_coroutine_function(function)
        return Isolation.LOOP if is_async else Isolation.THREAD
    if isolate != "process":
        raise ConfigError("isolate", isolate, "use 'process' or leave it out")
    return Isolation.PROCESS


def _attempts(_: str, value: Any) -> int:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if is_whole and 1 <= value <= _MAX_ATTEMPTS:
        return int(value)
    raise ConfigError("attempts", value, f"use 1-{_MAX_ATTEMPTS}, the first included")


def _flag(option: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ConfigError(option, value, "use True or False")


def _choice(option: str, value: Any, kind: type[E]) -> E:
    try:
        return kind(value)
    except ValueError:
        words = ", ".join(repr(choice.value) for choice in kind)
        raise ConfigError(option, value, f"use one of {words}") from None


_READERS: Final[Mapping[str, tuple[str, Callable[[str, Any], object]]]] = {
    "on_block": ("on_block", lambda name, value: _choice(name, value, OnBlock)),
    "claims": ("claims", lambda name, value: _choice(name, value, ClaimsMode)),
    "queue": ("queue", check_name),
    "priority": ("priority", lambda _, value: check_priority(value)),
    "attempts": ("attempts", _attempts),
    "inline": ("inline", _flag),
    "window": ("windows", read_windows),
    "cron": ("cron", read_cron),
    "on_budget": ("on_budget", lambda name, value: _choice(name, value, OnBudget)),
    "repair": ("repair", _flag),
    "msgpack": ("msgpack", _flag),
    "opportunistic": ("opportunistic", _flag),
}

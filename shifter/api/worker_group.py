"""``app.worker_group(...)``: lanes that one deployment of workers serves, and its size.

A scaler asks how many workers a group should have. An app without groups has one, named
``default``, with all its lanes; so are the lanes that no group names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypedDict, Unpack

from shifter.config import Settings
from shifter.errors import ConfigError
from shifter.model.advice import nearest
from shifter.model.lane import Priority, check_name, check_priority
from shifter.model.time import Duration, duration_ms
from shifter.policy.scaling.settings import ScalingPolicy

DEFAULT_GROUP: Final = "default"

_DURATIONS: Final = ("target", "stabilisation", "start_up")


class WorkerGroupOptions(TypedDict, total=False):
    """Options of ``app.worker_group(...)``.

    Attributes:
        queues: Queues that workers of the group serve, at least one.
        priorities: Priorities that they serve; all unless given.
        floor: Workers at least; the setting ``scale_floor`` unless given.
        ceiling: Workers at most; ``scale_ceiling``.
        target: Time in which the work that is due shall be done; ``scale_target``.
        stabilisation: How long a number is kept after more were needed;
            ``scale_stabilisation``.
        start_up: What the platform takes to start a process; ``scale_start_up``.
    """

    queues: Sequence[str]
    priorities: Sequence[Priority]
    floor: int
    ceiling: int
    target: Duration
    stabilisation: Duration
    start_up: Duration


class WorkerGroup(NamedTuple):
    """A worker group.

    Attributes:
        name: Its name.
        lanes: The (queue, priority) of its lanes.
        given: Fields of `ScalingPolicy` that were given for it.
    """

    name: str
    lanes: frozenset[tuple[str, Priority]]
    given: Mapping[str, Any]

    def policy(self, settings: Settings) -> ScalingPolicy:
        """How the group is scaled: as it was given, else as it is set.

        Raises:
            ConfigError: The floor is above the ceiling.
        """
        policy = ScalingPolicy(
            floor=settings.scale_floor,
            ceiling=settings.scale_ceiling,
            target_ms=settings.scale_target_ms,
            stabilisation_ms=settings.scale_stabilisation_ms,
            start_up_ms=settings.scale_start_up_ms,
        )
        try:
            return replace(policy, **self.given)
        except ConfigError as error:
            field = f"{error.field} of worker group {self.name!r}"
            raise ConfigError(field, error.value, error.want) from None


class HasWorkerGroups:
    """The worker groups of an app, by name."""

    def __init__(self) -> None:
        self._groups: dict[str, WorkerGroup] = {}

    def worker_group(self, name: str, **options: Unpack[WorkerGroupOptions]) -> None:
        """Declare which lanes one deployment of workers serves: `WorkerGroupOptions`.

        ``shifter scale`` and ``shifter scaler`` then say how many workers it needs.

        Raises:
            ConfigError: The name is wrong or taken, an option is wrong or missing, or
                another group has one of the lanes.
        """
        check_name("worker group", name)
        if name in self._groups or name == DEFAULT_GROUP:
            raise ConfigError("worker group", name, "another one of this app has it")
        lanes = _lanes(options)
        for group in self._groups.values():
            if shared := sorted(lanes & group.lanes):
                shown = " ".join(shared[0])
                want = f"{group.name!r} has the lane {shown} already"
                raise ConfigError("worker group", name, want)
        self._groups[name] = WorkerGroup(name, lanes, _given(options))

    def worker_groups(self, queues: Iterable[str]) -> list[WorkerGroup]:
        """All groups, by name; lanes of these queues that none has are the default's.

        A default group without lanes is left out.
        """
        found = sorted(self._groups.values(), key=lambda group: group.name)
        taken = frozenset[tuple[str, Priority]]().union(*(one.lanes for one in found))
        rest = {(queue, one) for queue in queues for one in Priority} - taken
        if rest:
            found.append(WorkerGroup(DEFAULT_GROUP, frozenset(rest), {}))
        return found


def _lanes(options: WorkerGroupOptions) -> frozenset[tuple[str, Priority]]:
    known = list(WorkerGroupOptions.__annotations__)
    for option in options:
        if option not in known:
            want = nearest(option, known, "options")
            raise ConfigError("worker group option", option, want)
    queues, priorities = options.get("queues", ()), options.get("priorities")
    if isinstance(queues, str) or not queues:
        raise ConfigError("queues", queues, "use a list of queues, at least one")
    if isinstance(priorities, str) or (priorities is not None and not priorities):
        want = "use a list of priorities, at least one"
        raise ConfigError("priorities", priorities, want)
    for queue in queues:
        check_name("queue", queue)
    chosen = list(Priority) if priorities is None else priorities
    return frozenset((q, check_priority(p)) for q in queues for p in chosen)


def _given(options: WorkerGroupOptions) -> dict[str, Any]:
    """The options as fields of a policy; each is checked by itself.

    Raises:
        ConfigError: One is out of its range.
    """
    given: dict[str, Any] = {
        option: options[option] for option in ("floor", "ceiling") if option in options
    }
    for option in _DURATIONS:
        if option in options:
            least_ms = 1_000 if option == "target" else 0
            text: Any = options[option]
            given[f"{option}_ms"] = duration_ms(option, text, minimum_ms=least_ms)
    ScalingPolicy(**given, **({} if "ceiling" in given else {"ceiling": 100_000}))
    return given

"""``app.lane(...)``: hours of a queue's lanes, checked where they are declared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypedDict, Unpack

from shifter.adapters.system import SystemClock
from shifter.api.job import Job
from shifter.errors import ConfigError
from shifter.fleet.hours import Hours
from shifter.jobs.schedule import Window, read_windows
from shifter.model.advice import nearest
from shifter.model.job import JobSpec, LaneRule
from shifter.model.lane import Lane, Priority, check_name
from shifter.policy.schedule.hours import ever_meet

_OPTIONS: Final = ("priority", "window", "opportunistic")


class LaneOptions(TypedDict, total=False):
    """Options of ``app.lane(...)``.

    Attributes:
        priority: Which lane of the queue; all four unless given.
        window: A `Window`, or several: the lane is drained only while one is open.
        opportunistic: Drained only while the fleet is idle; of LOW lanes.
    """

    priority: Priority
    window: Window | Sequence[Window]
    opportunistic: bool


class LaneRules:
    """The rules of one app.

    Args:
        namespace: Of the app.

    Attributes:
        by_lane: Rules by the lane's name.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.by_lane: dict[str, LaneRule] = {}

    def declare(
        self, queue: str, options: Mapping[str, Any], specs: Iterable[JobSpec]
    ) -> None:
        """Say when lanes are drained.

        Args:
            queue: Whose.
            options: As of `LaneOptions`.
            specs: Jobs that are registered already.

        Raises:
            ConfigError: An option is wrong or missing, a lane has a rule already, or
                its hours and those of a job never meet.
        """
        check_name("queue", queue)
        rule, priorities = _rule(options)
        lanes = [Lane(self._namespace, queue, one).name for one in priorities]
        for lane in lanes:
            if lane in self.by_lane:
                raise ConfigError("lane", lane, "it has a rule already")
        for spec in specs:
            if spec.queue == queue:
                _check_meeting(spec, rule)
        self.by_lane |= dict.fromkeys(lanes, rule)

    def check(self, spec: JobSpec) -> None:
        """Refuse a job whose hours and those of a lane of its queue never meet.

        Raises:
            ConfigError: Names both.
        """
        for priority in Priority:
            lane = Lane(self._namespace, spec.queue, priority).name
            _check_meeting(spec, self.by_lane.get(lane, _ALWAYS))


class HasLanes:
    """An app's side of it.

    Args:
        namespace: First part of every lane's name.

    Attributes:
        jobs: Those that are registered, by name.
        handlers: The same by name and by alias: the types that a record may have.
        hours: Of jobs and lanes, and what somebody set over them.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = check_name("namespace", namespace)
        self.jobs: dict[str, Job[..., Any]] = {}
        self.handlers: dict[str, Job[..., Any]] = {}
        self._lane_rules = LaneRules(namespace)
        self.hours = Hours(SystemClock(), self._lane_rules.by_lane)

    def find_job(self, name: str) -> Job[..., Any]:
        """The job of that name, or of that alias.

        Raises:
            ConfigError: There is none; names the nearest.
        """
        if name not in self.handlers:
            raise ConfigError("job", name, nearest(name, self.jobs, "registered jobs"))
        return self.handlers[name]

    def lane(self, queue: str, **options: Unpack[LaneOptions]) -> None:
        """Say when lanes of a queue are drained: `LaneOptions`, at least one.

        Raises:
            ConfigError: An option is wrong, a lane was declared before, or its hours
                and those of a job never meet.
        """
        specs = [job.spec for job in self.jobs.values()]
        self._lane_rules.declare(queue, options, specs)


_ALWAYS: Final = LaneRule()


def _check_meeting(spec: JobSpec, rule: LaneRule) -> None:
    if not ever_meet(spec.windows, rule.windows):
        texts = [", ".join(w.text for w in own) for own in (spec.windows, rule.windows)]
        want = f"it is never open together with its lane's {texts[1]!r}"
        raise ConfigError("window", texts[0], f"job {spec.name!r}: {want}")


def _rule(options: Mapping[str, Any]) -> tuple[LaneRule, Sequence[Priority]]:
    for option in options:
        if option not in _OPTIONS:
            want = nearest(option, _OPTIONS, "options")
            raise ConfigError("lane option", option, want)
    window, is_quiet = options.get("window"), options.get("opportunistic", False)
    windows = () if window is None else read_windows("window", window)
    if not isinstance(is_quiet, bool):
        raise ConfigError("opportunistic", is_quiet, "use True or False")
    if not windows and not is_quiet:
        raise ConfigError("lane", dict(options), "give a window=, opportunistic=True")
    priority = options.get("priority")
    if priority is not None and not isinstance(priority, Priority):
        raise ConfigError("priority", priority, "use a shifter.Priority")
    if is_quiet and priority is not Priority.LOW:
        want = "only LOW work waits for a quiet time: use priority=Priority.LOW"
        raise ConfigError("priority", priority, want)
    rule = LaneRule(windows, is_quiet)
    return rule, tuple(Priority) if priority is None else (priority,)

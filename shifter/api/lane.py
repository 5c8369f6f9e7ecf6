"""``app.lane(...)``: hours of a queue's lanes, checked where they are declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict, Unpack

from shifter.adapters.system import SystemClock
from shifter.api.job import Job
from shifter.errors import ConfigError
from shifter.fleet.hours import Hours
from shifter.jobs.schedule import Window, read_windows
from shifter.model.advice import nearest
from shifter.model.job import JobSpec, LaneRule
from shifter.model.lane import Lane, Priority, check_name, check_priority, check_quiet
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


class HasLanes:
    """The lanes of an app, and when each of them is drained.

    Args:
        namespace: First part of every lane's name.

    Attributes:
        jobs: Those that are registered, by name.
        handlers: The same by name and by alias: the types that a record may have.
        hours: Windows of jobs and lanes, and the overrides of operators.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = check_name("namespace", namespace)
        self.jobs: dict[str, Job[..., Any]] = {}
        self.handlers: dict[str, Job[..., Any]] = {}
        self._rules: dict[str, LaneRule] = {}
        self.hours = Hours(SystemClock(), self._rules)

    def find_job(self, name: str) -> Job[..., Any]:
        """The job of that name, or of that alias.

        Raises:
            ConfigError: There is none; names the nearest.
        """
        if name not in self.handlers:
            raise ConfigError("job", name, nearest(name, self.jobs, "registered jobs"))
        return self.handlers[name]

    def lane(self, queue: str, **options: Unpack[LaneOptions]) -> None:
        """Set when lanes of a queue are drained: `LaneOptions`, at least one.

        Raises:
            ConfigError: An option is wrong or missing, a lane has a rule already, or
                its hours and those of a job never meet.
        """
        check_name("queue", queue)
        rule, priorities = _rule(options)
        lanes = [Lane(self.namespace, queue, one).name for one in priorities]
        for lane in lanes:
            if lane in self._rules:
                raise ConfigError("lane", lane, "it has a rule already")
        for job in self.jobs.values():
            if job.spec.queue == queue:
                _check_meeting(job.spec, rule)
        self._rules |= dict.fromkeys(lanes, rule)

    def _check_lanes(self, spec: JobSpec) -> None:
        """Refuse a job whose hours and those of a lane of its queue never meet.

        Raises:
            ConfigError: Names both.
        """
        for priority in Priority:
            lane = Lane(self.namespace, spec.queue, priority).name
            _check_meeting(spec, self._rules.get(lane, _ALWAYS))


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
    if priority is not None:
        check_priority(priority)
    if is_quiet:
        check_quiet("priority", priority, priority)
    rule = LaneRule(windows, is_quiet)
    return rule, tuple(Priority) if priority is None else (priority,)

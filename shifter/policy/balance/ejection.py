"""Passive health: which endpoints get no calls for a while, by how their calls ended.

An endpoint is ejected after some failures in a row; when fewer of its calls succeed
than of the other endpoints' calls; or when it is slower than they are. The first rule
looks at each call, the two others at intervals. An ejection lasts 30 s, and longer each
time: 30 s x the times it was ejected.

Ejections are bounded. At most a share of the endpoints is ejected at once, and one is
always left. Where fewer than ``panic_share`` are left, all are called: then the calls
fail because of too much load, or for a reason that all endpoints share.

Source: Envoy's outlier detection (five failures in a row, intervals of 10 s, 30 s x
times ejected, at most 300 s, panic below 50 %). Envoy compares an endpoint with the
mean and the standard deviation of all; with few endpoints a bad one moves both so far
that it is never found, so an endpoint is compared with the median of the *others* here.
"""

from __future__ import annotations

from dataclasses import dataclass

from shifter.errors import ConfigError
from shifter.policy.bounds import check_at_least, check_ratio
from shifter.policy.failure_cause import CauseCounter, FailureCause
from shifter.policy.sliding_window import WindowPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class EjectionPolicy:
    """When an endpoint gets no calls for a while.

    Attributes:
        consecutive_failures: Failures in a row that eject, >= 1.
        interval_ms: How often endpoints are compared, >= 1.
        min_calls: Calls of an interval that make an endpoint comparable, >= 1.
        min_endpoints: Comparable endpoints below which none is ejected by comparison,
            >= 2.
        success_margin: An endpoint is ejected if its share of successes is smaller than
            the median of the others' by more than this; above 0, up to 1.
        slow_factor: An endpoint is ejected if its mean latency is more than so many
            times the median of the others', above 1.
        base_ms: Length of the first ejection, >= 1.
        most_ms: Length of the longest ejection, >= ``base_ms``.
        most_share: Endpoints that may be ejected at once; above 0, up to 1. One may
            always be ejected if there are two.
        panic_share: If a smaller share of the endpoints is left, all are called; above
            0, up to 1.

    Raises:
        ConfigError: A value is out of its range.
    """

    consecutive_failures: int = 5
    interval_ms: int = 10_000
    min_calls: int = 20
    min_endpoints: int = 3
    success_margin: float = 0.2
    slow_factor: float = 5.0
    base_ms: int = 30_000
    most_ms: int = 300_000
    most_share: float = 0.5
    panic_share: float = 0.5

    def __post_init__(self) -> None:
        for name, least in (
            ("consecutive_failures", 1),
            ("interval_ms", 1),
            ("min_calls", 1),
            ("min_endpoints", 2),
            ("base_ms", 1),
            ("most_ms", self.base_ms),
        ):
            check_at_least(name, getattr(self, name), least)
        for name in ("success_margin", "most_share", "panic_share"):
            check_ratio(name, getattr(self, name))
        check_ratio("slow_factor", self.slow_factor, most=1_000_000)
        if self.slow_factor <= 1:
            raise ConfigError("slow_factor", self.slow_factor, "use a number above 1")

    def most_ejected(self, endpoints: int) -> int:
        """How many of so many endpoints may be ejected at once.

        >>> EjectionPolicy().most_ejected(1), EjectionPolicy().most_ejected(10)
        (0, 5)
        """
        return min(endpoints - 1, max(1, int(self.most_share * endpoints)))

    def lasts_s(self, times: int, cooldown_ms: int = 0) -> float:
        """Seconds that an ejection lasts, by how often the endpoint was ejected.

        Args:
            times: How often, >= 1.
            cooldown_ms: Length of the first ejection for the kind of failure; 0 for
                ``base_ms``. One that is longer than ``most_ms`` does not grow.

        >>> EjectionPolicy().lasts_s(1), EjectionPolicy().lasts_s(50)
        (30.0, 300.0)
        >>> EjectionPolicy().lasts_s(2, 2_000), EjectionPolicy().lasts_s(2, 600_000)
        (4.0, 600.0)
        """
        base_ms = cooldown_ms or self.base_ms
        return min(base_ms * times, max(self.most_ms, base_ms)) / 1_000


class Health:
    """How the calls of one endpoint ended. Belongs to one thread.

    Attributes:
        in_a_row: Failures since the last success.
        calls: Calls that ended in this interval, ignored ones left out.
        failures: Those of them that failed.
        took_s: Seconds that all calls of the interval took.
        times: How often it was ejected; one less for each ``base_ms`` without.
        out_until: Monotonic seconds until which it gets no calls; 0 if it does.
        is_ejected: Whether it is out because of its failures, and not because it asked
            for a pause.
        why: The reason of the last ejection; empty before the first.
        cause: Why its calls failed when it was ejected last; ``None`` if none failed.
        cooldown_ms: Length of a first ejection for that cause; 0 for ``base_ms``.
        healthy_since: When its last ejection ended, monotonic seconds.
        ejected_at: When its last ejection began, monotonic seconds.
        is_shared: Whether the fleet learnt of this ejection and acted on it.
        before: Calls and failures of the last interval that ended.
    """

    __slots__ = (
        "_causes",
        "before",
        "calls",
        "cause",
        "cooldown_ms",
        "ejected_at",
        "failures",
        "healthy_since",
        "in_a_row",
        "is_ejected",
        "is_shared",
        "out_until",
        "times",
        "took_s",
        "why",
    )

    def __init__(self) -> None:
        self.in_a_row = self.calls = self.failures = self.times = 0
        self.took_s = self.out_until = self.healthy_since = 0.0
        self.is_ejected, self.why = False, ""
        self.is_shared, self.ejected_at, self.before = False, 0.0, (0, 0)
        self.cause: FailureCause | None = None
        self.cooldown_ms = 0
        self._causes = CauseCounter(WindowPolicy())

    def note(
        self,
        now: float,
        *,
        failed: bool,
        took_s: float,
        cause: FailureCause | None = None,
    ) -> None:
        """Count a call that ended.

        Args:
            now: Monotonic seconds.
            failed: Whether it failed.
            took_s: How long it took.
            cause: Why it failed, if that is known.
        """
        if cause is not None and failed:
            self._causes.record(cause, int(now * 1_000))
        self.calls += 1
        self.took_s += took_s
        self.failures += failed
        self.in_a_row = self.in_a_row + 1 if failed else 0

    def clear(self) -> None:
        """Begin a new interval."""
        self.before = self.calls, self.failures
        self.calls = self.failures = 0
        self.took_s = 0.0

    def eject(
        self, policy: EjectionPolicy, now: float, why: str, *, is_slow: bool
    ) -> None:
        """Give it no calls for a while, as its kind of failure has it.

        Args:
            policy: How long.
            now: Monotonic seconds.
            why: The reason.
            is_slow: Whether it is ejected because it is slow, whatever calls failed.
        """
        self.times = self.next_times(policy, now)
        self.cause = cause = self._causes.main(int(now * 1_000))
        self.cooldown_ms = 0 if cause is None or is_slow else cause.cooldown_ms
        self.out_until = now + policy.lasts_s(self.times, self.cooldown_ms)
        self._causes.clear()
        text = "" if self.cause is None else f"; {self.cause.text}"
        self.is_ejected, self.why, self.in_a_row = True, f"{why}{text}", 0
        self.is_shared, self.ejected_at = False, now

    def next_times(self, policy: EjectionPolicy, now: float) -> int:
        """How often it was ejected, if it is ejected now."""
        base_s = policy.base_ms / 1_000
        forgiven = int((now - self.healthy_since) / base_s) if self.times else 0
        return max(0, self.times - max(0, forgiven)) + 1

    def pause(self, until: float) -> None:
        """Give it no calls until then, as it asked for."""
        self.out_until = max(self.out_until, until)

    def restore(self, now: float) -> None:
        """Let it be called again."""
        if self.is_ejected:
            self.healthy_since = now
        self.out_until, self.is_ejected, self.in_a_row = 0.0, False, 0

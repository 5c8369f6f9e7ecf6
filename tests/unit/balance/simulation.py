"""Calls to simulated servers in virtual time; equal seeds make equal runs."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field

from shifter.balance.balancer import CallEvidence


@dataclass
class Server:
    """How a simulated server answers.

    Attributes:
        latency: Seconds of one call, by a random source.
        failing: Share of the calls that fail.
    """

    latency: object
    failing: float = 0.0


def tailed(mean_s):
    """Latencies with an exponential tail, half of the mean at least."""
    return lambda draws: mean_s * (0.5 + 0.5 * draws.expovariate(1))


def never(_draws):
    """No answer at all."""
    return float("inf")


@dataclass
class Result:
    """What the callers saw.

    Attributes:
        took_s: Seconds of each call, ascending.
        errors: Calls without an answer.
        made: Tries by server.
    """

    took_s: list[float] = field(default_factory=list)
    errors: int = 0
    made: Counter[str] = field(default_factory=Counter)

    @property
    def p99(self):
        return self.took_s[int(0.99 * len(self.took_s))]

    @property
    def extra(self):
        return sum(self.made.values()) / len(self.took_s) - 1


@dataclass(eq=False)
class Call:
    balancer: object
    began: float
    tried: list[str] = field(default_factory=list)
    under_way: int = 0
    is_done: bool = False


class Simulation:
    """Calls arrive at random; each has a timeout per try, retries and a hedge.

    Args:
        servers: The servers, by URL.
        timeout_s: Of a try.
        retries: Of a call.
        hedge: The share of calls after whose duration a second try begins.
        seed: Seeds arrivals, latencies and failures.
    """

    def __init__(self, servers, *, timeout_s=1.0, retries=2, hedge=None, seed=1):
        self.servers, self.timeout_s, self.retries = servers, timeout_s, retries
        self.hedge, self.draws = hedge, random.Random(seed)
        self.events, self.order, self.result = [], itertools.count(), Result()

    def run(self, balancers, *, calls, per_s):
        """Make calls with balancers that are drawn at random."""
        now = 0.0
        for _ in range(calls):
            now += self.draws.expovariate(per_s)
            self.at(now, self.arrive, self.draws.choice(balancers))
        while self.events:
            now, _, action, arguments = heapq.heappop(self.events)
            action(now, *arguments)
        self.result.took_s.sort()
        return self.result

    def at(self, when, action, *arguments):
        heapq.heappush(self.events, (when, next(self.order), action, arguments))

    def arrive(self, now, balancer):
        call = Call(balancer, now)
        if self.hedge is not None:
            balancer.earn_hedge()
            delay_s = balancer.percentile_s(self.hedge)
            if delay_s is not None:
                self.at(now + delay_s, self.second, call)
        self.begin(now, call)

    def second(self, now, call):
        if not call.is_done and call.balancer.spend_hedge():
            self.begin(now, call)

    def begin(self, now, call):
        lease = call.balancer.lease(now, tried=call.tried)
        url = lease.endpoint.url
        call.tried.append(url)
        call.under_way += 1
        self.result.made[url] += 1
        server = self.servers[url]
        took_s = server.latency(self.draws)
        failed = took_s > self.timeout_s or self.draws.random() < server.failing
        self.at(now + min(took_s, self.timeout_s), self.end, call, lease, failed)

    def end(self, now, call, lease, failed):
        call.under_way -= 1
        # The loser of a hedge is cancelled when the other try succeeds: its end is no
        # evidence, and its duration up to now is.
        lease.end(now, CallEvidence(failed=None if call.is_done else failed))
        if call.is_done or (failed and call.under_way):
            return
        if failed and len(call.tried) <= self.retries:
            self.begin(now, call)
            return
        call.is_done = True
        self.result.errors += failed
        self.result.took_s.append(now - call.began)

"""The scenarios: what breaks when, what must go on meanwhile, how soon all is well.

A schedule is drawn from the seed alone, so that the same seed gives the same faults at
the same moments. An act names what to break and whom; `FAULTS` knows how.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from stack.kafka import KafkaCluster
from stack.redis import RedisServer
from tests.torture.faults.broker import BrokersDown, BrokersPaused, RollingBrokers
from tests.torture.faults.fault import Deed, Fault
from tests.torture.faults.power import Power
from tests.torture.faults.process import MemoryLimit, Paused
from tests.torture.faults.proxy import (
    Flapping,
    HalfOpen,
    Latency,
    Proxy,
    Stall,
    Way,
)
from tests.torture.faults.redis import (
    RedisKilled,
    RedisPaused,
    RedisReadOnly,
    ScriptsFlushed,
)
from tests.torture.harness.crew import Crew, Service
from tests.torture.harness.place import Place

LEASE_S: Final = 6.0
SESSION_S: Final = 10.0
"""After which a member of a Kafka group that says nothing is given up."""
RECOVERY_S: Final = 60.0


class Act(NamedTuple):
    """One fault of a schedule.

    Attributes:
        at_s: Seconds after the warm-up.
        lasts_s: Until it is healed; 0 for what heals itself.
        what: A name of `FAULTS`.
        member: Which worker, where one is meant.
    """

    at_s: float
    lasts_s: float
    what: str
    member: int = -1


Plan = Callable[[random.Random, float, int], list[Act]]


class Scenario(NamedTuple):
    """What a run does.

    Attributes:
        title: One line for people.
        plan: Draws the acts: from the draw, seconds and the number of members.
        logs: Where it applies; the first is the default.
        floor_per_s: Effects per second that go on during the faults, in each window
            of `WINDOW_S`; 0 where nothing can.
        mix: What is offered, a name of `MIXES`.
        per_s: Jobs offered per second.
        members: Workers.
        die: Failpoint, see `tests.torture.harness.jobs`.
        is_supervised: Whether workers have a supervisor.
        is_behind: Whether clients reach their servers through proxies.
        is_static: Whether a worker of Kafka's group has a name that its successor in
            the slot takes over (``group.instance.id``); without one the group waits for
            a session to end after each death, and does nothing else where they never
            end.
        forgets: Whether the claim store may lose what it knew.
        after_s: How long jobs are still offered after the last heal.
        settings: Of shifter.
        loses_unsynced: Whether what was not synced is lost with its machine.
        spools: Whether the service must have kept jobs that the log did not take.
        concurrency: Slots of each worker.
        shares: Weights of the queues that share slots, by name; none where that is
            not asked.
    """

    title: str
    plan: Plan
    logs: tuple[str, ...] = ("kafka", "sqlite")
    floor_per_s: float = 0.0
    mix: str = "all"
    per_s: float = 120.0
    members: int = 3
    die: str = ""
    is_supervised: bool = False
    is_behind: bool = False
    is_static: bool = False
    forgets: bool = False
    after_s: float = 4.0
    settings: Mapping[str, str] = {
        "LEASE": f"{LEASE_S:g}s",
        "CLAIM_TIMEOUT": "1s",
    }
    loses_unsynced: bool = False
    spools: bool = False
    concurrency: int = 50
    shares: Mapping[str, int] = MappingProxyType({})


HASTY: Final = {"LEASE": f"{LEASE_S:g}s", "ACCEPT_TIMEOUT": "1s"}
"""A service that is killed every 3 s must not wait longer before it spools."""
WINDOW_S: Final = 15.0
"""A killed member's part of a Kafka group is given away after 10 s."""


def repeated(what: str, every_s: float, lasts_s: float = 0.0) -> Plan:
    """The same fault for one member after the other, drawn."""

    def plan(draw: random.Random, seconds: float, members: int) -> list[Act]:
        count = max(1, int(seconds / every_s))
        return [
            Act(n * every_s, lasts_s, what, draw.randrange(members))
            for n in range(count)
        ]

    return plan


def single(what: str, *, ratio: float = 1.0, most_s: float = 60.0) -> Plan:
    """One fault at the beginning that lasts for a share of the time."""

    def plan(draw: random.Random, seconds: float, members: int) -> list[Act]:
        lasts_s = min(most_s, seconds * ratio)
        return [Act(0.5, lasts_s, what, draw.randrange(members))]

    return plan


def zombies(draw: random.Random, seconds: float, members: int) -> list[Act]:
    """Each stop ends when a successor has been at work for some seconds."""
    acts, at_s, member = [], 0.0, 0
    while at_s < seconds:
        lasts_s = draw.uniform(SESSION_S + 2, SESSION_S + LEASE_S + 2)
        acts.append(Act(at_s, lasts_s, "stop", member % members))
        at_s, member = at_s + lasts_s + 2, member + 1
    return acts


def in_turn(what: str, every_s: float) -> Plan:
    """Each member in turn, round and round."""

    def plan(draw: random.Random, seconds: float, members: int) -> list[Act]:
        count = max(1, int(seconds / every_s))
        return [Act(n * every_s, 0.0, what, n % members) for n in range(count)]

    return plan


def nothing(draw: random.Random, seconds: float, members: int) -> list[Act]:
    """No fault of the nemesis; jobs or failpoints are fault enough."""
    return [Act(0.0, seconds, "nothing")]


def everything(draw: random.Random, seconds: float, members: int) -> list[Act]:
    """Up to three at a time, of any kind."""
    kinds = ("kill", "stop", "restart", "redis paused", "brokers paused", "leave")
    acts, at_s = [], 0.0
    while at_s < seconds:
        what = draw.choice(kinds)
        lasts_s = draw.uniform(1.0, 8.0) if what not in ("kill", "restart") else 0.0
        acts.append(Act(at_s, lasts_s, what, draw.randrange(members)))
        at_s += draw.uniform(0.5, 4.0)
    return acts


KAFKA: Final = ("kafka", "kafka3")
ALL: Final = ("kafka", "kafka3", "sqlite")

SCENARIOS: Final[dict[str, Scenario]] = {
    "calm": Scenario("nothing breaks", nothing, ALL, 60),
    "F01": Scenario(
        "a random worker is killed every second",
        repeated("kill", 1.0),
        ALL,
        1,
        is_static=True,
    ),
    "F02": Scenario(
        "a worker dies between an effect and its mark",
        nothing,
        ALL,
        10,
        die="effect",
        is_static=True,
    ),
    "F03": Scenario(
        "a worker dies between a dead letter and its mark",
        nothing,
        ALL,
        10,
        die="letter",
        is_static=True,
    ),
    "F04": Scenario(
        "the service is killed again and again while the brokers are away",
        lambda draw, seconds, members: [
            Act(0.5, seconds - 1, "brokers killed"),
            *(Act(3.0 * n + 2, 0.0, "service killed") for n in range(int(seconds / 3))),
        ],
        KAFKA,
        settings=HASTY,
        spools=True,
    ),
    "F41": Scenario(
        "the service's machine loses its power, again and again, and the brokers are "
        "away",
        lambda draw, seconds, members: [
            Act(0.5, seconds - 1, "brokers killed"),
            *(Act(3.0 * n + 2, 0.0, "power lost") for n in range(int(seconds / 3))),
        ],
        KAFKA,
        settings=HASTY,
        loses_unsynced=True,
        spools=True,
    ),
    "F41m": Scenario(
        "the machine loses its power: service, workers and what was not synced",
        in_turn("machine lost", 4),
        ("sqlite",),
        loses_unsynced=True,
    ),
    "F05": Scenario(
        "a worker stands still for less than a session",
        repeated("stop", 5, 2.5),
        ALL,
        10,
    ),
    "F06": Scenario(
        "a worker stands still past session and lease, then goes on (zombie)",
        zombies,
        ALL,
        10,
        mix="slow",
    ),
    "F07": Scenario(
        "workers are restarted one after another", in_turn("restart", 1.5), ALL, 20
    ),
    "F08": Scenario(
        "a job takes its process with it, again and again",
        nothing,
        mix="deadly",
        per_s=60,
        is_supervised=True,
    ),
    "F09": Scenario(
        "a worker runs out of memory",
        repeated("memory", 15, 8),
        floor_per_s=1,
        mix="slow",
    ),
    "F10": Scenario(
        "handlers in threads outlive their timeouts",
        nothing,
        ALL,
        10,
        mix="overtime",
        per_s=40,
    ),
    "F13": Scenario(
        "members join and leave every 2 s", repeated("leave", 4, 2), ALL, 1
    ),
    "F15": Scenario(
        "all brokers are killed, and come back",
        single("brokers killed"),
        KAFKA,
        spools=True,
    ),
    "F16": Scenario(
        "the broker takes everything and answers nothing",
        single("log silent"),
        ("kafka",),
        is_behind=True,
        spools=True,
    ),
    "F17": Scenario(
        "leaders change as brokers restart in turn",
        single("rolling brokers"),
        ("kafka3",),
        1,
    ),
    "F28": Scenario(
        "200 ms ± 100 ms on the way to the broker",
        single("log slow"),
        ("kafka",),
        1,
        is_behind=True,
        per_s=40,
    ),
    "F30": Scenario(
        "connections to the broker go dead without a word",
        repeated("log half-open", 20),
        ("kafka",),
        is_behind=True,
        after_s=35.0,
    ),
    "F32": Scenario(
        "the broker's connections flap every 300 ms",
        single("log flapping"),
        ("kafka",),
        is_behind=True,
        per_s=40,
    ),
    "F33": Scenario(
        "Redis is killed and comes back empty",
        repeated("redis killed", 10, 1.0),
        KAFKA,
        1,
        forgets=True,
    ),
    "F34": Scenario(
        "Redis stands still for 20 s",
        single("redis paused", most_s=20),
        KAFKA,
        1,
    ),
    "F36": Scenario(
        "Redis loses its scripts all the time, and then takes no writes",
        lambda draw, seconds, members: [
            Act(0.0, seconds / 2, "scripts flushed"),
            Act(seconds / 2 + 1, seconds / 2 - 2, "redis read-only"),
        ],
        KAFKA,
        1,
    ),
    "R01": Scenario(
        "answers of Redis are lost on their way",
        repeated("redis answers lost", 3, 1.3),
        ("kafka",),
        10,
        is_behind=True,
    ),
    "F49": Scenario(
        "two queues have thousands of jobs waiting, a third is idle, workers are killed",
        repeated("kill", 5.0),
        ALL,
        5,
        mix="crowd",
        per_s=200,
        is_static=True,
        concurrency=4,
        shares={"crowd": 1, "brief": 2},
        settings={
            "LEASE": f"{LEASE_S:g}s",
            "CLAIM_TIMEOUT": "1s",
            "QUEUE_WEIGHTS": "crowd=1,brief=2",
        },
    ),
    "F50": Scenario(
        "a dependency fails or throttles half of its calls, workers are killed",
        repeated("kill", 3.0),
        ALL,
        2,
        mix="paid",
        per_s=60,
        is_static=True,
    ),
    "F48": Scenario(
        "several of these at a time, drawn", everything, KAFKA, 0, members=4
    ),
}


class Stand(NamedTuple):
    """What can be broken."""

    crew: Crew
    service: Service
    place: Place

    @property
    def cluster(self) -> KafkaCluster:
        """The brokers."""
        assert self.place.cluster is not None, "no brokers here"
        return self.place.cluster

    @property
    def redis(self) -> RedisServer:
        """The state store."""
        assert self.place.redis is not None, "no Redis here"
        return self.place.redis

    @property
    def power(self) -> Power:
        """Of the machine that the service is on."""
        assert self.place.power is not None, "no power here"
        return self.place.power

    @property
    def to_log(self) -> Proxy:
        """What stands before the broker."""
        assert self.place.log_proxy is not None, "no proxy here"
        return self.place.log_proxy

    @property
    def to_redis(self) -> Proxy:
        """What stands before Redis."""
        assert self.place.redis_proxy is not None, "no proxy here"
        return self.place.redis_proxy

    def pid(self, act: Act) -> int:
        """Of the worker that an act means."""
        return self.crew.pid(act.member)


FAULTS: Final[dict[str, Callable[[Act, Stand], Fault]]] = {
    "nothing": lambda act, on: Deed(act.what, lambda: None),
    "kill": lambda act, on: Deed(act.what, lambda: on.crew.kill(act.member)),
    "restart": lambda act, on: Deed(act.what, lambda: on.crew.restart(act.member)),
    "leave": lambda act, on: Deed(
        act.what,
        lambda: on.crew.leave(act.member),
        lambda: on.crew.start(act.member),
    ),
    "stop": lambda act, on: Paused(on.pid(act)),
    "memory": lambda act, on: MemoryLimit(on.pid(act), 300_000),
    "service killed": lambda act, on: Deed(act.what, on.service.kill),
    "power lost": lambda act, on: Deed(
        act.what, lambda: on.service.kill(on.power.lose)
    ),
    "machine lost": lambda act, on: Deed(
        act.what,
        lambda: on.crew.kill_all(lambda: on.service.kill(on.power.lose)),
    ),
    "brokers killed": lambda act, on: BrokersDown(on.cluster),
    "brokers paused": lambda act, on: BrokersPaused(on.cluster),
    "rolling brokers": lambda act, on: RollingBrokers(on.cluster, every_s=1.0),
    "log silent": lambda act, on: Stall(on.to_log),
    "log slow": lambda act, on: Latency(on.to_log, 0.2, jitter_s=0.1),
    "log half-open": lambda act, on: HalfOpen(on.to_log),
    "log flapping": lambda act, on: Flapping(on.to_log),
    "redis answers lost": lambda act, on: Stall(on.to_redis, ways=(Way.DOWN,)),
    "redis killed": lambda act, on: RedisKilled(on.redis),
    "redis paused": lambda act, on: RedisPaused(on.redis),
    "redis read-only": lambda act, on: RedisReadOnly(on.redis.url),
    "scripts flushed": lambda act, on: ScriptsFlushed(on.redis.url),
}
"""How each is made of its act and of what can be broken."""

OF_ONE: Final = frozenset({"kill", "restart", "leave", "stop", "memory"})
"""Those that hit one worker; all others hit everybody."""
OF_SERVICE: Final = frozenset({"service killed", "power lost"})
"""Those that hit the service that defers jobs."""
GRACEFUL: Final = frozenset({"restart", "leave", "nothing"})
"""Those after which no attempt may have been cut."""


def pids_of(act: Act, on: Stand) -> list[int]:
    """The processes that an act hits; none for all of them."""
    if act.what == "machine lost":
        return [on.service.pid, *on.crew.pids]
    if act.what in OF_SERVICE:
        return [on.service.pid]
    return [on.pid(act)] if act.what in OF_ONE else []


def schedule(scenario: Scenario, seed: int, seconds: float) -> list[Act]:
    """The acts of a run, by time; the same for the same arguments."""
    draw = random.Random(f"{seed}/nemesis")  # repeatable
    return sorted(scenario.plan(draw, seconds, scenario.members))

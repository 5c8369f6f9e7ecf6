"""What a planner makes of one reading of a fleet, and of readings one after another."""

from __future__ import annotations

import gc
import time

import msgspec
import pytest

from shifter import ConfigError, Priority, Shifter, Window, wiring
from shifter.adapters.system import SystemClock
from shifter.config import Secret, Settings
from shifter.errors import StoreError
from shifter.fleet.view import BudgetRow, CircuitRow, OverrideRow, WindowRow
from shifter.ops.scaling import Planner, read_for_scaling
from shifter.ops.status import LaneRow, Overview, open_sources
from shifter.ports import WorkerReport
from shifter.protection import RatePolicy
from shifter.testing.clock import FakeClock

MONDAY_NOON = 1_767_571_200_000 + 12 * 3_600_000
HOUR_MS = 3_600_000


def app_of(**settings) -> Shifter:
    return Shifter("shop", settings=Settings(namespace="shop", **settings))


@pytest.fixture
def app() -> Shifter:
    app = app_of()
    mailer = app.dependency("mailer", rate=RatePolicy(per_s=100))

    @app.job(queue="mail", uses=mailer)
    async def send() -> None: ...

    @app.job(queue="reports", timeout="1m")
    async def report() -> None: ...

    return app


def lane(queue, priority="NORMAL", *, due=0, delayed=0, rate=0.0, **more) -> LaneRow:
    more = {"running": 0, "oldest_age_s": None, "eta_s": None} | more
    return LaneRow(queue, priority, due, delayed, rate_per_s=rate, due=due, **more)


def worker(name="w1", queues=("mail", "reports"), *, busy=None, **more) -> WorkerReport:
    priorities = [one.value for one in Priority]
    return WorkerReport(
        *(name, "host", 1, 0, 0, 10, {}, {}),
        queues=list(queues),
        priorities=more.pop("priorities", priorities),
        busy={} if busy is None else busy,
        **more,
    )


def circuit(name="mailer", state="closed", **more) -> CircuitRow:
    facts = {
        "reopens_s": None,
        "probes": 0,
        "by_hand": None,
        "processes": 1,
        "age_s": 0.1,
        "calls": 10,
        "failures": 0,
        "inflight": 0,
        "limit": None,
        "held_back": {},
        "would_hold_back": {},
    }
    return CircuitRow(name, state, **facts | more)


def reading(*lanes, workers=(), at_ms=MONDAY_NOON, **more) -> Overview:
    found = {"circuits": [], "budgets": []} | more
    return Overview(at_ms, list(lanes), [], workers=list(workers), **found)


def answer(app, overview, clock=None, group="default"):
    planner = Planner(app, clock or FakeClock(), remembers=False)
    report = planner.plan(overview)
    [found] = [one for one in report.groups if one.name == group]
    return found.desired, found.reason


# Half of one worker does 100 jobs a second: 200 of them are one second of a worker.
RUNS = {"rate": 100.0}
HALF = worker(busy={"shop.mail.normal": 0.5})


def test_an_answer_has_exactly_the_published_shape(app):
    overview = reading(
        lane("mail", due=12_000, tightest_deadline_s=40.0, **RUNS), workers=[HALF]
    )

    report = Planner(app, FakeClock(), remembers=False).plan(overview)

    assert msgspec.to_builtins(report) == {
        "as_of_ms": MONDAY_NOON,
        "groups": [
            {
                "name": "default",
                "current": 1,
                "desired": 3,
                "due_backlog_s": 60.0,
                "reason": "deadline",
                "tightest_deadline_s": 40.0,
                "is_measured": True,
            }
        ],
    }


def test_a_lane_of_no_job_of_the_app_is_left_out(app):
    assert answer(app, reading(lane("foreign", due=9_000))) == (0, "idle")


def test_the_use_of_all_workers_is_added_up(app):
    both = [HALF, worker("w2", busy={"shop.mail.normal": 0.5})]
    overview = reading(lane("mail", due=6_000, **RUNS), workers=both)

    # A job takes 10 ms of a worker here.
    assert answer(app, overview) == (2, "due_backlog")


def test_a_worker_of_an_older_release_counts_with_the_first_group(app):
    old = WorkerReport("w1", "host", 1, 0, 0, 10, {}, {})
    report = Planner(app, FakeClock(), remembers=False).plan(reading(workers=[old]))

    assert report.groups[0].current == 1


def test_a_worker_that_drains_does_not_count(app):
    leaving = [worker(is_draining=True), worker("w2")]
    [group] = (
        Planner(app, FakeClock(), remembers=False).plan(reading(workers=leaving)).groups
    )

    assert group.current == 1


class TestGroups:
    def test_each_group_has_its_lanes_and_its_workers(self, app):
        app.worker_group("reports", queues=["reports"], ceiling=7)
        overview = reading(
            lane("reports", due=12_000, rate=1.0),
            workers=[
                worker("w1", ["reports"], busy={"shop.reports.normal": 1.0}),
                worker("w2", ["mail"]),
                worker("w3", ["mail"]),
            ],
        )

        report = Planner(app, FakeClock(), remembers=False).plan(overview)

        found = [(g.name, g.current, g.desired, g.reason) for g in report.groups]
        assert found == [("reports", 1, 7, "ceiling"), ("default", 2, 0, "idle")]

    def test_a_worker_belongs_to_the_group_it_shares_most_lanes_with(self, app):
        app.worker_group("urgent", queues=["mail"], priorities=[Priority.HIGH])
        overview = reading(
            workers=[worker("w1"), worker("w2", ["mail"], priorities=["HIGH"])]
        )

        report = Planner(app, FakeClock(), remembers=False).plan(overview)

        assert [(g.name, g.current) for g in report.groups] == [
            ("urgent", 1),
            ("default", 1),
        ]

    def test_a_worker_of_another_app_counts_nowhere(self, app):
        overview = reading(workers=[worker("w1", ["foreign"])])

        [group] = Planner(app, FakeClock(), remembers=False).plan(overview).groups

        assert group.current == 0

    def test_an_app_whose_lanes_all_have_a_group_has_no_default(self, app):
        app.worker_group("all", queues=["mail", "reports"])

        assert [group.name for group in app.worker_groups(app.queues)] == ["all"]

    @pytest.mark.parametrize(
        ("options", "field"),
        [
            ({}, "queues"),
            ({"queues": "mail"}, "queues"),
            ({"queues": ["Mail"]}, "queue"),
            ({"queues": ["mail"], "priorities": []}, "priorities"),
            ({"queues": ["mail"], "priorities": ["urgent"]}, "priority"),
            ({"queues": ["mail"], "target": 0}, "target"),
            ({"queues": ["mail"], "floor": 5, "ceiling": 4}, "floor"),
            ({"queues": ["mail"], "floor": -1}, "floor"),
            ({"queues": ["mail"], "ceil": 4}, "worker group option"),
        ],
    )
    def test_a_wrong_declaration_is_refused(self, app, options, field):
        with pytest.raises(ConfigError) as caught:
            app.worker_group("mail", **options)

        assert caught.value.field == field

    @pytest.mark.parametrize("name", ["default", "mail", "Mail"])
    def test_a_name_is_taken_once_and_checked(self, app, name):
        app.worker_group("mail", queues=["mail"])

        with pytest.raises(ConfigError, match="worker group"):
            app.worker_group(name, queues=["reports"])

    def test_a_lane_has_one_group(self, app):
        app.worker_group("mail", queues=["mail"], priorities=[Priority.LOW])

        with pytest.raises(ConfigError, match="'mail' has the lane mail LOW"):
            app.worker_group("other", queues=["mail"])

    def test_a_floor_above_a_ceiling_that_is_set_elsewhere_is_refused(self):
        app = app_of(scale_ceiling=3)
        app.worker_group("mail", queues=["mail"], floor=5)

        with pytest.raises(ConfigError, match="floor of worker group 'mail'"):
            Planner(app, FakeClock(), remembers=False)

    def test_settings_hold_where_a_group_gives_nothing(self):
        app = app_of(scale_floor=2, scale_target_ms=60_000)
        app.worker_group("mail", queues=["mail"], floor=1)

        [group] = app.worker_groups([])
        policy = group.policy(app.settings)

        assert (policy.floor, policy.target_ms) == (1, 60_000)


class TestWindows:
    @pytest.fixture
    def app(self) -> Shifter:
        app = app_of(scale_start_up_ms=60_000)
        app.lane("mail", priority=Priority.LOW, window=Window("22:00-06:00"))

        @app.job(queue="mail")
        async def send() -> None: ...

        @app.job(queue="reports", window=Window("13:00-14:00"))
        async def report() -> None: ...

        return app

    def waiting(self, at_ms, **more):
        ended = {"rate": 100.0}
        return reading(
            lane("mail", "LOW", due=6_000, **ended),
            workers=[worker(busy={"shop.mail.low": 1.0})],
            at_ms=at_ms,
            **more,
        )

    def test_a_lane_whose_window_is_closed_asks_for_nothing(self, app):
        assert answer(app, self.waiting(MONDAY_NOON)) == (0, "idle")

    def test_workers_start_before_the_window_opens(self, app):
        before_ms = MONDAY_NOON + 10 * HOUR_MS - 62_000

        assert answer(app, self.waiting(before_ms)) == (2, "window_opens")

    def test_the_start_of_the_workers_is_measured(self, app):
        before_ms = MONDAY_NOON + 10 * HOUR_MS - 80_000
        slow = worker(busy={"shop.mail.low": 1.0}, start_up_ms=25_000)
        overview = self.waiting(before_ms)

        assert answer(app, overview) == (0, "idle")
        slowly = msgspec.structs.replace(overview, workers=[slow])
        assert answer(app, slowly) == (2, "window_opens")

    def test_an_override_counts_before_a_window(self, app):
        by_hand = OverrideRow("open", "ann", "a drill", 60.0)
        row = WindowRow("queue/mail", True, [], None, by_hand)

        found = answer(app, self.waiting(MONDAY_NOON, windows=[row]))

        assert found == (2, "due_backlog")

    def test_jobs_that_all_have_windows_close_their_lane(self, app):
        overview = reading(
            lane("reports", due=6_000, rate=100.0),
            workers=[worker(busy={"shop.reports.normal": 1.0})],
        )
        later = msgspec.structs.replace(overview, as_of_ms=MONDAY_NOON + HOUR_MS)

        assert answer(app, overview) == (0, "idle")
        assert answer(app, later) == (2, "due_backlog")


def test_a_worker_runs_when_a_cron_job_fires():
    app = app_of(scale_start_up_ms=0)

    @app.job(cron="0 13 * * *")
    async def digest() -> None: ...

    soon_ms = MONDAY_NOON + HOUR_MS - 3_000
    assert answer(app, reading(at_ms=soon_ms)) == (1, "window_opens")
    assert answer(app, reading(at_ms=soon_ms - 1)) == (0, "idle")


def test_opportunistic_work_keeps_one_worker():
    app = app_of()

    @app.job(queue="mail", priority=Priority.LOW, opportunistic=True, timeout="1m")
    async def clean() -> None: ...

    ended = {"rate": 100.0, "priority": "LOW"}
    busy = [worker(busy={"shop.mail.low": 1.0})]
    quiet = reading(lane("mail", due=6_000, **ended), workers=busy)
    near = lane("mail", due=6_000, tightest_deadline_s=95.0, **ended)

    assert answer(app, quiet) == (1, "floor")
    assert answer(app, reading(near, workers=busy)) == (2, "due_backlog")


class TestDependencies:
    waits = lane("mail", due=12_000, rate=50.0)
    busy = worker(busy={"shop.mail.normal": 0.25})

    def found(self, app, *circuits, **more):
        overview = reading(self.waits, workers=[self.busy], circuits=circuits, **more)
        return answer(app, overview)

    def test_a_closed_circuit_is_no_bottleneck(self, app):
        assert self.found(app, circuit()) == (2, "due_backlog")

    @pytest.mark.parametrize("state", ["open", "half_open"])
    def test_an_open_circuit_is_one(self, app, state):
        assert self.found(app, circuit(state=state)) == (1, "dependency_limited")

    def test_an_override_counts_before_the_state(self, app):
        def by_hand(to):
            return circuit(state="open", by_hand=OverrideRow(to, "ann", "a drill", 9.0))

        assert self.found(app, by_hand("closed")) == (2, "due_backlog")
        assert self.found(app, by_hand("open")) == (1, "dependency_limited")

    def test_a_full_limit_is_one_while_workers_have_room(self, app):
        full = circuit(inflight=10, limit=10)

        assert self.found(app, full) == (1, "dependency_limited")
        assert self.found(app, circuit(inflight=9, limit=10)) == (2, "due_backlog")

    def test_a_rate_that_is_reached_is_one(self, app):
        overview = reading(
            lane("mail", due=36_000, rate=95.0),
            workers=[self.busy],
            circuits=[circuit()],
        )

        assert answer(app, overview) == (1, "dependency_limited")

    def test_a_budget_without_retries_is_one(self, app):
        spent = BudgetRow("mailer", 0.1, 0, 10.0, 1, 0.1, 2.0, 2.0, 0.0, 5, 0)
        unused = BudgetRow("mailer", 0.1, 0, 10.0, 1, 0.1, 0.0, 0.0, 0.0, 0, 0)

        assert self.found(app, circuit(), budgets=[spent])[1] == "dependency_limited"
        assert self.found(app, circuit(), budgets=[unused]) == (2, "due_backlog")

    def test_a_protection_in_the_dark_is_none(self, app):
        app.dependency("dark", dark=["circuit"])

        @app.job(queue="dim", uses=app.dependencies["dark"])
        async def dim() -> None: ...

        overview = reading(
            lane("dim", due=12_000, rate=50.0),
            workers=[worker(queues=["dim"], busy={"shop.dim.normal": 0.25})],
            circuits=[circuit("dark", "open")],
        )

        assert answer(app, overview) == (2, "due_backlog")

    def test_jobs_without_the_dependency_are_one_more_cause(self, app):
        @app.job(queue="mail")
        async def archive() -> None: ...

        def found(busy):
            all_busy = worker(busy={"shop.mail.normal": busy})
            overview = reading(
                self.waits, workers=[all_busy], circuits=[circuit(state="open")]
            )
            return answer(app, overview)

        assert found(0.25) == (1, "dependency_limited")
        assert found(1.0) == (8, "due_backlog")


class TestMemory:
    def test_arrivals_are_observed(self, app):
        clock = FakeClock()
        planner = Planner(app, clock, remembers=True)
        many = [worker(str(n), busy={"shop.mail.normal": 0.1}) for n in range(4)]
        planner.plan(reading(lane("mail", rate=40.0), workers=many))
        clock.advance(10)

        planner.plan(reading(lane("mail", due=4_000, rate=40.0), workers=many))

        [demand] = planner.sizes["default"].demands
        # 440 a second have come, each 10 ms of a worker that is planned to be 80 % used.
        assert demand.keep_up == pytest.approx(5.5)

    def test_what_a_job_cost_is_remembered(self, app):
        planner = Planner(app, FakeClock(), remembers=True)
        planner.plan(reading(lane("mail", **RUNS), workers=[HALF]))

        [group] = planner.plan(reading(lane("mail", due=12_000))).groups

        assert (group.desired, group.due_backlog_s) == (2, 60.0)

    def test_a_number_that_falls_is_held_for_the_window(self, app):
        clock = FakeClock()
        planner = Planner(app, clock, remembers=True)
        workers = [worker(str(number)) for number in range(3)]

        def desired():
            [group] = planner.plan(reading(workers=workers)).groups
            return group.desired, group.reason

        assert desired() == (3, "held")
        clock.advance(299)
        assert desired() == (3, "held")
        clock.advance(1)
        assert desired() == (0, "idle")

    def test_the_same_hour_of_the_day_before_is_expected(self, app):
        clock = FakeClock()
        planner = Planner(app, clock, remembers=True)
        busy = [worker(busy={"shop.mail.normal": 1.0})]
        for minute in range(0, 24 * 60 + 1, 5):
            rate = 100.0 if minute < 60 else 0.001
            planner.plan(
                reading(
                    lane("mail", rate=rate),
                    workers=busy if minute < 60 else (),
                    at_ms=MONDAY_NOON + minute * 60_000,
                )
            )
            clock.advance(300)

        [demand] = planner.sizes["default"].demands
        assert demand.keep_up == pytest.approx(1.25, rel=0.2)


class TestReading:
    async def test_a_deployment_is_read(self, app, settings):
        app._settings = settings
        async with wiring.opened_admin(settings) as admin:
            await admin.apply(wiring.topic_specs(settings, app.queues))
        async with open_sources(settings, SystemClock(), print) as sources:
            overview = await read_for_scaling(sources)

        assert {row.queue for row in overview.lanes} == {"mail", "reports"}
        assert answer(app, overview) == (0, "idle")

    async def test_without_the_state_store_there_is_no_answer(self, tmp_path):
        settings = Settings(
            namespace="shop",
            log_url=Secret.of_url(f"sqlite://{tmp_path}/shop.db"),
            state_url=Secret.of_url("redis://127.0.0.1:1/0"),
        )
        async with open_sources(settings, SystemClock(), print) as sources:
            with pytest.raises(StoreError):
                await read_for_scaling(sources)


@pytest.mark.alone
def test_a_thousand_lanes_take_20_ms():
    app = app_of()
    mailer = app.dependency("mailer")
    app.lane("q1", priority=Priority.LOW, window=Window("22:00-06:00"))
    for number in range(250):

        @app.job(name=f"job-{number}", queue=f"q{number}", uses=mailer)
        async def job() -> None: ...

    lanes = [
        lane(f"q{number}", one.value, due=number, rate=float(number))
        for number in range(250)
        for one in Priority
    ]
    busy = {f"shop.q{number}.low": 0.002 for number in range(250)}
    queues = [f"q{number}" for number in range(250)]
    workers = [worker(str(number), queues, busy=busy) for number in range(10)]
    overview = reading(*lanes, workers=workers, circuits=[circuit(state="open")])
    planner = Planner(app, FakeClock(), remembers=True)
    planner.plan(overview)

    took = []
    # A command of its own has no thousands of tests for the garbage collector to visit.
    gc.freeze()
    try:
        for _ in range(10):
            began = time.perf_counter()
            planner.plan(overview)
            took.append(time.perf_counter() - began)
    finally:
        gc.unfreeze()

    assert min(took) <= 0.020

"""Numbers that add up, and their text for Prometheus."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from shifter.telemetry import Metrics, Totals, WorkerMetrics
from shifter.telemetry.exposition import Exposition
from shifter.telemetry.labels import LABELS
from shifter.telemetry.metric import (
    FLEET_SPECS,
    SERVICE_SPECS,
    SPECS,
    WORKER_SPECS,
)
from shifter.telemetry.series import MAX_SERIES, Bars, Histogram


def test_names_follow_the_conventions():
    for name, spec in SPECS.items():
        assert re.fullmatch(r"shifter(_[a-z]+)+", name)
        assert name.endswith("_total") == (spec.kind == "counter")
        assert name.endswith("_seconds") >= (spec.kind == "histogram")
        assert spec.help.endswith(".")
        assert list(spec.bounds) == sorted(set(spec.bounds))
        assert "le" not in spec.labels
        assert set(spec.labels) <= set(LABELS)


def test_a_metric_is_declared_once_for_workers_and_services():
    shared = WORKER_SPECS.keys() & SERVICE_SPECS.keys()

    assert shared == Metrics().specs.keys()
    assert all(WORKER_SPECS[name] == SERVICE_SPECS[name] for name in shared)


@given(st.lists(st.floats(0, 1e7, allow_nan=False)))
def test_observing_many_is_observing_each(values):
    bounds = SPECS["shifter_job_wait_seconds"].bounds
    each, many = Histogram(bounds), Histogram(bounds)

    for value in values:
        each.observe_many([value])
    many.observe_many(values)

    left, right = each.read(), many.read()
    assert left.counts == right.counts
    assert math.isclose(left.total, right.total)
    assert sum(right.counts) == len(values)


@pytest.mark.parametrize("place", range(4))
def test_a_value_on_a_bound_belongs_below_it(place):
    bounds = (1.0, 2.0, 3.0)
    histogram = Histogram(bounds)

    histogram.observe_many([(*bounds, 3.5)[place]])

    assert histogram.read().counts[place] == 1


def test_a_wrong_number_of_labels_is_a_fault():
    with pytest.raises(ValueError, match="labels"):
        WorkerMetrics().jobs.of("mail", "LOW")


def test_too_many_series_become_one():
    metrics = WorkerMetrics()

    for number in range(MAX_SERIES + 500):
        metrics.records_lost.of(f"topic-{number}").inc()

    series = metrics.snapshot()["shifter_records_lost_total"]
    assert len(series) == MAX_SERIES + 1
    assert series[("other",)] == 500


def test_metrics_of_lanes_are_no_metrics_of_workers_or_services():
    assert not FLEET_SPECS.keys() & (WORKER_SPECS | SERVICE_SPECS).keys()


def exposed(snapshot) -> dict[tuple[str, ...], float]:
    text = Exposition(lambda: snapshot, SPECS, version="1.2").render().decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_what_was_counted():
    metrics = WorkerMetrics()
    metrics.jobs.of("mail", "LOW", "done").inc(3)
    metrics.inflight.of("mail", "LOW").set(4)
    metrics.claim_store_errors.of().inc()
    metrics.job_duration.of("mail", "LOW").observe_many([0.002, 0.3, 5_000.0])
    labels = (("priority", "LOW"), ("queue", "mail"))

    found = exposed(metrics.snapshot())

    assert found["shifter_jobs_total", ("outcome", "done"), *labels] == 3
    assert found["shifter_inflight", *labels] == 4
    assert found["shifter_claim_store_errors_total",] == 1
    assert found["shifter_build_info", ("version", "1.2")] == 1
    buckets = {
        key[1][1]: value
        for key, value in found.items()
        if key[0] == "shifter_job_duration_seconds_bucket"
    }
    assert buckets["0.001"] == 0
    assert buckets["0.0025"] == 1
    assert buckets["0.5"] == 2
    assert buckets["900.0"] == 2
    assert buckets["+Inf"] == 3
    assert found["shifter_job_duration_seconds_count", *labels] == 3
    assert found["shifter_job_duration_seconds_sum", *labels] == pytest.approx(
        5_000.302
    )


def test_hostile_labels_cannot_make_a_line_of_their_own():
    metrics = WorkerMetrics()
    metrics.records_lost.of('t"} 1\nshifter_fake 9\n').inc()

    names = {key[0] for key in exposed(metrics.snapshot())}

    assert "shifter_fake" not in names


def samples(text: str):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_text_is_that_of_a_registry_of_prometheus_client():
    metrics = WorkerMetrics()
    metrics.records_lost.of('a\\b"c\nd\\n').inc(10**17)
    metrics.job_wait.of("mail", "LOW").observe_many([0.1, 1e9])
    page = Exposition(metrics.snapshot, SPECS, version="1")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(page)

    text = page.render().decode()
    first = samples(generate_latest(registry).decode())
    took_s = first.pop(("shifter_scrape_duration_seconds",))
    metrics.jobs.of("mail", "LOW", "done").inc(2)
    metrics.job_wait.of("mail", "LOW").observe_many([0.1])
    metrics.inflight.of("gone", "LOW").set(1)
    page.render()
    metrics.inflight.clear()
    second = samples(page.render().decode())

    assert took_s > 0
    assert samples(text) == first
    assert second.pop(("shifter_scrape_duration_seconds",)) > 0
    again = samples(generate_latest(registry).decode())
    del again["shifter_scrape_duration_seconds",]
    assert second == again
    assert second != first


def test_our_metrics_stay_out_of_the_services_registry():
    from prometheus_client import REGISTRY

    Exposition(WorkerMetrics().snapshot, SPECS, version="1").render()

    assert not [f for f in REGISTRY.collect() if f.name.startswith("shifter")]


def counted(done: int, running: int, waits: list[float]):
    metrics = WorkerMetrics()
    metrics.jobs.of("mail", "LOW", "done").inc(done)
    metrics.inflight.of("mail", "LOW").set(running)
    metrics.job_wait.of("mail", "LOW").observe_many(waits)
    return metrics.snapshot()


def test_a_gauge_of_several_processes_is_their_sum_or_their_largest(monkeypatch):
    spec = SPECS["shifter_waiting_bytes"]._replace(across="max")
    found = []
    for across in (SPECS["shifter_waiting_bytes"], spec):
        monkeypatch.setitem(SPECS, "shifter_waiting_bytes", across)
        totals = Totals()
        for source, count in (("a", 3), ("b", 7), ("c", 5)):
            metrics = WorkerMetrics()
            metrics.waiting_bytes.of().set(count)
            totals.absorb(source, metrics.snapshot())
        found.append(totals.snapshot()["shifter_waiting_bytes"][()])

    assert found == [15, 7]


def test_an_ended_process_keeps_its_counts_and_loses_its_gauges():
    totals = Totals()
    totals.absorb("a", counted(5, 2, [1.0]))
    totals.absorb("a", counted(7, 3, [1.0, 2.0]))
    totals.absorb("b", counted(1, 4, []))

    totals.retire("a")
    totals.retire("a")

    found = totals.snapshot()
    assert found["shifter_jobs_total"]["mail", "LOW", "done"] == 8
    assert found["shifter_inflight"]["mail", "LOW"] == 4
    bars = found["shifter_job_wait_seconds"]["mail", "LOW"]
    assert isinstance(bars, Bars)
    assert (sum(bars.counts), bars.total) == (2, 3.0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.booleans())))
def test_no_counter_ever_falls(steps):
    totals, counts, before = Totals(), dict.fromkeys("abc", 0), 0
    for source, more, ends in steps:
        counts[source] += more
        totals.absorb(source, counted(counts[source], 0, []))
        if ends:
            totals.retire(source)
            counts[source] = 0

        now = totals.snapshot()["shifter_jobs_total"]["mail", "LOW", "done"]
        assert now == before + more
        before = now

"""Log lines nobody can forge, and numbers that add up."""

from __future__ import annotations

import io
import json
import logging
import math
import re
from pathlib import Path

import pytest
import structlog
from hypothesis import given, strategies as st
from prometheus_client.parser import text_string_to_metric_families

from shifter.telemetry import Event, Log, Metrics, Totals
from shifter.telemetry.exposition import Exposition
from shifter.telemetry.metric import MAX_SERIES, SPECS, Bars, Histogram
from shifter.telemetry.setup import configure
from shifter.wire.untrusted import encode_line

HOSTILE = "a\r\nb\x1b[2J\x9b31m\u202e\u2066\x7f\ud800 %s {} \x00"
CANARY = "c4n4ry"


@pytest.fixture
def written():
    """Configure structlog onto a buffer; give a function that reads it."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")

    def start(log_format, level="info"):
        configure(level, log_format, out)

    def read() -> str:
        out.flush()
        return out.buffer.getvalue().decode()

    start.read = read
    yield start
    structlog.reset_defaults()


def is_clean(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


# --- log lines ---------------------------------------------------------------


def test_nothing_is_configured_by_importing():
    assert not structlog.is_configured()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_hostile_text_stays_on_its_line(written, log_format):
    written(log_format)

    Log(worker=HOSTILE).info(
        Event.JOB_ENDED, job_id=HOSTILE, raw=HOSTILE.encode("utf-8", "replace")
    )

    text = written.read()
    assert text.count("\n") == 1
    assert is_clean(text)
    assert "\x1b[2J" not in text


def test_a_json_line_gives_back_what_was_logged(written):
    written("json")

    Log(worker="w1").warning(Event.CLAIM_LOST, detail="a\n\u202eb", n=3, none=None)

    line = json.loads(written.read())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "claim.lost",
        "level": "warning",
        "worker": "w1",
        "detail": "a\n\u202eb",
        "n": 3,
        "none": None,
    }


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_field_of_ten_megabytes_is_cut(written, log_format):
    written(log_format)

    Log().info(Event.JOB_ENDED, message="x" * 10_000_000)

    assert len(written.read()) < 3_000


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_locals_and_no_control_characters(written, log_format):
    written(log_format)
    password = CANARY

    try:
        raise ValueError(HOSTILE + "y" * 100_000)
    except ValueError as error:
        Log().error(Event.WORKER_FAILED, exc_info=error)

    text = written.read()
    assert "ValueError" in text
    assert "test_telemetry.py" in text
    assert password not in text
    assert is_clean(text)
    assert len(text) < 20_000


def test_what_no_json_can_hold_is_spelled_out(written):
    written("json")
    cycle: list[object] = []
    cycle.append(cycle)

    Log().info(Event.JOB_ENDED, odd={1, 2}, thing=object(), bad="\ud800", key={(1,): 2})

    assert "\ud800" in json.loads(written.read())["bad"]
    assert encode_line(cycle)


def test_a_filtered_line_is_not_written_and_is_off(written):
    written("json", level="warning")
    log = Log()

    log.info(Event.JOB_ENDED)

    assert written.read() == ""
    assert log.is_on(logging.WARNING)
    assert not log.is_on(logging.INFO)


def test_a_log_made_before_the_configuration_follows_it(written):
    log = Log(worker="w1", slot=2)
    written("json")

    log.info(Event.PROCESS_ENDED)

    line = json.loads(written.read())
    assert (line["worker"], line["slot"]) == ("w1", 2)


def test_without_structlog_lines_go_to_the_standard_logger(caplog):
    with caplog.at_level(logging.INFO, logger="shifter"):
        Log(worker="w1").info(Event.JOB_ENDED, job_id=HOSTILE)

    (record,) = caplog.records
    assert record.name == "shifter"
    assert record.getMessage().startswith("job.ended worker=w1 job_id=a\\r\\nb")
    assert is_clean(record.getMessage())
    assert record.shifter["worker"] == "w1"


def test_events_are_named_room_dot_what_happened_and_only_once():
    values = [event.value for event in Event]

    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", value) for value in values)
    assert len(values) == len(set(values))


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_an_encoded_line_is_printable_and_reads_back(value):
    line = encode_line(value).decode()

    assert line.isprintable()
    assert json.loads(line) == value


@pytest.mark.parametrize(
    "char", [*"\x00\n\x1b\x7f\x9b\u202e\u2066\ufeff\ud800", "\U000e0001"]
)
def test_each_invisible_character_is_escaped_also_alone(char):
    line = encode_line({"text": f"a{char}b"}).decode()

    assert line.isprintable()
    assert json.loads(line) == {"text": f"a{char}b"}


# --- metrics -----------------------------------------------------------------


def test_names_follow_the_conventions():
    for name, spec in SPECS.items():
        assert re.fullmatch(r"shifter(_[a-z]+)+", name)
        assert name.endswith("_total") == (spec.kind == "counter")
        assert name.endswith("_seconds") == (spec.kind == "histogram")
        assert list(spec.bounds) == sorted(set(spec.bounds))
        assert "le" not in spec.labels


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
        Metrics().jobs.of("mail", "LOW")


def test_too_many_series_become_one():
    metrics = Metrics()

    for number in range(MAX_SERIES + 500):
        metrics.records_lost.of(f"topic-{number}").inc()

    series = metrics.snapshot()["shifter_records_lost_total"]
    assert len(series) == MAX_SERIES + 1
    assert series[("other",)] == 500


def exposed(snapshot) -> dict[tuple[str, ...], float]:
    text = Exposition(lambda: snapshot, version="1.2").render().decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_what_was_counted():
    metrics = Metrics()
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
    metrics = Metrics()
    metrics.records_lost.of('t"} 1\nshifter_fake 9\n').inc()

    names = {key[0] for key in exposed(metrics.snapshot())}

    assert "shifter_fake" not in names


def test_our_metrics_stay_out_of_the_services_registry():
    from prometheus_client import REGISTRY

    Exposition(Metrics().snapshot, version="1").render()

    assert not [f for f in REGISTRY.collect() if f.name.startswith("shifter")]


def counted(done: int, running: int, waits: list[float]):
    metrics = Metrics()
    metrics.jobs.of("mail", "LOW", "done").inc(done)
    metrics.inflight.of("mail", "LOW").set(running)
    metrics.job_wait.of("mail", "LOW").observe_many(waits)
    return metrics.snapshot()


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


def test_importing_telemetry_loads_neither_structlog_nor_prometheus():
    folder = Path(__file__).parents[2] / "shifter" / "telemetry"
    for name in ("__init__", "log", "metric"):
        text = (folder / f"{name}.py").read_text()
        assert not re.search(
            r"^(import|from) (structlog|prometheus_client)", text, re.MULTILINE
        )

"""The settings of one process: the table of all of them, and their checked values.

The table gives each setting its public name and how it is read, bounded and shown, by
the kinds of `shifter.config.option`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from shifter.config.endpoint import (
    LOG_SCHEMES,
    Secret,
    check_kafka,
    check_state,
    parse_endpoint,
    property_name,
    servers,
    sqlite_path,
)
from shifter.config.option import (
    DAY_MS,
    duration_option,
    duration_text,
    integer_option,
    place_option,
    share_option,
    text_option,
    url_option,
    weights_option,
    word_option,
)
from shifter.errors import ConfigError
from shifter.model.lane import check_name
from shifter.policy.delivery.delay import MAX_DELAY_MS
from shifter.policy.scaling.settings import MAX_WORKERS

DEFAULT_ORIGIN: Final = "default"
# A record must outlive the longest delay a job may ask for (30 days), and then a week
# without a worker that drains it: a holiday, or an outage that was noticed late.
RETENTION_MS: Final = MAX_DELAY_MS + 7 * DAY_MS

# Bytes that an envelope's headers may add to a payload, and diagnostics to a record.
_HEADROOM_BYTES: Final = 100_000


OPTIONS: Final = (
    url_option("log", "kafka://127.0.0.1:9092"),
    url_option("state", "redis://127.0.0.1:6379/0"),
    duration_option("accept_timeout", 10, 600_000, "10s"),
    duration_option("lease", 1_000, 3_600_000, "15s"),
    duration_option("drain_timeout", 0, 3_600_000, "30s"),
    duration_option("deploy_grace", 0, DAY_MS, "15m"),
    # Claims of ended jobs are kept for 5 minutes and must outlive a redelivery.
    duration_option("commit_interval", 10, 60_000, "500ms"),
    duration_option("claim_timeout", 10, 60_000, "500ms"),
    duration_option("retention", DAY_MS, 366 * DAY_MS, "37d"),
    integer_option("concurrency", 1, 100_000, "100"),
    integer_option("waiting_bytes", 1_000_000, 100_000_000_000, "67108864"),
    weights_option("queue_weights", "mail=3,reports=1"),
    word_option("pace", ("off", "dark", "on")),
    integer_option("processes", 1, 1_024, "4"),
    integer_option("max_payload_bytes", 1, 8_000_000, "900000"),
    integer_option("partitions", 1, 10_000, "6"),
    word_option("without_commits", ("earliest", "latest", "refuse")),
    place_option("spool", "auto"),
    integer_option("spool_max_bytes", 1_000_000, 100_000_000_000, "1073741824"),
    word_option("waiting_states", ("on", "off")),
    word_option("events", ("failures", "all", "none")),
    duration_option("events_retention", 60_000, 366 * DAY_MS, "24h"),
    duration_option("canary", 0, DAY_MS, "1m"),
    word_option("log_level", ("info", "debug", "warning", "error")),
    word_option("log_format", ("auto", "json", "console")),
    share_option("log_done", "0.01"),
    integer_option("log_lines", 0, 1_000_000_000, "100"),
    integer_option("scale_floor", 0, MAX_WORKERS, "0"),
    integer_option("scale_ceiling", 1, MAX_WORKERS, "100"),
    duration_option("scale_target", 1_000, 7 * DAY_MS, "30s"),
    duration_option("scale_stabilisation", 0, DAY_MS, "5m"),
    duration_option("scale_start_up", 0, 3_600_000, "10s"),
    duration_option("scale_max_age", 1_000, DAY_MS, "1m"),
    word_option("scale_fallback", ("error", "floor", "ceiling")),
    text_option("app_version", "2026.11.3"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. Made by `load_settings`, or by hand in tests.

    Attributes:
        namespace: First part of every topic and key.
        log_url: URL of the log, which keeps jobs; ``None`` while none is configured.
        state_url: URL of the store that keeps claims and presence. Unset, it is the
            log's file where the log is a file of this machine, and ``None`` elsewhere.
        kafka: Further librdkafka properties, by their own names.
        accept_timeout_ms: How long a caller waits for the log's answer.
        lease_ms: How long a claim holds without being renewed.
        drain_timeout_ms: How long a stopping worker lets running jobs finish.
        commit_interval_ms: How often settled positions are committed.
        deploy_grace_ms: How long a job waits for a worker that has its type and its
            fields, >= 0.
        claim_timeout_ms: How long one call to the claim store may take.
        retention_ms: How long a topic keeps a record that was not drained.
        concurrency: Jobs running at once in one worker process.
        waiting_bytes: Memory that jobs which were fetched and wait may take in one
            worker process: their payloads, and about 2 kB each.
        queue_weights: Share of a queue among those of one priority, by name; 1 for
            queues not named.
        pace: Whether LOW jobs with deadlines are paced toward them: ``off``, ``on``, or
            ``dark``: the pace is computed, and nothing waits for it.
        processes: Worker processes.
        max_payload_bytes: Largest payload accepted.
        partitions: Partitions of a topic that is made.
        without_commits: What a worker does with a topic that keeps records while its
            group has no commit there: ``earliest`` runs them all, ``latest`` skips
            them and counts them as lost, ``refuse`` ends the worker.
        spool: Where a service keeps jobs while Kafka is away: a file's whole path,
            ``auto`` for one of this user and namespace, or ``off``.
        spool_max_bytes: How large that file may become.
        waiting_states: ``on`` or ``off``: whether a service records in the state store
            that the jobs it accepted wait, where the log itself does not show it.
        events: Which jobs services and workers record in the topic of events:
            ``failures`` (and slow jobs), ``all`` or ``none``.
        events_retention_ms: How long that topic keeps an event.
        canary_ms: How often a canary is sent through each lane, every 5 s at the most;
            0 never.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
        log_format: ``json``, ``console``, or ``auto``: by whether there is a terminal.
        log_done: Share of the jobs that succeed whose line a worker writes, 0 to 1;
            ``None`` (``auto``): as many as the limit of lines of one kind allows.
        log_lines: Lines of one kind that a worker process writes in 10 s of what its
            handlers log; 0: all of them.
        scale_floor: Workers that a worker group is scaled to at least.
        scale_ceiling: And at most.
        scale_target_ms: Time in which the work of a group that is due shall be done.
        scale_stabilisation_ms: How long a number of workers is kept after more were
            needed.
        scale_start_up_ms: What the platform takes from asking for a worker to its
            process.
        scale_max_age_ms: Age from which a number of workers that could not be renewed
            is not given any more.
        scale_fallback: What is given then: ``error``, or the ``floor`` or the
            ``ceiling`` of a group.
        app_version: The version of the app, which its workers report; at most 64
            characters. ``None``: none.
        origins: Field name to where its value came from.
        warnings: Settings that work but should be changed, one line each.

    Raises:
        ConfigError: A value is out of bounds, or two contradict each other.
    """

    namespace: str
    log_url: Secret | None = None
    state_url: Secret | None = None
    kafka: Mapping[str, Secret] = field(default_factory=dict)
    accept_timeout_ms: int = 10_000
    lease_ms: int = 15_000
    drain_timeout_ms: int = 30_000
    commit_interval_ms: int = 500
    claim_timeout_ms: int = 500
    deploy_grace_ms: int = 900_000
    retention_ms: int = RETENTION_MS
    concurrency: int = 100
    waiting_bytes: int = 64 << 20
    queue_weights: Mapping[str, int] = field(default_factory=dict)
    pace: str = "off"
    processes: int = 1
    max_payload_bytes: int = 900_000
    partitions: int = 6
    without_commits: str = "earliest"
    spool: str = "auto"
    spool_max_bytes: int = 1 << 30
    waiting_states: str = "on"
    events: str = "failures"
    events_retention_ms: int = DAY_MS
    canary_ms: int = 0
    log_level: str = "info"
    log_format: str = "auto"
    log_done: float | None = None
    log_lines: int = 100
    scale_floor: int = 0
    scale_ceiling: int = 100
    scale_target_ms: int = 30_000
    scale_stabilisation_ms: int = 300_000
    scale_start_up_ms: int = 10_000
    scale_max_age_ms: int = 60_000
    scale_fallback: str = "error"
    app_version: str | None = None
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    warnings: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        check_name("namespace", self.namespace)
        for option in OPTIONS:
            option.check(option.name, getattr(self, option.field))
        _check_endpoints(self)
        if self.state_url is None and _is_file(self.log_url):
            object.__setattr__(self, "state_url", self.log_url)
        _check_contradictions(self)

    def origin(self, name: str) -> str:
        """Where a value came from, such as ``env SHIFTER_LEASE``."""
        return self.origins.get(name, DEFAULT_ORIGIN)

    @property
    def max_record_bytes(self) -> int:
        """The largest record of a lane: a payload and the headers of its envelope."""
        return self.max_payload_bytes + _HEADROOM_BYTES

    @property
    def max_letter_bytes(self) -> int:
        """The largest record of any topic: a dead letter also holds diagnostics."""
        return self.max_record_bytes + _HEADROOM_BYTES

    def kafka_client(self) -> dict[str, str]:
        """The properties of every Kafka client: servers, security, and extra ones.

        The values are plain: hand them to the client, and never log or show them.

        Raises:
            ConfigError: The log is not a Kafka log.
        """
        if self.log_url is None or not self.log_url.reveal().startswith("kafka://"):
            raise ConfigError("log", str(self.log_url), "set it to kafka://host:port")
        found = check_kafka("log", self.log_url.reveal(), self.kafka)
        client = {name: value.reveal() for name, value in found.items()}
        return {"bootstrap.servers": servers(self.log_url), **client}

    def shown(self) -> Iterator[tuple[str, object, str]]:
        """Every setting as (public name, value as a user writes it, origin).

        Secrets are masked; a duration is text with its unit.
        """
        yield "namespace", self.namespace, self.origin("namespace")
        for option in OPTIONS:
            value = getattr(self, option.field)
            yield option.name, option.show(value), self.origin(option.field)
        for name, secret in sorted(self.kafka.items()):
            yield f"kafka.{name}", str(secret), self.origin(f"kafka.{name}")


def _check_endpoints(settings: Settings) -> None:
    for name in settings.kafka:
        property_name("kafka", name)
    if settings.state_url is not None:
        check_state(_label(settings, "state"), settings.state_url.reveal())
    if settings.log_url is None:
        return
    label, url = _label(settings, "log"), settings.log_url.reveal()
    scheme = parse_endpoint(label, url, LOG_SCHEMES).scheme
    if scheme == "kafka":
        check_kafka(label, url, settings.kafka)
        return
    if scheme == "sqlite":
        sqlite_path(label, url)
    if settings.kafka:
        want = "these belong to a log of kafka://; drop them, or set log"
        raise ConfigError("kafka", ", ".join(sorted(settings.kafka)), want)


def _is_file(url: Secret | None) -> bool:
    return url is not None and url.reveal().startswith("sqlite:")


def _check_contradictions(settings: Settings) -> None:
    claim_timeout = duration_text(settings.claim_timeout_ms)
    # A lease is renewed at each third of it: after one renewal that timed out there
    # must be time for another before the lease ends.
    if settings.lease_ms < 3 * settings.claim_timeout_ms:
        want = f"must be at least three times claim_timeout ({claim_timeout})"
        lease = duration_text(settings.lease_ms)
        raise ConfigError(_label(settings, "lease"), lease, want)
    if settings.scale_floor > settings.scale_ceiling:
        want = f"must not be above scale_ceiling ({settings.scale_ceiling})"
        raise ConfigError(_label(settings, "scale_floor"), settings.scale_floor, want)
    if settings.processes == 1:
        return
    for name, url in (("log", settings.log_url), ("state", settings.state_url)):
        if url is not None and url.reveal().startswith("memory:"):
            want = f"must be 1: {name} is memory://, which processes do not share"
            label = _label(settings, "processes")
            raise ConfigError(label, settings.processes, want)


def _label(settings: Settings, name: str) -> str:
    fields = {option.name: option.field for option in OPTIONS}
    origin = settings.origin(fields[name])
    return name if origin == DEFAULT_ORIGIN else f"{name} ({origin})"

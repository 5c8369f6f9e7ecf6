"""Names of log events: ``room.what_happened``, in the past tense."""

from __future__ import annotations

from enum import StrEnum


class Event(StrEnum):
    """Every event this package logs; the value is the published word."""

    # the life of a worker
    WORKER_STARTED = "worker.started"
    WORKER_DRAINING = "worker.draining"
    WORKER_FAILED = "worker.failed"
    PROCESS_ENDED = "process.ended"
    HEALTH_SERVED = "health.served"
    PROCESS_STALLED = "process.stalled"
    BURST_PROGRESSED = "burst.progressed"
    # one job
    ATTEMPT_STUCK = "attempt.stuck"
    JOB_ENDED = "job.ended"
    JOB_RETRIED = "job.retried"
    JOB_DEAD_LETTERED = "job.dead_lettered"
    KEY_DOUBTED = "job.key_doubted"
    RESULT_LEFT_OUT = "job.result_left_out"
    JOB_MISFIT = "job.misfit"
    HEADERS_DROPPED = "job.headers_dropped"
    # claims
    CLAIM_LOST = "claim.lost"
    CLAIMS_UNAVAILABLE = "claims.unavailable"
    CLAIMS_RECOVERED = "claims.recovered"
    PRESENCE_UNAVAILABLE = "presence.unavailable"
    # dependencies
    CIRCUIT_OPENED = "circuit.opened"
    CIRCUIT_PROBED = "circuit.probed"
    CIRCUIT_CLOSED = "circuit.closed"
    CALLBACK_FAILED = "circuit.callback_failed"
    FLEET_STRANGE = "fleet.strange"
    # decisions
    ADMISSION_COUNTED = "admission.counted"
    SIGNAL_FAILED = "admission.signal_failed"
    # the log
    LOG_CLIENT_SAID = "log.client_said"
    RECORDS_LOST = "log.records_lost"
    APPEND_REFUSED = "log.append_refused"
    RECORDS_UNANSWERED = "log.records_unanswered"
    # log lines themselves
    LINES_LEFT_OUT = "lines.left_out"
    # settings
    SETTING_DOUBTED = "config.doubted"

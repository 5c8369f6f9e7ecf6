"""Bad messages, rows 1 to 26: read by hand, and by a live worker among good ones."""

from __future__ import annotations

import sys
import threading

import pytest

from tests.bad_inputs.catalogue import MESSAGES, NOW, ROWS
from tests.bad_inputs.decode import decode
from tests.bad_inputs.ends import check_decoded, check_lived

pytestmark = pytest.mark.timeout(240)
EACH = pytest.mark.parametrize("row", MESSAGES, ids=[row.name for row in MESSAGES])


@EACH
def test_a_bad_message_is_read_or_refused_as_it_is_stated(row):
    check_decoded(row)


@EACH
def test_a_live_worker_ends_a_bad_message_as_it_is_stated(row, live, log):
    check_lived(row, live.life(row.job_id), log)


def test_no_bad_record_keeps_a_good_one_waiting(live):
    lives = [live.life(job_id) for job_id in live.good]

    assert live.code == 0, live.said
    assert [(len(life.runs), life.letters) for life in lives] == [(1, [])] * len(lives)
    assert live.waiting() == 0
    assert "Traceback" not in live.said
    assert "worker.crashed" not in live.said


def test_of_two_payloads_with_one_id_the_first_counts(live):
    [row] = [row for row in MESSAGES if row.number == 25]

    assert live.life(row.job_id).runs == ["1.0"]


def test_no_record_kills_a_thread_with_the_smallest_stack():
    """A crash would take the whole process down: it is the absence of one that counts."""
    hostile = [row for row in ROWS if row.number == 16]
    ended: list[str] = []

    def run() -> None:
        for row in hostile:
            decode(row.headers, row.value, NOW)
            ended.append(row.name)

    before = threading.stack_size(128 * 1024)
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(100_000)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        sys.setrecursionlimit(limit)
        threading.stack_size(before)

    assert ended == [row.name for row in hostile]


def test_every_message_and_header_of_the_catalogue_is_there():
    assert {row.number for row in ROWS} == set(range(1, 39))

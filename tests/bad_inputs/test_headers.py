"""Bad headers, rows 27 to 38: read by hand, and by a live worker among good ones."""

from __future__ import annotations

import pytest

from tests.bad_inputs.catalogue import HEADER_ROWS
from tests.bad_inputs.ends import check_decoded, check_lived

pytestmark = pytest.mark.timeout(240)
EACH = pytest.mark.parametrize(
    "row", HEADER_ROWS, ids=[row.name for row in HEADER_ROWS]
)


@EACH
def test_a_bad_header_is_read_or_refused_as_it_is_stated(row):
    check_decoded(row)


@EACH
def test_a_live_worker_ends_a_bad_header_as_it_is_stated(row, live, log):
    check_lived(row, live.life(row.job_id), log)

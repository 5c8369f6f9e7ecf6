"""What the publisher refuses before it writes a record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shifter import Shifter
from shifter.errors import ConfigError
from shifter.testing import TestApp

app = Shifter("shop")


@app.job(queue="mail")
def send(number: int) -> None:
    pass


def test_due_time_beyond_thirty_days_is_refused():
    start = datetime(2026, 1, 1, tzinfo=UTC)

    with TestApp(app, start=start):
        send.options(due_at=start + timedelta(days=29)).defer_sync(1)
        with pytest.raises(ConfigError, match="the longest delay is 30 days"):
            send.options(due_at=start + timedelta(days=31)).defer_sync(2)

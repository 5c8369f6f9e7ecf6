"""The spool in a file: what the log refused, and lets in later."""

from __future__ import annotations

from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.spool import SqliteSpool
from shifter.adapters.system import SystemClock
from shifter.ports import Record, SpoolEntry


def test_what_was_set_aside_waits_in_its_place_again_also_after_a_restart(tmp_path):
    records = [
        Record("shop.mail.low", b"%d" % n, [("h", b"v")], b"k") for n in range(5)
    ]
    spool = SqliteSpool(Database(tmp_path / "spool.db"), SystemClock())
    entries = [SpoolEntry(number, one) for number, one in enumerate(records, 10)]
    spool.put(entries, timeout_s=5)
    for number in (11, 13):
        spool.set_aside(number, "refused_by_log: no right")
    assert spool.depth()[:2] == (3, 2)
    spool.close()

    spool = SqliteSpool(Database(tmp_path / "spool.db"), SystemClock())
    assert spool.put_back() == 2

    assert spool.take(10) == entries
    assert spool.depth()[:2] == (5, 0)
    assert spool.put_back() == 0
    spool.close()

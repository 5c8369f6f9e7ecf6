"""The composition root: from settings to running parts.

The only room that knows which adapter serves which URL. Adapters are imported when
they are asked for, so that a program pays only for the vendors it uses.
"""

from __future__ import annotations

from shifter.wiring.files import is_sqlite
from shifter.wiring.log import (
    check_file,
    log_is_up,
    log_path,
    open_admin,
    open_atomic_log,
    open_feed,
    open_log,
    open_mover,
    open_topic_ids,
    opened_admin,
)
from shifter.wiring.service import (
    import_adapters,
    open_publisher,
    open_spool,
    spool_path,
)
from shifter.wiring.state import open_claims, open_fleet, open_presence
from shifter.wiring.topics import max_record_bytes, topic_specs
from shifter.wiring.worker import (
    FleetTerms,
    lanes_served,
    new_worker_id,
    open_worker,
)

__all__ = [
    "FleetTerms",
    "check_file",
    "import_adapters",
    "is_sqlite",
    "lanes_served",
    "log_is_up",
    "log_path",
    "max_record_bytes",
    "new_worker_id",
    "open_admin",
    "open_atomic_log",
    "open_claims",
    "open_feed",
    "open_fleet",
    "open_log",
    "open_mover",
    "open_presence",
    "open_publisher",
    "open_spool",
    "open_topic_ids",
    "open_worker",
    "opened_admin",
    "spool_path",
    "topic_specs",
]

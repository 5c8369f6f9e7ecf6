"""The composition root: from settings to running parts.

`shifter.wiring.registry` lists the adapter of each URL's scheme. Adapters are imported
when a part of them is opened, so that a program imports only the vendor libraries it
uses.
"""

from __future__ import annotations

from shifter.wiring.service import (
    import_adapters,
    open_publisher,
    open_spool,
    spool_path,
)
from shifter.wiring.stores import (
    check_file,
    is_embedded,
    log_path,
    open_admin,
    open_atomic_log,
    open_claims,
    open_fleet,
    open_log,
    open_presence,
    opened_admin,
    records_waiting,
    topic_specs,
)
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
    "is_embedded",
    "lanes_served",
    "log_path",
    "new_worker_id",
    "open_admin",
    "open_atomic_log",
    "open_claims",
    "open_fleet",
    "open_log",
    "open_presence",
    "open_publisher",
    "open_spool",
    "open_worker",
    "opened_admin",
    "records_waiting",
    "spool_path",
    "topic_specs",
]

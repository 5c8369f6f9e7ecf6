"""The log on Apache Kafka, by confluent-kafka's synchronous clients.

Each client is owned by one thread of ours; librdkafka calls back on threads that hold
no event loop, so nothing outside this room may touch it.
"""

from __future__ import annotations

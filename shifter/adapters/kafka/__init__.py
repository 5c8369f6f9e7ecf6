"""The log on Apache Kafka, by confluent-kafka's synchronous clients.

One thread of this package owns each client. librdkafka calls back on threads that have
no event loop, so nothing outside this folder may use a client.
"""

from __future__ import annotations

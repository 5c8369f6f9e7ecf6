"""Real servers for development, tests and benchmarks: Apache Kafka and Redis.

Nothing here is part of the distribution. Everything listens on 127.0.0.1 only.
"""

from __future__ import annotations

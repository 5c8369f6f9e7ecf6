"""librdkafka's own mock cluster: no JVM, and topics with as many partitions as asked.

Its C functions are exported by the library that confluent-kafka brings along.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import confluent_kafka

_ERROR_BYTES = 512
_PRODUCER = 0


class MockCluster:
    """Brokers inside this process; they end with `close`."""

    def __init__(self, brokers=1):
        [library] = Path(confluent_kafka.__file__).parent.parent.glob(
            "confluent_kafka.libs/librdkafka-*"
        )
        self._lib = ctypes.CDLL(str(library))
        for name in ("rd_kafka_new", "rd_kafka_mock_cluster_new"):
            getattr(self._lib, name).restype = ctypes.c_void_p
        self._lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        self._client = ctypes.c_void_p(
            self._lib.rd_kafka_new(_PRODUCER, None, error, _ERROR_BYTES)
        )
        self._cluster = ctypes.c_void_p(
            self._lib.rd_kafka_mock_cluster_new(self._client, brokers)
        )
        bootstraps = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster)
        self.bootstrap = bootstraps.decode()

    def make_topic(self, name, partitions):
        code = self._lib.rd_kafka_mock_topic_create(
            self._cluster, name.encode(), partitions, 1
        )
        assert code == 0, code

    def close(self):
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._lib.rd_kafka_destroy(self._client)

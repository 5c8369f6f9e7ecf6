"""Nothing runs from a jar that was not pinned."""

from __future__ import annotations

import hashlib

import pytest

from stack.errors import Missing, StackError
from stack.install import check_jars, kafka_jars
from stack.jvm import archive_path
from stack.kafka import KafkaCluster


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b.jar").write_bytes(b"b")
    (tmp_path / "a.jar").write_bytes(b"a")
    return tmp_path


def sums(**contents: bytes) -> str:
    lines = [
        f"{hashlib.sha256(content).hexdigest()}  {name}.jar"
        for name, content in contents.items()
    ]
    return "\n".join(lines) + "\n"


def test_pinned_jars_come_in_the_order_of_their_names(folder):
    found = check_jars(folder, sums(b=b"b", a=b"a"))

    assert [jar.name for jar in found] == ["a.jar", "b.jar"]


@pytest.mark.parametrize(
    "pinned",
    [
        pytest.param(sums(a=b"other", b=b"b"), id="changed"),
        pytest.param(sums(b=b"b"), id="not pinned"),
        pytest.param(sums(a=b"a", b=b"b", c=b"c"), id="missing"),
    ],
)
def test_a_jar_that_differs_from_the_list_is_refused(folder, pinned):
    with pytest.raises(StackError, match=r"[ac]\.jar"):
        check_jars(folder, pinned)


def test_a_missing_jvm_is_reported_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    kafka_jars.cache_clear()
    archive_path.cache_clear()

    with pytest.raises(Missing, match=r"\Ano Kafka: there is no JVM[^\n]*\Z"):
        KafkaCluster()

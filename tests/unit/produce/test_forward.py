"""The gate that keeps the order of a key while its records wait in the spool."""

from __future__ import annotations

from shifter.ports import Record
from shifter.produce import forward
from shifter.produce.forward import KeyGate


def record(key=b"ann", topic="shop.mail.normal"):
    return Record(topic=topic, value=b"", headers=[], key=key)


def test_open_gate_holds_no_record():
    assert not KeyGate().holds(record())


def test_spooled_record_holds_its_key_until_it_was_forwarded():
    gate = KeyGate()
    gate.hold([(record(), 7)])

    assert gate.holds(record())
    gate.move(8)

    assert not gate.holds(record())


def test_spooled_record_holds_no_other_key_topic_or_keyless_record():
    gate = KeyGate()
    gate.hold([(record(), 7)])

    assert not gate.holds(record(key=b"bob"))
    assert not gate.holds(record(topic="shop.mail.high"))
    assert not gate.holds(record(key=None))


def test_records_of_an_earlier_process_hold_every_key():
    gate = KeyGate()
    gate.move(3, floor=5)

    assert gate.holds(record(key=b"bob"))
    gate.move(6)

    assert not gate.holds(record(key=b"bob"))


def test_empty_spool_opens_the_gate():
    gate = KeyGate()
    gate.hold([(record(), 7)])

    gate.move(None)

    assert gate.is_open
    assert not gate.holds(record())


def test_more_keys_than_are_kept_hold_every_key(monkeypatch):
    monkeypatch.setattr(forward, "_MOST_KEYS", 2)
    gate = KeyGate()

    gate.hold((record(key=b"%d" % n), n) for n in range(1, 4))

    assert gate.holds(record(key=b"new"))
    gate.move(4)
    assert not gate.holds(record(key=b"new"))

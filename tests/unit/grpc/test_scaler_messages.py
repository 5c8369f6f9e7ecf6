"""The bytes of KEDA's messages, against protobuf's own encoding."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, strategies as st

from shifter.grpc.scaler_messages import (
    active,
    metric_spec,
    metric_value,
    read_question,
    read_scaled_object,
)
from tests.acceptance.keda import message

TEXT = st.text(max_size=300)


@given(TEXT, TEXT, st.dictionaries(TEXT, TEXT, max_size=5), TEXT)
def test_questions_are_read_as_protobuf_writes_them(name, namespace, metadata, metric):
    about = message("ScaledObjectRef")(name=name, namespace=namespace)
    for key, value in metadata.items():
        about.scalerMetadata.add(key=key, value=value)
    asked = message("GetMetricsRequest")(scaledObjectRef=about, metricName=metric)

    found = read_question(asked.SerializeToString())

    assert found == ((name, namespace, metadata), metric)
    assert read_scaled_object(about.SerializeToString()) == found.scaled_object


@given(TEXT, st.integers(0, 2**31))
def test_answers_are_read_by_protobuf(name, value):
    spec = message("GetMetricSpecResponse").FromString(metric_spec(name, value))
    found = message("GetMetricsResponse").FromString(metric_value(name, value))

    [one] = spec.metricSpecs
    assert (one.metricName, one.targetSize, one.targetSizeFloat) == (name, value, value)
    [two] = found.metricValues
    assert (two.metricName, two.metricValue, two.metricValueFloat) == (
        name,
        value,
        value,
    )


@pytest.mark.parametrize("is_active", [True, False])
def test_whether_a_group_is_active_is_read_by_protobuf(is_active):
    raw = active(is_active=is_active)

    assert message("IsActiveResponse").FromString(raw).result is is_active


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw):
    with contextlib.suppress(ValueError):
        read_question(raw)
    with contextlib.suppress(ValueError):
        read_scaled_object(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x0a\xff",  # more bytes than there are
        b"\x0a\x02\xff\xfe",  # no UTF-8
        b"\x80" * 11,  # a number of more than 64 bits
        b"\x0b",  # a kind of field that is not used any more
        b"\x09\x00",  # a fixed number that is cut off
    ],
)
def test_a_broken_message_is_refused(raw):
    with pytest.raises(ValueError, match=r".+"):
        read_scaled_object(raw)


def test_unknown_fields_are_skipped():
    raw = b"\x0a\x01a\x20\x05\x29" + b"\0" * 8 + b"\x35" + b"\0" * 4 + b"\x3a\x01z"

    assert read_scaled_object(raw).name == "a"

"""Names of users and records in keys."""

from __future__ import annotations

import collections
import uuid

import pytest
from hypothesis import given, strategies as st

from shifter.adapters.redis.keys import (
    TAGS,
    ClaimKeys,
    bounded_id,
    from_field,
    hash_tag,
    presence_keys,
    to_field,
)
from shifter.errors import ConfigError

any_text = st.text(st.characters(), max_size=300)


@given(any_text)
def test_a_key_is_bounded_and_its_hash_tag_is_the_namespaces(name):
    key = ClaimKeys("shop").claim(name)

    assert len(key) <= 40 + 4 * 128
    tag = key[key.index(b"{") + 1 : key.index(b"}")]
    assert tag.startswith(b"shop:")
    assert int(tag.removeprefix(b"shop:")) < TAGS
    assert key.count(b"{") == key.count(b"}") == 1
    assert not set(key) & set(range(32))


@given(any_text, any_text)
def test_two_names_never_share_a_key(one, other):
    claim = ClaimKeys("shop").claim

    assert (claim(one) == claim(other)) == (one == other)


@pytest.mark.parametrize("name", ["x" * 129, "{a}", "a\nb", "\ud800", "#abc"])
def test_what_may_not_stand_in_a_key_is_digested(name):
    assert bounded_id(name).startswith("#")
    assert len(bounded_id(name)) == 65
    assert bounded_id(bounded_id(name)) != bounded_id(name)


def test_claims_spread_over_all_hash_tags():
    claim = ClaimKeys("shop").claim

    found = collections.Counter(
        hash_tag(claim(str(uuid.uuid4()))) for _ in range(4_000)
    )

    assert len(found) == TAGS
    assert max(found.values()) < 2 * min(found.values())


@given(st.text(max_size=128))
def test_a_field_has_no_separator_and_comes_back(text):
    field = to_field(text)

    assert not set(field) & set("; !\n")
    if not bounded_id(text).startswith("#"):
        assert from_field(field) == text


def test_keys_of_presence_share_a_hash_tag():
    until, reports = presence_keys("shop")

    assert hash_tag(until.encode()) == hash_tag(reports.encode())


def test_a_namespace_cannot_bring_its_own_hash_tag():
    with pytest.raises(ConfigError):
        ClaimKeys("{x}")
    with pytest.raises(ConfigError):
        presence_keys("a:b")

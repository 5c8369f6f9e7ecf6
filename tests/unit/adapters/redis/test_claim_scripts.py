"""Claims as text, and whatever else may lie at their keys."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from hypothesis import given, strategies as st

from shifter.adapters.redis.claim_scripts import (
    LETTER_STATE,
    decode_claim,
    decode_identity,
    encode_claim,
)
from shifter.model.claim import JobState
from shifter.model.fleet import MAX_COUNT, MAX_INSTANT_MS, MAX_LOAD
from shifter.model.time import MAX_DURATION_MS
from shifter.policy.delivery.claim_state import (
    FENCES_PER_MS,
    MAX_LEASE_MS,
    OTHER_JOB_RETRY_MS,
    RUNNING_GRACE_MS,
    Claim,
    is_sound,
)

whole = st.integers(0, MAX_COUNT)
instant = st.integers(0, MAX_INSTANT_MS)
names = st.text(max_size=100).filter(lambda text: not text.startswith("#"))
plain = st.builds(
    Claim,
    st.sampled_from(JobState),
    fence=whole,
    turn=whole,
    attempt=whole,
    losses=whole,
    lease_end_ms=instant,
    updated_ms=instant,
    cancel_keep_ms=st.just(0),
    op=st.just(""),
    owner=st.just(""),
    job_id=names,
)
running = st.builds(
    Claim,
    st.just(JobState.RUNNING),
    fence=whole,
    turn=whole,
    attempt=whole,
    losses=whole,
    lease_end_ms=instant,
    updated_ms=instant,
    cancel_keep_ms=st.integers(0, MAX_DURATION_MS),
    op=st.from_regex(r"[0-9a-f]{8}\.[0-9]{1,6}", fullmatch=True),
    owner=names.filter(str.isprintable),
    job_id=names,
)


def printable(claim):
    return claim.job_id.isprintable() and not set(claim.job_id) & set("{}")


@given(plain.filter(printable) | running.filter(printable))
def test_a_claim_comes_back_as_it_was_written_if_it_is_sound(claim):
    if set(claim.owner) & set("{}"):
        return
    wanted = claim if is_sound(claim) else None
    assert decode_claim(encode_claim(claim)) == wanted

    lease_end_ms = min(claim.lease_end_ms, claim.updated_ms + MAX_LEASE_MS)
    sound = claim._replace(lease_end_ms=lease_end_ms)
    assert decode_claim(encode_claim(sound)) == sound


@given(st.binary(max_size=200))
def test_any_bytes_are_a_claim_or_nothing(value):
    found = decode_claim(value)

    assert found is None or value.startswith(b"1")


@given(running.filter(printable), st.data())
def test_a_record_that_is_cut_off_within_its_numbers_is_nothing(claim, data):
    value = encode_claim(claim)
    numbers = [at.start() for at in re.finditer(b";", value)][6]
    cut = data.draw(st.integers(0, numbers))

    assert decode_claim(value[:cut]) is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"1p",
        b"1z1;1;1;0;0;0;0;;",
        b"2r1;1;1;0;0;0;0;;",
        b"1r-1;1;1;0;0;0;0;;",
        b"1r1.5;1;1;0;0;0;0;;",
        b"1r%d;1;1;0;0;0;0;;" % (2**53 - 1),
        b"1r1;1;" + b"9" * 5_000 + b";0;0;0;0;;",
        "1r\u0661;1;1;0;0;0;0;;".encode(),
    ],
)
def test_what_is_no_claim_counts_as_absent(value):
    assert decode_claim(value) is None


def test_a_pointer_names_an_identity_and_is_no_claim():
    value = b"1p" + "mail:\ud800;é".encode(errors="surrogatepass")

    assert decode_identity(value.removeprefix(b"1p")) == "mail:\ud800;é"
    assert decode_claim(value) is None
    assert decode_identity(b"\xff") is None


def test_scripts_and_rules_share_their_constants():
    def lua(name):
        folder = files("shifter.adapters.redis").joinpath("lua")
        return folder.joinpath(f"{name}.lua").read_text("utf-8")

    assert f"GRACE = {RUNNING_GRACE_MS} " in lua("access")
    assert f"MAX_LEASE, MAX_KEEP = {MAX_LEASE_MS}, {MAX_DURATION_MS} " in lua("record")
    bounds = f"MAX_LOAD = {MAX_COUNT}, {MAX_INSTANT_MS}, {MAX_LOAD:.0f}"
    assert bounds in lua("number")
    assert f"[rq{''.join(LETTER_STATE).removeprefix('r')}]" in lua("record")
    assert f"now * {FENCES_PER_MS}" in lua("claim")
    assert f"or {OTHER_JOB_RETRY_MS}," in lua("decide")

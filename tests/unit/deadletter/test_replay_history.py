"""The checker of replays can fail, in every way that a replay can be wrong."""

from __future__ import annotations

import pytest

from tests.acceptance.replay_history import Letter, Replay, content_of, faults

HEADERS = [("x-number", b"1")]
LETTERS = {
    name: Letter(name != "c", b"k", place, content_of(b"k", name.encode(), HEADERS))
    for place, name in enumerate("abcd")
}


def back(name: str, **changes) -> Replay:
    facts = {
        "of": name,
        "job": f"new-{name}",
        "key": b"k",
        "content": content_of(b"k", name.encode(), HEADERS),
    }
    return Replay(**{**facts, **changes})


GOOD = [back("a"), back("b"), back("d")]
RAN = ["new-a", "new-b", "new-d"]


def test_an_exact_replay_has_no_fault():
    assert faults(LETTERS, GOOD, RAN) == []


@pytest.mark.parametrize(
    ("replays", "ran", "kinds"),
    [
        (GOOD[:2], RAN[:2], {"lost"}),
        ([*GOOD, back("d")], RAN, {"twice"}),
        ([*GOOD, back("d", job="other")], [*RAN, "other"], {"twice"}),
        ([*GOOD, back("c")], [*RAN, "new-c"], {"unselected"}),
        ([*GOOD, back("x")], [*RAN, "new-x"], {"unselected"}),
        ([*GOOD[:2], back("d", content=content_of(b"k", b"d", []))], RAN, {"changed"}),
        ([GOOD[1], GOOD[0], GOOD[2]], RAN, {"disordered"}),
        (GOOD, RAN[:2], {"ran"}),
        (GOOD, [*RAN, "new-a"], {"ran"}),
        (GOOD, [*RAN, "new-z"], {"ran"}),
    ],
)
def test_each_kind_of_mistake_is_reported(replays, ran, kinds):
    assert {fault.split(":")[0] for fault in faults(LETTERS, replays, ran)} == kinds


def test_what_is_kept_is_key_payload_and_the_users_headers():
    whole = content_of(b"k", b"v", HEADERS)

    assert content_of(b"k", b"v", list(HEADERS)) == whole
    for other in ((None, b"v", HEADERS), (b"k", b"w", HEADERS), (b"k", b"v", [])):
        assert content_of(*other) != whole

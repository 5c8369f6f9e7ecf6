from __future__ import annotations

import binascii

import pytest

from shifter.policy.delivery.ack_map import AckMap
from shifter.policy.delivery.ack_metadata import MAX_CHARS, binding, decode, encode

BOUND = binding("shop.workers.low", "shop.mail.low", 3)


def delivered(count, *, position=100, done=()):
    acks = AckMap(position, done)
    acks.deliver(range(position, position + count))
    return acks


def text_of(ranges, *, position=100):
    return encode(ranges, binding=BOUND, position=position)


def read(metadata, *, bound=BOUND, position=100, high=1_000_000):
    return decode(metadata, binding=bound, position=position, high=high)


def sealed(body, *, position=100):
    """A text with a right checksum around any body."""
    seen = f"{BOUND}\n{position}\n".encode() + body
    raw = binascii.crc32(seen).to_bytes(4, "big") + body
    return "s1" + binascii.b2a_base64(raw, newline=False).decode()


class TestFrontier:
    def test_it_waits_for_the_lowest_open_record(self):
        acks = delivered(5)

        acks.settle_many([101, 102, 104])

        assert acks.frontier == 100
        assert acks.ahead() == [(101, 103), (104, 105)]

    def test_it_passes_everything_that_ended_without_a_hole(self):
        acks = delivered(5)
        acks.settle_many([101, 102, 104])

        acks.settle_many([100])

        assert acks.frontier == 103
        assert acks.ahead() == [(104, 105)]
        assert (len(acks), acks.open_count) == (2, 1)

    def test_it_is_the_position_when_nothing_is_open(self):
        acks = delivered(5)

        acks.settle_many(range(104, 99, -1))

        assert acks.frontier == acks.position == 105
        assert acks.ahead() == []

    def test_gaps_of_the_log_hold_nothing_back(self):
        acks = AckMap(0)
        acks.deliver([3, 9, 20])

        acks.settle_many([3, 20])

        assert acks.frontier == 9
        assert acks.ahead() == [(20, 21)]

    def test_a_gap_between_ended_records_is_part_of_their_range(self):
        acks = AckMap(0)
        acks.deliver([1, 4, 8, 9])

        acks.settle_many([4, 8])

        assert acks.ahead() == [(4, 9)]

    def test_a_gap_at_the_end_is_passed_once_it_is_known(self):
        acks = delivered(2)
        acks.settle_many([100, 101])

        acks.reach(110)

        assert acks.frontier == acks.position == 110

    def test_reaching_what_lies_behind_changes_nothing(self):
        acks = delivered(5)

        acks.reach(50)

        assert (acks.position, acks.frontier) == (105, 100)

    def test_settling_twice_or_what_was_never_delivered_changes_nothing(self):
        acks = delivered(3)
        acks.settle_many([100])

        acks.settle_many([100, 50, 200])

        assert (acks.frontier, len(acks), acks.open_count) == (101, 2, 2)


class TestRestoring:
    def test_what_ended_under_an_earlier_owner_is_not_handed_out(self):
        acks = AckMap(100, [(101, 103), (104, 106)])

        fresh = acks.deliver(range(100, 108))

        assert list(fresh) == [100, 103, 106, 107]
        assert not acks.is_restoring

    def test_it_is_still_known_before_it_is_met_again(self):
        acks = AckMap(100, [(101, 103), (110, 120)])

        acks.deliver([100, 101, 102, 103])
        acks.settle_many([103])

        assert acks.ahead() == [(101, 104), (110, 120)]

    def test_a_range_met_in_the_middle_is_one_range(self):
        acks = AckMap(100, [(101, 110)])

        assert list(acks.deliver([100, 101, 102])) == [100]

        assert acks.ahead() == [(101, 110)]
        assert acks.is_restoring

    def test_records_that_ended_at_the_frontier_are_passed_when_met(self):
        acks = AckMap(100, [(100, 103)])

        assert list(acks.deliver([100, 101, 102])) == []

        assert acks.frontier == 103

    def test_a_range_that_the_log_no_longer_holds_is_forgotten(self):
        acks = AckMap(100, [(101, 110), (120, 130)])

        acks.reach(125)

        assert acks.ahead() == [(125, 130)]
        assert list(acks.deliver([126, 130])) == [130]


class TestText:
    def test_nothing_ahead_is_no_text(self):
        assert text_of([]) == ""
        assert read("") == read(None) == []

    @pytest.mark.parametrize(
        "ranges",
        [
            [(101, 102)],
            [(100, 101), (5_000, 9_999)],
            [(101, 10_100)],
            [(n, n + 1) for n in range(101, 10_100, 2)],
            [(101, 102), (900_000, 1_000_000)],
        ],
        ids=["one", "from the position", "long", "every other", "far"],
    )
    def test_what_was_written_is_read(self, ranges):
        text = text_of(ranges)

        assert read(text) == ranges
        assert text.isascii()
        assert len(text) <= MAX_CHARS

    def test_a_full_window_fits_whatever_its_pattern(self):
        every_other = [(n, n + 1) for n in range(101, 23_900, 2)]

        assert read(text_of(every_other)) == every_other

    def test_what_does_not_fit_is_left_out_from_the_far_end(self):
        every_other = [(n, n + 1) for n in range(101, 60_000, 2)]

        text = text_of(every_other)

        assert len(text) <= MAX_CHARS
        found = read(text)
        assert found == every_other[: len(found)]
        assert len(found) > 11_900

    def test_a_text_fits_where_runs_are_shorter_than_bits_and_still_too_long(self):
        scattered = [(n, n + 1) for n in range(101, 300_000, 50)]

        text = text_of(scattered)

        assert len(text) <= MAX_CHARS
        assert read(text) == scattered[: len(read(text))]

    def test_the_shorter_form_is_taken(self):
        assert len(text_of([(101, 10_000)])) < 20
        assert len(text_of([(n, n + 1) for n in range(101, 2_900, 2)])) < 500

    def test_a_text_longer_than_the_broker_takes_is_not_looked_into(self):
        assert read(sealed(b"b" + b"\xff" * 3_050)) != []
        assert read(sealed(b"b" + b"\xff" * 3_100)) == []

    @pytest.mark.parametrize(
        "change",
        [
            {"bound": binding("shop.workers.low", "shop.mail.low", 4)},
            {"bound": binding("shop.workers.low", "shop.sms.low", 3)},
            {"bound": binding("other", "shop.mail.low", 3)},
            {"position": 99},
            {"high": 109},
        ],
        ids=["partition", "topic", "group", "position", "beyond the log"],
    )
    def test_a_text_of_another_partition_or_group_is_ignored(self, change):
        text = text_of([(101, 110)])
        assert read(text, high=110) == [(101, 110)]

        assert read(text, **change) == []

    @pytest.mark.parametrize(
        "text",
        [
            "1",
            "s1",
            "s1====",
            "s1AAAA",
            "s2" + text_of([(101, 110)])[2:],
            text_of([(101, 110)])[:-1],
            text_of([(101, 110)]) + "A",
            text_of([(101, 110)]) + "\n",
            "s1é",
            "s1\ud800",
            "s1" + "A" * 4_095,
            sealed(b""),
            sealed(b"x\x01\x01"),
            sealed(b"r"),
            sealed(b"r\x01"),
            sealed(b"r\x01\x00"),
            sealed(b"r\x01\x01\x81"),
            sealed(b"r\x01" + b"\xff" * 8 + b"\x7f"),
            sealed(b"r\x01\xff\xff\xff\xff\x07"),
            sealed(b"b"),
            sealed(b"b" + bytes(50)),
            sealed(b"b" + b"\xff" * 200_000),
        ],
        ids=str,
    )
    def test_a_doubtful_text_is_ignored(self, text):
        assert read(text) == []

    def test_a_run_of_two_thousand_million_beyond_the_log_is_ignored(self):
        """Structurally valid, and once known to move a frontier by 2**31."""
        body = b"r\x01\xff\xff\xff\xff\x07"

        assert read(sealed(body), high=2**40) == [(101, 101 + 2**31 - 1)]
        assert read(sealed(body), high=2**31) == []

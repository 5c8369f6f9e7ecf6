"""What has to hold of a row, by hand and through a live worker."""

from __future__ import annotations

from shifter.model.reason import Reason
from shifter.wire.dead_letter import HEADERS_DROPPED, DeadLetterInfo, header_name
from shifter.wire.headers import Headers
from tests.bad_inputs.catalogue import NOW, Other, Row
from tests.bad_inputs.decode import decode
from tests.bad_inputs.live import Letter, Life

OURS = {header_name(field) for field in DeadLetterInfo.__struct_fields__}
TOO_LARGE = {"kafka": "MSG_SIZE_TOO_LARGE", "sqlite": Reason.TOO_LARGE}


def check_decoded(row: Row) -> None:
    """The reader of records decides as the row says."""
    # Of a record with a name that is no text the client can read no header at all.
    headers = row.headers if _is_text(row.headers) else [("\ufffd", None)]

    found = decode(headers, row.value, NOW)

    refusal = found.refusal
    if refusal is not None:
        assert refusal.reason == row.end or row.end is Other.TOO_LARGE
        assert refusal.detail.isprintable()
        assert 0 < len(refusal.detail) <= 300
    else:
        assert isinstance(row.end, Other)
        assert found.read.traceparent is None
        assert not [n for n, _ in found.read.extra if n.startswith("shifter")]


def check_lived(row: Row, life: Life, log: str) -> None:
    """A live worker ended the record as the row says, once."""
    if not _is_text(row.headers) and log == "sqlite":
        assert life == Life(Reason.REFUSED_BY_LOG, [], [])
    elif row.end is Other.TOO_LARGE:
        assert life == Life(TOO_LARGE[log], [], [])
    elif row.end is Other.RUN:
        assert (len(life.runs), life.letters) == (1, [])
    elif row.end is Other.EXPIRED:
        assert (life.runs, life.letters) == ([], [])
    else:
        assert life.runs == []
        [letter] = life.letters
        assert letter.info.reason == row.end
        assert letter.record.value == (row.value or b"")
        _check_kept(row.own_headers(), letter)


def _check_kept(original: Headers, letter: Letter) -> None:
    """Headers are as they were; where there is no room for all, how many is said."""
    kept = [header for header in letter.record.headers if header[0] not in OURS]
    if not _is_text(original):
        # The client cannot read them.
        assert kept == [("\ufffd", None)]
        return
    dropped = [value for name, value in kept if name == HEADERS_DROPPED]
    if dropped:
        kept = [header for header in kept if header[0] != HEADERS_DROPPED]
        assert len(kept) + int(dropped[0]) == len(original)
        assert all(header in original for header in kept)
    else:
        assert kept == original


def _is_text(headers: Headers) -> bool:
    return all(name.isprintable() or "\udcff" not in name for name, _ in headers)

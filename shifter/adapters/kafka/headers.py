"""A record's headers, as far as the client can read them.

Kafka lets any bytes be a header's name. The client makes text of a name, and where the
bytes are no UTF-8 it returns headers *and* leaves an exception behind (seen with 2.16).
One such record would end every worker that reads it, one after the other.
"""

from __future__ import annotations

from operator import methodcaller
from typing import Final

from confluent_kafka import Message

from shifter.wire.headers import Headers

UNREADABLE: Final = "\ufffd"
"""The one name of a record's headers that cannot be read.

No reader of envelopes accepts it, so that the record becomes a dead letter that shows
why. Its own headers stay in the record it was made of.
"""

# Not `message.headers()`: once a call is hot the interpreter no longer looks whether an
# exception was left behind, and whatever is called next fails of it.
_read: Final = methodcaller("headers")


def headers_of(message: Message) -> Headers:
    """Names and values as written; none is an empty list. Never raises."""
    try:
        return _read(message) or []
    except (SystemError, UnicodeDecodeError):
        return [(UNREADABLE, None)]

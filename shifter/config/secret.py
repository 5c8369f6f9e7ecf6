"""Text that must not be shown: passwords, and the URLs that carry them.

Not a ``str`` on purpose: joining, logging or encoding one by accident gives the mask,
and only `Secret.reveal`, which is easy to search for, gives the text.
"""

from __future__ import annotations

import re
from typing import Final, Self

MASK: Final = "***"

_HARMLESS: Final = frozenset(
    {
        "client.id",
        "client.rack",
        "db",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.username",
        "security.protocol",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
    }
)
# Strict on purpose: a URL that does not look like one is masked as a whole, since a
# password with an unescaped '/', '#' or '@' would else show its tail as a host name.
_URL: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+]*)://"
    r"(?:(?P<user>[^:@/?#\s]*)(?::(?P<password>[^@/?#\s]*))?@)?"
    r"(?P<hosts>[^@/?#\s]*)(?P<path>/[^@?#\s]*)?(?:\?(?P<query>[^@#\s]*))?\Z"
)
# A port has digits only; anything else behind a colon may be a password.
_HOST: Final = re.compile(
    r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9][A-Za-z0-9._-]*)(?::[0-9]{1,5})?\Z"
)


class Secret:
    """A text whose ``str`` and ``repr`` show a mask. Immutable, picklable.

    Args:
        text: What is to be kept.
        mask: What is shown instead.
    """

    __slots__ = ("_mask", "_text")

    def __init__(self, text: str, *, mask: str = MASK) -> None:
        self._text, self._mask = text, mask

    @classmethod
    def of_url(cls, url: str) -> Self:
        """A URL that shows its scheme and hosts, and masks its credentials."""
        return cls(url, mask=mask_url(url))

    @classmethod
    def of_property(cls, name: str, text: str) -> Self:
        """A client property, masked unless its name is known to be harmless."""
        return cls(text, mask=text if _is_harmless(name) else MASK)

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __str__(self) -> str:
        return self._mask

    def __repr__(self) -> str:
        return f"Secret({self._mask!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))


def mask_url(url: str) -> str:
    """The URL without anything that may be a credential.

    Query values are masked unless their name is known to be harmless.

    >>> mask_url("redis://app:hunter2@cache:6379/0")
    'redis://app:***@cache:6379/0'
    >>> mask_url("kafka://b1,b2/?security_protocol=SASL_SSL&sasl_password=hunter2")
    'kafka://b1,b2/?security_protocol=SASL_SSL&sasl_password=***'
    >>> mask_url("redis://app:hunter/2@cache"), mask_url("hunter2")
    ('redis://***', '***')
    >>> mask_url("redis://:hunter2cache"), mask_url("redis://hunter2@cache")
    ('redis://***', 'redis://***@cache')
    """
    match = _URL.match(url)
    if match is None or not _are_hosts(match["hosts"]):
        scheme = re.match(r"[a-z][a-z0-9+]{0,20}://", url)
        return f"{scheme[0]}{MASK}" if scheme else MASK
    user, password, query = match["user"], match["password"], match["query"]
    login = ""
    if user is not None:
        # A name without a password is often a password without its colon.
        login = f"{MASK}@" if password is None else f"{user}:{MASK}@"
    shown = f"{match['scheme']}://{login}{match['hosts']}{match['path'] or ''}"
    if query:
        shown += "?" + "&".join(_mask_pair(pair) for pair in query.split("&"))
    return shown


def _are_hosts(text: str) -> bool:
    """Whether what stands for hosts is some: with a forgotten '@' it is a password."""
    return not text or all(_HOST.match(host) for host in text.split(","))


def _mask_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    if not equals:
        return MASK
    return pair if _is_harmless(name) else f"{name}={MASK}"


def _is_harmless(name: str) -> bool:
    return name.replace("_", ".") in _HARMLESS

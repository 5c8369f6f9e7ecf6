"""Asks name servers for SRV records and addresses, by dnspython.

Needs the extra ``dns``. The records of a name are asked for with the servers, search
domains and timeouts of ``/etc/resolv.conf``, or from the name server that `Dns` names.

A record's priority and port are its endpoints'. Its weight is scaled so that the
largest of a priority is 1, and shared by the addresses of its target. A target whose
name cannot be resolved is left out. Source: RFC 2782.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

import dns.resolver

from shifter.balance.resolver import Resolve, addresses_of
from shifter.model.endpoint import Dns, Endpoint

_ANSWER_S: Final = 5.0
"""Longest time for one answer, all servers and retries together: the first timeout of
the system's resolver."""

_LEAST_WEIGHT: Final = 0.001
"""Of a record with weight 0 beside others: RFC 2782 wants "a very small chance"."""


def find(asked: Dns, resolve: Resolve) -> list[Endpoint]:
    """Look up the endpoints of a name; blocks for seconds at most.

    Args:
        asked: The name.
        resolve: Asks the system for the addresses of targets, unless the name has a
            name server.

    Raises:
        Exception: What dnspython raises if there is no answer.
    """
    client = _Client(asked, resolve)
    if asked.kind == "address":
        return [asked.endpoint(one) for one in sorted(client.addresses_of(asked.named))]
    by_priority: dict[int, list[Any]] = defaultdict(list)
    for record in client.ask(asked.named.host, "SRV"):
        if record.port and str(record.target) != ".":  # no such service
            by_priority[record.priority].append(record)
    found: list[Endpoint] = []
    for priority, records in sorted(by_priority.items()):
        largest = max(record.weight for record in records)
        for record in sorted(records, key=lambda one: (str(one.target), one.port)):
            share = max(record.weight / largest, _LEAST_WEIGHT) if largest else 1.0
            found += client.endpoints(record, priority, share)
    if by_priority and not found:
        raise OSError("no target of its SRV records has an address")
    return found


class _Client:
    def __init__(self, asked: Dns, resolve: Resolve) -> None:
        self._asked, self._resolve = asked, resolve
        self._client = dns.resolver.Resolver(configure=asked.nameserver is None)
        if asked.nameserver is not None:
            server = Endpoint(asked.nameserver)
            self._client.nameservers = [server.host]
            self._client.port = server.port

    def ask(self, name: str, kind: str) -> list[Any]:
        search = self._asked.nameserver is None
        return list(self._client.resolve(name, kind, lifetime=_ANSWER_S, search=search))

    def endpoints(self, record: Any, priority: int, share: float) -> list[Endpoint]:
        """The endpoints of one record; none if its target has no address."""
        target = record.target.to_text(omit_final_dot=True)
        try:
            addresses = self.addresses_of(Endpoint(f"http://{target}:{record.port}"))
        except (OSError, dns.exception.DNSException):
            return []
        return [
            self._asked.endpoint(
                address,
                record.port,
                server_name=target,
                weight=share / len(addresses),
                priority=priority,
            )
            for address in sorted(addresses)
        ]

    def addresses_of(self, named: Endpoint) -> list[str]:
        """The addresses of a host.

        Raises:
            OSError: It cannot be resolved.
            dns.exception.DNSException: The name server has no answer.
        """
        if self._asked.nameserver is None:
            return addresses_of(self._resolve(named.host, named.port))
        answers = self._client.resolve_name(named.host, lifetime=_ANSWER_S)
        return list(answers.addresses())

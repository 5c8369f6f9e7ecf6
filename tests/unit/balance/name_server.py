"""A name server on loopback: answers from a table, or not at all."""

from __future__ import annotations

import socket
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


class NameServer:
    """Serves a zone over UDP while a block runs.

    Attributes:
        zone: Texts of records, by name and kind, such as ``("a.test.", "A")``.
        is_silent: Whether questions get no answer.
        asked: The names and kinds that were asked for.
    """

    def __init__(self, zone):
        self.zone, self.is_silent, self.asked = zone, False, []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self):
        while True:
            data, client = self._socket.recvfrom(4_096)
            if not data:
                return
            question = dns.message.from_wire(data)
            if not self.is_silent:
                answer = self._answer(question).to_wire()
                self._socket.sendto(answer, client)

    def _answer(self, question):
        [asked] = question.question
        name, kind = asked.name.to_text(), dns.rdatatype.to_text(asked.rdtype)
        self.asked.append((name, kind))
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.AA | dns.flags.RA
        if records := self.zone.get((name, kind)):
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *records))
        elif name not in {known for known, _ in self.zone}:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer

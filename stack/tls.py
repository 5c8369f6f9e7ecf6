"""A certificate authority and a server certificate for localhost, made at run time."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificates(NamedTuple):
    """Files of one throw-away authority.

    Attributes:
        ca_cert: What clients trust.
        server_cert: For localhost and 127.0.0.1.
        server_key: Its key.
        server_pem: Key, certificate and authority in one file, as Kafka wants it.
    """

    ca_cert: Path
    server_cert: Path
    server_key: Path
    server_pem: Path


def make_certificates(folder: Path, *, name: str = "test-ca") -> Certificates:
    """Make an authority and a server certificate, valid for 30 days."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Certificates(
        *(
            folder / part
            for part in ("ca.crt", "server.crt", "server.key", "server.pem")
        )
    )
    ca_key, request = folder / "ca.key", folder / "server.csr"
    extension = folder / "server.ext"
    extension.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    _openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"),
        *("-keyout", ca_key, "-out", files.ca_cert, "-subj", f"/CN={name}"),
    )
    _openssl(
        *("req", "-newkey", "rsa:2048", "-nodes", "-keyout", files.server_key),
        *("-out", request, "-subj", "/CN=localhost"),
    )
    _openssl(
        *("x509", "-req", "-in", request, "-CA", files.ca_cert, "-CAkey", ca_key),
        *("-CAcreateserial", "-days", "30", "-out", files.server_cert),
        *("-extfile", extension),
    )
    parts = (files.server_key, files.server_cert, files.ca_cert)
    files.server_pem.write_text("".join(part.read_text() for part in parts))
    return files


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

"""Calls to one of several endpoints of a dependency.

``app.dependency("render", endpoints=["10.0.0.1:8080", "10.0.0.2:8080"])`` declares
them; see `shifter.api.dependency.BoundDependency`. An `Endpoint` has a weight and a
zone, and `Dns` stands for the addresses of a name. `remaining_s` is the time that the
try under way has left, for clients that take a timeout. `HttpCheck`, `TcpCheck` and
`GrpcCheck` are health checks for ``health=``. `shifter.balance.http` has transports for
httpx.
"""

from __future__ import annotations

from shifter.balance.tries import remaining_s
from shifter.model.endpoint import Dns, Endpoint
from shifter.model.health_check import GrpcCheck, HttpCheck, TcpCheck

__all__ = ["Dns", "Endpoint", "GrpcCheck", "HttpCheck", "TcpCheck", "remaining_s"]

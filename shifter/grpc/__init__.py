"""Admission for gRPC services and their callers.

    server = grpc.aio.server(interceptors=[AdmissionInterceptor(app)])
    channel = grpc.aio.insecure_channel(target, interceptors=calling(app))

    server = grpc.server(threads, interceptors=[AdmissionInterceptor(app)])
    channel = grpc.intercept_channel(grpc.insecure_channel(target), *calling(app))

Calls to one of several servers: `AsyncBalancedChannel` and `BalancedChannel`.

Needs the extra ``grpc``.
"""

from __future__ import annotations

from shifter.grpc.balanced import AsyncBalancedChannel, BalancedChannel
from shifter.grpc.client import calling, heed
from shifter.grpc.server import AdmissionInterceptor

__all__ = [
    "AdmissionInterceptor",
    "AsyncBalancedChannel",
    "BalancedChannel",
    "calling",
    "heed",
]

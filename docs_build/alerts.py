"""The alerts as a resource of the Prometheus operator."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_RULES: Final = (
    Path(__file__).parents[1] / "deploy" / "prometheus" / "shifter.rules.yml"
)
_HEAD: Final = """\
# Made from deploy/prometheus/shifter.rules.yml by `make reference`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: shifter
  labels:
    app.kubernetes.io/part-of: shifter
spec:
"""


def resource() -> str:
    """A ``PrometheusRule`` with the groups of the published rules."""
    _, start, groups = _RULES.read_text("utf-8").partition("\ngroups:\n")
    lines = (start.lstrip() + groups).splitlines()
    return _HEAD + "".join(f"  {line}".rstrip() + "\n" for line in lines)

"""Integration with monitoring systems: Prometheus metrics and OpenTelemetry spans.

Both are optional: ``pip install ".[prometheus,opentelemetry]"`` in a checkout.
``ServerMonitor`` and ``ClientMonitor`` need neither.
"""

from ._prometheus import Metrics, MetricsEndpoint
from ._tracing import Tracing

__all__ = ["Metrics", "MetricsEndpoint", "Tracing"]

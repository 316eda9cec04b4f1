"""The live page, /healthz and /metrics: a run as a browser and a monitoring system see it."""

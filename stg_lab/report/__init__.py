"""Recordings as one interactive page that works offline, for whoever has neither the lab nor a kernel."""

from stg_lab.report.sources import open_any
from stg_lab.report.write import report, write_report

__all__ = ["open_any", "report", "write_report"]

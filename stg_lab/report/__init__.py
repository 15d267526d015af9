"""A run as one interactive page that works offline, for whoever has neither the lab nor a kernel."""

from stg_lab.report.write import write_report

__all__ = ["write_report"]

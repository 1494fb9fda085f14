"""Numbers to pictures and pages."""

from retrograd.report.page import RunReport, write_report

__all__ = ["RunReport", "write_report"]

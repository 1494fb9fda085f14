"""Numbers to pictures and pages."""

from retrograd.report.page import RunReport, SystemReport, write_report

__all__ = ["RunReport", "SystemReport", "write_report"]

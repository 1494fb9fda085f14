"""Numbers to pictures and pages."""

from retrograd.report.page import (
    ComparisonReport,
    RunReport,
    SystemReport,
    TextTable,
    write_comparison,
    write_report,
)

__all__ = ["ComparisonReport", "RunReport", "SystemReport", "TextTable", "write_comparison", "write_report"]

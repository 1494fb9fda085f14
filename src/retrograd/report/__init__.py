"""Numbers to pages: what a page says is in plain records, which one module renders."""

from retrograd.report.comparison import ComparisonReport, write_comparison
from retrograd.report.content import TextTable, plural
from retrograd.report.run import RunReport, write_report
from retrograd.report.system import SystemReport

__all__ = ["ComparisonReport", "RunReport", "SystemReport", "TextTable", "plural", "write_comparison", "write_report"]

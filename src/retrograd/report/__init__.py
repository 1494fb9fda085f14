"""Numbers to pages: what a page says is in plain records, which one module renders."""

from retrograd.report.comparison import ComparisonReport, write_comparison
from retrograd.report.content import TextTable, plural
from retrograd.report.goodness import Goodness
from retrograd.report.run import RunReport, write_report
from retrograd.report.story import Story
from retrograd.report.system import SystemReport

__all__ = [
    "ComparisonReport",
    "Goodness",
    "RunReport",
    "Story",
    "SystemReport",
    "TextTable",
    "plural",
    "write_comparison",
    "write_report",
]

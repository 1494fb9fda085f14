"""`retrograd explain`: backpropagation through time on numbers that can be read, as text and as a page."""

from retrograd.report.explain.lesson import LOSSES, Lesson, Walk
from retrograd.report.explain.page import render
from retrograd.report.explain.plain import tell
from retrograd.report.explain.texts import LANGUAGES

__all__ = ["LANGUAGES", "LOSSES", "Lesson", "Walk", "render", "tell"]

"""The words of the lesson, in English and Chinese. A text is a field of :class:`Texts`, in each."""

from __future__ import annotations

from retrograd.report.explain.chinese import CHINESE
from retrograd.report.explain.words import Texts, fill

__all__ = ["LANGUAGES", "Texts", "fill"]

LANGUAGES = {"en": Texts(), "zh": CHINESE}

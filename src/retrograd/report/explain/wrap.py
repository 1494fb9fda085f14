"""Prose in lines of a terminal's width, in English and in Chinese, which has no spaces to break at."""

from __future__ import annotations

import re

__all__ = ["wrap"]

_WIDE = r"\u3000-\u303f\u4e00-\u9fff\uff00-\uffef"
_WORD = rf"[^\s{_WIDE}]+"
_SYMBOL = rf"\(*(?:[∂δΣεθ]|[A-Za-z]_)[^\s{_WIDE}]*"
_TERM = rf"(?:{_SYMBOL}(?: {_SYMBOL})*|{_WORD})"
# A piece stays on one line: a formula, a word or a Chinese character, each with its punctuation.
_PIECE = re.compile(rf"[（]*(?:{_TERM}(?: [=−+/←…] {_TERM})*|[{_WIDE}])[，。：；、）！？]*\s*")


def wrap(text: str, width: int) -> list[str]:
    """Return lines of at most ``width`` columns, of which a Chinese character takes two.

    >>> print(*wrap("δ_t is the gradient of h_t: L(θ + s) − L(θ − s)", 20), sep=chr(10))
    δ_t is the gradient
    of h_t:
    L(θ + s) − L(θ − s)
    >>> print(*wrap("输入就是上一步的输出，x_t = y_{t-1}。", 20), sep=chr(10))
    输入就是上一步的输
    出，x_t = y_{t-1}。
    """
    from rich.cells import cell_len

    lines = [""]
    for piece in _PIECE.findall(text):
        if lines[-1] and cell_len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]

"""A page that shows a training while it goes on, on this machine alone."""

from retrograd.report.live.pictures import Pictures
from retrograd.report.live.terminal import keep_serving
from retrograd.report.live.view import LiveView

__all__ = ["LiveView", "Pictures", "keep_serving"]

"""Drawings as inline SVG: text stays text, ink takes the page's colour, and no id meets that of another drawing."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Sequence
from typing import Any

from graftsim.experiments import figures

INK = "#010203"
"""What is drawn in this colour is drawn in the page's own, light or dark."""
PALETTE = figures.COLORS[:6]
"""Without black, which dark paper would swallow."""
DASHES = figures.STYLES
STYLE = {
    **figures.STYLE,
    "svg.fonttype": "none",
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "grid.alpha": 0.25,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
}
_numbers = itertools.count(1)


class Drawing:
    """A figure of ``columns`` axes side by side, drawn on in a ``with`` block; afterwards ``svg`` is its text."""

    def __init__(self, columns: int = 1, height: float = 2.9, width: float | None = None) -> None:
        self._shape = (columns, height, width or (4.6 if columns == 1 else 3.9 * columns))
        self.svg = ""

    def __enter__(self) -> Sequence[Any]:
        import matplotlib as mpl
        from matplotlib.figure import Figure

        columns, height, width = self._shape
        self._style = mpl.rc_context(STYLE)
        self._style.__enter__()
        self._figure = Figure(figsize=(width, height), layout="constrained")
        axes: Sequence[Any] = self._figure.subplots(1, columns, squeeze=False)[0]
        return axes

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                self.svg = _inline(self._figure)
        finally:
            self._style.__exit__(kind, error, trace)


def _inline(figure: Any) -> str:
    """The SVG element alone, which scales with its place."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->|<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    width = re.search(r'width="([0-9.]+)pt"', text)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"| (width|height)="[0-9.]+pt"| version="1.1"', "", text)
    prefix = f"p{next(_numbers)}-"
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'(xlink:)?href="#', f'href="#{prefix}', text).replace("url(#", f"url(#{prefix}")
    text = (
        re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text).replace(INK, "currentColor").replace("#000000", "currentColor")
    )
    largest = float(width[1]) * 4 / 3 if width else 640
    return text.replace("<svg ", f'<svg role="img" style="max-width: {largest:.0f}px" ', 1).rstrip()


def by_steps(axis: Any, y: str, title: str = "", log: bool = True) -> None:
    """Axes of curves over steps."""
    axis.set(xlabel="step", ylabel=y)
    if title:
        axis.set_title(title)
    if log:
        axis.set_yscale("log")

"""The style of all figures, and their conversion for a page."""

from __future__ import annotations

import functools
import io
import itertools
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec

import matplotlib
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import wording
from analysis.wording import Row

# Okabe & Ito's palette, distinguishable with common colour blindness; without its yellow, too pale on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
BASELINE_COLOUR = "#000000"
# Line style and marker change with the colour, so methods stay distinguishable in grey.
LineStyle = str | tuple[int, tuple[int, ...]]
LINE_STYLES: tuple[LineStyle, ...] = ("--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2, 1, 2)))
MARKERS = ("s", "^", "D", "v", "P", "X")
GREY = "#9a9a9a"
INK = "#333333"
RULE = "#dddddd"
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # A dollar sign in a configuration does not start a formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
    # A fixed salt, so that the same curves give the same file.
    "svg.hashsalt": "kdas-sweeps",
}
# More lines are indistinguishable and make the page slow.
MOST_DRAWN = 300
# Of a legend: the height of a line in inches, and how many lines the figures have room for.
_LEGEND_LINE, _USUAL_LINES = 0.185, 3
_TAG = "config:"
Drawing = ParamSpec("Drawing")
Look = tuple[str, LineStyle, str]


def styled(draw: Callable[Drawing, Figure]) -> Callable[Drawing, Figure]:
    """Draw in this project's style, whatever the caller's settings are."""

    @functools.wraps(draw)
    def drawn(*args: Drawing.args, **kwargs: Drawing.kwargs) -> Figure:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


def looks(methods: Iterable[str], baseline: str) -> Mapping[str, Look]:
    """Colour, line style and marker of each method, the same in all figures; the baseline is solid black.

    Args: methods: in the order in which looks are assigned.
    """
    free = itertools.cycle(zip(COLOURS, LINE_STYLES, MARKERS, strict=True))
    others = [method for method in dict.fromkeys(methods) if method != baseline]
    return {baseline: (BASELINE_COLOUR, "-", "o")} | {method: next(free) for method in others}


def tagged(config_id: str) -> str:
    """The id of a configuration's artists, by which a page finds them."""
    return f"{_TAG}{config_id}"


def label(row: Row, width: int = 44, time: str = "") -> str:
    """A configuration's name in a legend, wrapped, with its phase if that is not the deciding one."""
    seeds = "" if row["decides"] else f"{row['phase']} seeds"
    return textwrap.fill(", ".join(filter(None, (plain(wording.setting(row)), seeds, time))), width=width)


def plain(text: str, longest: int = 200) -> str:
    """Text for a figure: on one line, cut to the given length."""
    line = "".join(each if each.isprintable() else " " for each in text)
    return line if len(line) <= longest else line[: longest - 1] + "…"


def logarithmic(axes: Axes, which: str) -> None:
    """Make an axis logarithmic with plain numbers, if there are values above 0. Args: which: "x" or "y"."""
    low, high = axes.dataLim.intervalx if which == "x" else axes.dataLim.intervaly
    least = axes.dataLim.minposx if which == "x" else axes.dataLim.minposy
    if not (math.isfinite(least) and math.isfinite(low) and math.isfinite(high) and high > 0):
        return
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def legend_below(figure: Figure, ncols: int, title: str | None = None) -> None:
    """Put the legend below the axes. What is longer than usual makes the figure higher, not the axes smaller."""
    legend = figure.legend(
        title=title, loc="outside lower center", ncols=ncols, fontsize=8, title_fontsize=8, frameon=False
    )
    lines = [text.get_text().count("\n") + 1 for text in legend.get_texts()]
    num_rows = -(-len(lines) // ncols)
    longest = max((sum(lines[first : first + num_rows]) for first in range(0, len(lines), num_rows)), default=0)
    figure.set_figheight(figure.get_figheight() + _LEGEND_LINE * max(0, longest - _USUAL_LINES))


def not_all(number: int) -> str:
    """A title's note if not all configurations are drawn."""
    return f"; {MOST_DRAWN} of {number:,} drawn" if number > MOST_DRAWN else ""


def empty(text: str) -> Figure:
    """A figure that says why there is nothing to show."""
    figure = Figure(figsize=(7.6, 1.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.text(0.5, 0.5, textwrap.fill(text, 90), ha="center", va="center", color="#666666")
    return figure


def to_svg(figure: Figure, name: str = "figure") -> str:
    """The figure as an <svg> element for an HTML page, without XML header, metadata or links.

    Artists marked by `tagged` get the attribute `data-config`.

    Args: name: prefix of all ids, which keeps them unique on a page with several figures.
    """
    written = io.StringIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # Text stays text: the page uses the reader's fonts, so missing glyphs do not matter here.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = written.getvalue()

    def marked(tag: re.Match[str]) -> str:
        text = re.sub(rf'\bid="{_TAG}([^"]*)"', r'data-config="\1"', tag.group())
        return re.sub(r'(\bid="|url\(#|href="#)', rf"\1{name}-", text)

    return re.sub(r"<[^>]*>", marked, svg[svg.index("<svg") :])

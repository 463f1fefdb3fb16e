"""Draws rooms.svg beside itself: the rooms of each package and who imports whom, as the source has it.

    .venv/bin/python docs/pictures/rooms.py

Draw it again when tests/test_rooms_picture.py says that the source has changed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import grimp
import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

PICTURE = Path(__file__).with_suffix(".svg")
PACKAGES = ("kdas", "sweeps", "analysis")
# Libraries that a reader looks for; a box names those that its room imports.
LIBRARIES = {"ray": "Ray", "mlflow": "MLflow", "optuna": "Optuna"}

# A unit is a point: 1/72 inch.
WIDTH, HEIGHT, GAP_X, GAP_Y = 84.0, 27.0, 9.0, 22.0
MARGIN, TITLE, BETWEEN = 12.0, 18.0, 30.0
# Up to this many rooms of kdas are named beside the arrow that leads to it.
MOST_NAMED = 3
FILLS = {"kdas": "#DCEBF7", "sweeps": "#FCE8D5", "analysis": "#DDF1E4"}
# An opaque ground, so that the picture reads the same on a dark page.
GROUND, INK, LINE = "#FFFFFF", "#1B1B1B", "#5A6570"

Arrow = tuple[str, str]


@dataclass(frozen=True)
class Rooms:
    """The rooms of one package, each by its short name.

    `imports`: of each room, the rooms of its package that it imports; `libraries`: those of `LIBRARIES` it imports;
    `outside`: what the package as a whole imports from other packages, as `package.room`.
    """

    package: str
    imports: Mapping[str, frozenset[str]]
    libraries: Mapping[str, tuple[str, ...]]
    outside: frozenset[str]

    @cached_property
    def levels(self) -> dict[str, int]:
        """Of each room: 0 where it imports no other one, else one more than the highest that it imports.

        Raises: ValueError: where rooms import each other in a circle.
        """
        levels: dict[str, int] = {}
        while len(levels) < len(self.imports):
            ready = {room for room, below in self.imports.items() if room not in levels and below <= levels.keys()}
            if not ready:
                raise ValueError(f"{self.package}: {sorted(self.imports.keys() - levels)} import each other")
            levels |= {room: max((levels[each] + 1 for each in self.imports[room]), default=0) for room in ready}
        return levels

    @cached_property
    def reached(self) -> dict[str, frozenset[str]]:
        """Of each room all that it imports, itself or through others."""
        reached: dict[str, frozenset[str]] = {}
        for room in sorted(self.levels, key=self.levels.__getitem__):
            reached[room] = self.imports[room].union(*(reached[each] for each in self.imports[room]))
        return reached

    @property
    def arrows(self) -> list[Arrow]:
        """The imports that no chain of other imports implies: with all of them nobody could follow a line."""
        return sorted(
            (room, below)
            for room, every in self.imports.items()
            for below in every
            if not any(below in self.reached[other] for other in every)
        )


def rooms_of_source() -> list[Rooms]:
    """The rooms of each of `PACKAGES`: what stands at its top, folders and modules alike."""
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)
    return [_rooms(graph, package) for package in PACKAGES]


def _rooms(graph: grimp.ImportGraph, package: str) -> Rooms:
    imports: dict[str, set[str]] = {}
    libraries: dict[str, set[str]] = {}
    outside: set[str] = set()
    for module in graph.find_descendants(package):
        room = module.split(".")[1]
        imports.setdefault(room, set())
        libraries.setdefault(room, set())
        for imported in graph.find_modules_directly_imported_by(module):
            top, _, rest = imported.partition(".")
            if top == package and rest and rest.split(".")[0] != room:
                imports[room].add(rest.split(".")[0])
            elif top in LIBRARIES:
                libraries[room].add(LIBRARIES[top])
            elif top != package and top in PACKAGES:
                outside.add(".".join(imported.split(".")[:2]))
    return Rooms(
        package,
        {room: frozenset(each) for room, each in imports.items()},
        {room: tuple(sorted(each)) for room, each in libraries.items()},
        frozenset(outside),
    )


@dataclass(frozen=True)
class Layout:
    """Where things stand in a frame whose lower left corner is the origin.

    `centres`: of each room; `bends`: of each arrow, where it passes the rows between its ends.
    """

    centres: Mapping[str, tuple[float, float]]
    bends: Mapping[Arrow, list[tuple[float, float]]]
    width: float
    height: float


def laid_out(rooms: Rooms) -> Layout:
    """A row for each level. An arrow over several rows keeps a place in each, so that it crosses no box."""
    levels, rows = rooms.levels, _rows(rooms)
    widths = [[WIDTH if isinstance(each, str) else WIDTH / 8 for each in row] for row in rows]
    full = max(sum(row) + GAP_X * (len(row) - 1) for row in widths)
    centres: dict[str, tuple[float, float]] = {}
    places: dict[tuple[Arrow, int], tuple[float, float]] = {}
    for level, (row, row_widths) in enumerate(zip(rows, widths, strict=True)):
        left = MARGIN + (full - sum(row_widths) - GAP_X * (len(row) - 1)) / 2
        for each, width in zip(row, row_widths, strict=True):
            centre = left + width / 2, MARGIN + HEIGHT / 2 + level * (HEIGHT + GAP_Y)
            left += width + GAP_X
            if isinstance(each, str):
                centres[each] = centre
            else:
                places[each, level] = centre
    bends = {
        arrow: [places[arrow, level] for level in range(levels[arrow[0]] - 1, levels[arrow[1]], -1)]
        for arrow in rooms.arrows
    }
    height = len(rows) * (HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN + TITLE
    return Layout(centres, bends, full + 2 * MARGIN, height)


def _rows(rooms: Rooms) -> list[list[str | Arrow]]:
    """The rooms of each level, and the arrows that pass it, ordered so that few lines cross."""
    levels = rooms.levels
    rows: list[list[str | Arrow]] = [[] for _ in range(max(levels.values()) + 1)]
    for room in sorted(levels):
        rows[levels[room]].append(room)
    for upper, lower in rooms.arrows:
        for level in range(levels[lower] + 1, levels[upper]):
            rows[level].append((upper, lower))
    best, fewest = rows, _crossings(rooms, rows)
    for turn in range(24):
        order = range(len(rows) - 1) if turn % 2 else range(len(rows) - 1, 0, -1)
        for level in order:
            beside = level + 1 if turn % 2 else level - 1
            rows = [_by_neighbours(rooms, row, rows[level]) if at == beside else row for at, row in enumerate(rows)]
        crossings = _crossings(rooms, rows)
        if crossings < fewest:
            best, fewest = rows, crossings
    return best


def _links(rooms: Rooms, upper: list[str | Arrow], lower: list[str | Arrow]) -> list[tuple[int, int]]:
    """Lines between two rows that follow each other, by positions in them."""

    def at(row: list[str | Arrow], room: str, arrow: Arrow) -> int | None:
        return row.index(arrow) if arrow in row else row.index(room) if room in row else None

    ends = [(at(upper, arrow[0], arrow), at(lower, arrow[1], arrow)) for arrow in rooms.arrows]
    return [(above, below) for above, below in ends if above is not None and below is not None]


def _crossings(rooms: Rooms, rows: list[list[str | Arrow]]) -> int:
    links = [_links(rooms, upper, lower) for lower, upper in itertools.pairwise(rows)]
    return sum((a - c) * (b - d) < 0 for each in links for a, b in each for c, d in each) // 2


def _by_neighbours(rooms: Rooms, row: list[str | Arrow], beside: list[str | Arrow]) -> list[str | Arrow]:
    """A row in the order of the mean places of what its members are linked with in the row beside it."""
    links = [*_links(rooms, row, beside), *((own, other) for other, own in _links(rooms, beside, row))]
    means = {}
    for place in range(len(row)):
        linked = [other / max(1, len(beside) - 1) for own, other in links if own == place]
        means[place] = sum(linked) / len(linked) if linked else place / max(1, len(row) - 1)
    return [row[place] for place in sorted(means, key=means.__getitem__)]


def draw(every: list[Rooms]) -> None:
    """Write the picture: `sweeps` and `analysis` stand on `kdas`."""
    layouts = {rooms.package: laid_out(rooms) for rooms in every}
    kdas, sweeps, analysis = (layouts[package] for package in PACKAGES)
    width = max(kdas.width, sweeps.width + BETWEEN + analysis.width)
    upper = max(sweeps.height, analysis.height)
    height = kdas.height + BETWEEN + upper
    figure = plt.figure(figsize=((width + 4) / 72, (height + 4) / 72), facecolor=GROUND)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-2, width + 2)
    axes.set_ylim(-2, height + 2)
    axes.axis("off")
    floor = kdas.height + BETWEEN
    spare = width - sweeps.width - BETWEEN - analysis.width
    origins = {
        "kdas": ((width - kdas.width) / 2, 0.0),
        "sweeps": (0.0, floor),
        "analysis": (sweeps.width + BETWEEN + spare, floor),
    }
    for rooms in every:
        _draw_package(axes, rooms, layouts[rooms.package], origins[rooms.package])
    for rooms in every:
        if not rooms.outside:
            continue
        x = origins[rooms.package][0] + layouts[rooms.package].width / 2
        _arrow(axes, [(x, floor), (x, kdas.height)], f"{rooms.package}>kdas", line_width=2.2)
        if len(rooms.outside) <= MOST_NAMED:
            names = ", ".join(sorted(each.partition(".")[2] for each in rooms.outside))
            axes.text(x + 8, floor - BETWEEN / 2, f"{names} only", va="center", fontsize=7.5, color=INK)
    figure.savefig(PICTURE, metadata={"Date": None, "Title": "Rooms of kdas-sweeps"}, facecolor=GROUND)
    plt.close(figure)


def _draw_package(axes: Axes, rooms: Rooms, layout: Layout, origin: tuple[float, float]) -> None:
    left, bottom = origin
    frame = FancyBboxPatch(
        origin, layout.width, layout.height, boxstyle="round,pad=0,rounding_size=6", fc="none", ec=LINE, lw=1
    )
    axes.add_patch(frame)
    axes.text(
        left + 10, bottom + layout.height - 8, f"{rooms.package}/", va="top", fontsize=11, weight="bold", color=INK
    )

    def at(point: tuple[float, float], shift: float = 0.0) -> tuple[float, float]:
        return left + point[0], bottom + point[1] + shift

    for arrow in rooms.arrows:
        start, end = (layout.centres[room] for room in arrow)
        points = [at(start, -HEIGHT / 2)]
        for bend in layout.bends[arrow]:
            points += [at(bend, HEIGHT / 2), at(bend, -HEIGHT / 2)]
        names = (f"{rooms.package}.{room}" for room in arrow)
        _arrow(axes, [*points, at(end, HEIGHT / 2)], ">".join(names))
    for room, centre in layout.centres.items():
        _box(axes, rooms, room, at(centre))


def _box(axes: Axes, rooms: Rooms, room: str, centre: tuple[float, float]) -> None:
    x, y = centre
    axes.add_patch(
        FancyBboxPatch(
            (x - WIDTH / 2, y - HEIGHT / 2),
            WIDTH,
            HEIGHT,
            boxstyle="round,pad=0,rounding_size=4",
            fc=FILLS[rooms.package],
            ec=LINE,
            lw=0.8,
            gid=f"room:{rooms.package}.{room}",
            zorder=3,
        )
    )
    libraries = ", ".join(rooms.libraries[room])
    axes.text(x, y + (4.5 if libraries else 0), room, ha="center", va="center", fontsize=9, color=INK, zorder=4)
    axes.text(x, y - 6.5, libraries, ha="center", va="center", fontsize=6.5, style="italic", color=INK, zorder=4)


def _arrow(axes: Axes, points: list[tuple[float, float]], name: str, line_width: float = 0.9) -> None:
    """A line from the first point down to the last, with its head there; upright where it leaves a point."""
    vertices, codes = points[:1], [mpl.path.Path.MOVETO]
    for (x, y), (next_x, next_y) in itertools.pairwise(points):
        vertices += [(x, (y + next_y) / 2), (next_x, (y + next_y) / 2), (next_x, next_y)]
        codes += [mpl.path.Path.CURVE4] * 3
    axes.add_patch(
        FancyArrowPatch(
            path=mpl.path.Path(vertices, codes),
            arrowstyle="-|>",
            mutation_scale=6 + 2 * line_width,
            color=LINE,
            lw=line_width,
            gid=f"arrow:{name}",
            shrinkA=0,
            shrinkB=0,
            zorder=2,
        )
    )


def main() -> None:
    """Read the source and draw it."""
    mpl.use("svg")
    # Text stays text: it can be read aloud, searched, and takes a tenth of the room.
    mpl.rcParams.update({"svg.hashsalt": "kdas-sweeps", "svg.fonttype": "none", "font.family": "sans-serif"})
    draw(rooms_of_source())
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

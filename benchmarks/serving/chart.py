"""Draws the requests a second of all servers, one panel for each size of the bodies."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.serving.bodies import BodySize
from benchmarks.serving.ratios import Cell
from benchmarks.serving.rounds import ONNXRUNTIME
from benchmarks.serving.servers import NOOP, OURS

_COLOURS = {OURS: "#2166ac", NOOP: "#bdbdbd", ONNXRUNTIME: "#bdbdbd"}
_OTHERS = "#d6604d"
_BEST_KNOWN = 8


def draw(cells: Sequence[Cell], titles: Mapping[str, str], file: Path) -> None:
    """Write an SVG; of the numbers of connections it shows 8, or the one nearest to it."""
    import matplotlib as mpl

    mpl.use("svg")
    # So that drawing the same results again gives the same file.
    mpl.rcParams["svg.hashsalt"] = "serving"
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot as plt

    sizes = list(dict.fromkeys(cell.body for cell in cells))
    connections = min(
        {cell.connections for cell in cells if cell.server != ONNXRUNTIME},
        key=lambda count: abs(count - _BEST_KNOWN),
    )
    figure, panels = plt.subplots(
        1, len(sizes), figsize=(4.6 * len(sizes), 3.4), squeeze=False, layout="constrained"
    )
    for panel, size in zip(panels[0], sizes, strict=True):
        shown = [
            cell
            for cell in cells
            if cell.body == size and (cell.connections == connections or not cell.connections)
        ]
        shown.sort(key=lambda cell: cell.rate)
        # Points, because a bar has no honest beginning on a logarithmic scale.
        panel.scatter(
            [cell.rate for cell in shown],
            [titles[cell.server] for cell in shown],
            color=[_COLOURS.get(cell.server, _OTHERS) for cell in shown],
            s=60,
        )
        for place, cell in enumerate(shown):
            panel.annotate(
                _label(cell),
                (cell.rate, place),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        panel.set_xscale("log")
        panel.margins(x=0.25)
        panel.grid(axis="y", linestyle=":", color="#cccccc")
        panel.set_axisbelow(True)
        panel.set_title(_title(size, connections), fontsize=10)
        panel.set_xlabel("requests a second (logarithmic)", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, format="svg", metadata={"Date": None})
    plt.close(figure)


def _title(size: BodySize, connections: int) -> str:
    return f"{size.title}, {connections} connections"


def _label(cell: Cell) -> str:
    return f"{cell.rate:,.0f}" if cell.rate >= 10 else f"{cell.rate:.1f}"

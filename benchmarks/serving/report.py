"""Prints the table and writes the results as JSON, text and a chart."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.bodies import BodySize
from benchmarks.serving.ratios import Cell, judge
from benchmarks.serving.rounds import ONNXRUNTIME, Measurement, Plan
from benchmarks.serving.servers import SERVERS

TITLES = {server.name: server.title for server in SERVERS} | {ONNXRUNTIME: "onnxruntime alone"}

_HEADINGS = (
    "server",
    "connections",
    "requests/s",
    "rows/s",
    "median ms",
    "p99 ms",
    "processor µs",
    "ours : this (rate)",
    "this : ours (processor)",
)
_LEFT = 1


@dataclass(frozen=True)
class Report:
    """Everything that a run has found."""

    plan: Plan
    cells: Sequence[Cell]
    measurements: Sequence[Measurement]
    left_out: dict[str, str]
    versions: dict[str, str]
    memory: dict[str, int]
    load_before: float

    def text(self) -> str:
        """The tables, for people."""
        parts = [self._circumstances()]
        for size in self.plan.sizes:
            parts.append(f"{size.title}\n{_table(self._rows(size))}")
        parts.append(self._targets())
        if self.left_out:
            reasons = [f"  {TITLES[name]}: {why}" for name, why in self.left_out.items()]
            parts.append("\n".join(["Left out:", *reasons]))
        return "\n\n".join(part for part in parts if part) + "\n"

    def document(self) -> dict[str, Any]:
        """The same for programs, every round included."""
        plan = self.plan
        return {
            "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": _machine() | {"load_before": round(self.load_before, 2)},
            "versions": self.versions,
            "settings": {
                "seconds": plan.seconds,
                "rounds": plan.rounds,
                "load_generator": plan.generator,
            },
            "resident_bytes": self.memory,
            "left_out": self.left_out,
            "targets": [
                _plain(asdict(one.target)) | {"measured": one.measured, "reached": one.is_reached}
                for one in judge(self.cells, self.plan.generator)
            ],
            "cells": [_plain(asdict(cell)) for cell in self.cells],
            "measurements": [_plain(asdict(one)) for one in self.measurements],
        }

    def write(self, folder: Path) -> list[Path]:
        """Write all forms into a folder."""
        from benchmarks.serving.chart import draw

        folder.mkdir(parents=True, exist_ok=True)
        table, document, chart = (folder / f"results.{ending}" for ending in ("txt", "json", "svg"))
        table.write_text(self.text(), "utf-8")
        document.write_text(json.dumps(self.document(), indent=1) + "\n")
        draw(self.cells, TITLES, chart)
        return [table, document, chart]

    def _rows(self, size: BodySize) -> list[tuple[str, ...]]:
        cells = [cell for cell in self.cells if cell.body == size]
        order = list(TITLES)
        cells.sort(key=lambda cell: (cell.connections, order.index(cell.server)))
        return [_row(cell) for cell in cells]

    def _circumstances(self) -> str:
        plan, machine = self.plan, _machine()
        generator = {
            "wrk": "wrk for small bodies, keep_alive_client.py for large ones",
            "own": "keep_alive_client.py",
        }[plan.generator]
        return (
            f"{machine['processor']}, {machine['cores']} cores, "
            f"load {self.load_before:.1f} before.\n"
            f"{plan.rounds} interleaved rounds of {plan.seconds} s; load by {generator}.\n"
            "Medians of the rounds; ratios are medians of the ratios within each round.\n"
            "Processor time is the server's per request; ours includes shipping the prediction log."
        )

    def _targets(self) -> str:
        lines = []
        for one in judge(self.cells, self.plan.generator):
            target = one.target
            lines.append(
                f"  {'reached' if one.is_reached else 'MISSED':8s}"
                f"{target.body.title}, {target.connections} connections: {one.measured:.2f}x "
                f"{TITLES[target.server]} (at least {target.least:g})"
            )
        return "\n".join(["Targets:", *lines]) if lines else ""


def describe(one: Measurement) -> str:
    """One line about one measurement, for the time being."""
    where = f"round {one.round + 1}, {one.body.title}, {one.connections} connections"
    errors = f", {one.errors} ERRORS" if one.errors else ""
    behind = f", log behind {one.shipping_seconds:.1f} s" if one.shipping_seconds > 1 else ""
    rate = f"{one.rate:,.0f} requests/s, {one.processor_us:,.0f} µs of processor{errors}{behind}"
    return f"{where}: {TITLES[one.server]} {rate}"


def _row(cell: Cell) -> tuple[str, ...]:
    is_alone = cell.server == ONNXRUNTIME
    return (
        TITLES[cell.server] + (f" ({cell.errors} errors)" if cell.errors else ""),
        "-" if is_alone else str(cell.connections),
        f"{cell.rate:,.0f}" if cell.rate >= 100 else f"{cell.rate:,.1f}",
        f"{cell.rate * cell.body.row_count:,.0f}",
        "-" if is_alone else f"{cell.median_ms:,.2f}",
        "-" if is_alone else f"{cell.p99_ms:,.2f}",
        f"{cell.processor_us:,.0f}" if cell.processor_us >= 100 else f"{cell.processor_us:,.1f}",
        "-" if cell.ours_by_rate is None else f"{cell.ours_by_rate:,.2f}",
        "-" if cell.ours_by_processor is None else f"{cell.ours_by_processor:,.2f}",
    )


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    columns = zip(_HEADINGS, *rows, strict=True)
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in [_HEADINGS, *rows]:
        padded = [
            text.ljust(width) if index < _LEFT else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(padded).rstrip())
    return "\n".join(lines)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """With the size of the body as the text that ``--bodies`` takes."""
    return values | {"body": str(BodySize(**values["body"]))}


def _machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    """The processor's name, where the system tells it."""
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

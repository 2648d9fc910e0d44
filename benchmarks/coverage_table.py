"""The table that `coverage.py` prints: its rows, the lines under them, and the summary over all models."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coverage_measure import EXACT, VERDICTS, Ours, Outcome


@dataclass
class Row:
    """A model; ``failure``: why there is nothing to say of it."""

    model: str
    failure: str | None = None
    ours: Ours | None = None
    peer: Outcome | None = None


def header(width: int, with_peer: bool) -> str:
    """The line over the rows; ``width``: of the models' names."""
    ours = f"{'model':{width}} valid  float32  float64       groups params   MACs plan s rest s"
    return f"{ours} | {'onnxsim':9} params   MACs      s" if with_peer else ours


def columns(ours: Ours) -> str:
    """Our part of a row, after the model's name."""
    groups = f"{f'{ours.found}/{ours.shrunk}/{ours.frozen}':>12}"
    left, seconds = (_cells(ours.params, ours.macs), _cells(ours.seconds, ours.rest_seconds, digits=2))
    return f"{'yes' if ours.valid else 'NO':5} {_tiny(ours.error)} {_tiny(ours.error64)} {groups} {left} {seconds}"


def peer_columns(peer: Outcome) -> str:
    """The peer's part of a row."""
    return f"{peer.verdict:9} {_cells(peer.params, peer.macs)} {_cells(peer.seconds, digits=2)}"


def _cells(*values: float | None, digits: int = 3) -> str:
    return " ".join(f"{'-' if v is None else f'{v:.{digits}f}':>6}" for v in values)


def _tiny(error: float | None) -> str:
    return f"{'-' if error is None else f'{error:.1e}':>8}"


def details(row: Row, count: int) -> list[str]:
    """The lines under a row."""
    lines: list[str] = []
    if row.ours is not None:
        missed = "not twin-exact" if row.ours.valid and not row.ours.exact else ""
        computed = row.ours.computed64 and f"float64: {row.ours.computed64}"
        varied = "compared with the twin after equal weights were varied" if row.ours.varied else ""
        blind = (
            f"the twin is within {row.ours.moved:.0e} of the original: exactness tells little" if row.ours.blind else ""
        )
        lines += [line for line in (missed, row.ours.detail, computed, varied, blind) if line]
        for reason in row.ours.reasons[:count]:
            groups = f"{reason.groups} group{'s' if reason.groups > 1 else ''}"
            lines.append(f"{groups}, {reason.share:.0%} of parameters: {reason.text}")
    if row.peer is not None and row.peer.detail:
        lines.append(f"onnxsim: {row.peer.detail}")
    return lines


def summary(rows: Sequence[Row], peer: str | None) -> dict[str, Any]:
    """Counts and medians over all models."""
    ours = [row.ours for row in rows if row.ours is not None]
    figures: dict[str, Any] = {
        "models": len(rows),
        "failed": sum(row.failure is not None for row in rows),
        "valid": sum(o.valid for o in ours),
        "exact": sum(o.exact for o in ours),
        "exact_in_float64_only": sum(o.exact and (o.error is None or o.error > EXACT) for o in ours),
        "exact_with_varied_weights": sum(o.exact and o.varied for o in ours),
        "blind": sum(o.blind for o in ours),
        "groups": sum(o.found for o in ours),
        "shrunk": sum(o.shrunk for o in ours),
        "frozen": sum(o.frozen for o in ours),
        **_medians(ours),
        "rest_seconds": _median([o.rest_seconds for o in ours]),
    }
    if peer is not None:
        peers = [row.peer for row in rows if row.peer is not None]
        counts = {verdict: sum(p.verdict == verdict for p in peers) for verdict in VERDICTS}
        pairs = [(row.ours, row.peer) for row in rows if row.ours is not None and row.peer is not None]
        smaller = sum(o.exact and _left(o) < _left(p) for o, p in pairs)
        figures["peer"] = {"name": peer, **counts, **_medians(peers), "ours_smaller": smaller, "compared": len(pairs)}
    return figures


def _left(outcome: Outcome) -> float:
    return outcome.params if outcome.valid and outcome.params is not None else 1.0


def _medians(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    valid = [o for o in outcomes if o.valid]
    return {
        "params": _median([o.params for o in valid]),
        "macs": _median([o.macs for o in valid]),
        "seconds": _median([o.seconds for o in valid]),
    }


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def report(figures: dict[str, Any]) -> str:
    """The lines at the end."""

    def medians(of: dict[str, Any]) -> str:
        params, macs, seconds = _cells(of["params"], of["macs"], of["seconds"]).split()
        return f"medians: params {params}, MACs {macs}, {seconds} s"

    text = (
        f"{figures['models']} models: {figures['valid']} valid, {figures['exact']} twin-exact "
        f"({figures['exact_in_float64_only']} in float64 only, {figures['exact_with_varied_weights']} with varied "
        f"weights, {figures['blind']} hardly tested), {figures['failed']} failed; {medians(figures)} "
        f"+ {_cells(figures['rest_seconds']).strip()} s; groups {figures['groups']} found, {figures['shrunk']} shrunk, "
        f"{figures['frozen']} frozen"
    )
    if "peer" in figures:
        peer = figures["peer"]
        counts = ", ".join(f"{peer[verdict]} {verdict}" for verdict in VERDICTS)
        text += (
            f"\n{peer['name']}: {counts}; {medians(peer)}\nours is exact with fewer parameters left in "
            f"{peer['ours_smaller']} of {peer['compared']} (a result of the peer that is not valid counts as 1)"
        )
    return text

"""Figures as a person reads them: a line each, under the names that JSON and the bounds use."""

from __future__ import annotations

from collections.abc import Mapping

from sceneseek_evaluation.bootstrap import Figure


def table(figures: Mapping[str, Figure]) -> list[str]:
    """The lines of a table: name, value, 95% interval; a dash for what is not defined or not finite."""
    width = max(map(len, figures), default=0)
    lines = [f"{'figure':<{width}}     value   95% interval"]
    for name, figure in figures.items():
        interval = f"{_number(figure.low)} to {_number(figure.high)}" if figure.low is not None else "-"
        lines.append(f"{name:<{width}}  {_number(figure.value):>8}   {interval}")
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

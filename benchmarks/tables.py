"""What a benchmark found: printed as a table, and drawn."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

# In pixels; LETTER is an average, rounded up.
BAR_HEIGHT, GAP, BARS, FIGURES, LETTER = 18, 6, 420, 70, 7
FONT, COLOUR = 'font-family="sans-serif" font-size="13"', "#3b6ea8"


class Table(NamedTuple):
    """Rows of a label and figures; the first figure is the one that is drawn."""

    title: str
    header: list[str]
    rows: list[list[str | float]]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [self.header, ["---"] + ["--:"] * (len(self.header) - 1)]
        lines += [[show(cell) for cell in row] for row in self.rows]
        return "\n".join([f"{self.title}\n", *(f"| {' | '.join(line)} |" for line in lines)])

    def svg(self) -> str:
        """Return a bar chart."""
        most = max(float(row[1]) for row in self.rows) or 1
        labels = 16 + LETTER * max(len(str(row[0])) for row in self.rows)
        width, height = labels + BARS + FIGURES, (BAR_HEIGHT + GAP) * len(self.rows) + 40
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {FONT} role="img">',
            '<rect width="100%" height="100%" fill="#fff"/>',
            f'<text x="8" y="20" font-weight="bold">{escape(self.title)} ({escape(self.header[1])})</text>',
        ]
        for number, (label, figure, *_) in enumerate(self.rows):
            y = 32 + number * (BAR_HEIGHT + GAP)
            length = round(float(figure) / most * BARS, 1)
            parts += [
                f'<text x="8" y="{y + 13}">{escape(str(label))}</text>',
                f'<rect x="{labels}" y="{y}" width="{length}" height="{BAR_HEIGHT}" fill="{COLOUR}"/>',
                f'<text x="{labels + length + 6}" y="{y + 13}">{show(figure)}</text>',
            ]
        return "\n".join([*parts, "</svg>\n"])


def show(cell: str | float) -> str:
    """Return a cell as text, a number with three figures or so."""
    if isinstance(cell, str):
        return cell
    return f"{cell:,.0f}" if cell == int(cell) or abs(cell) >= 100 else f"{cell:.3g}"

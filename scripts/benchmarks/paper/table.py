"""A table of text cells as Markdown, CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.io.atomic import write_text
from scripts.io.tables import markdown_table, write_csv

_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "±": r"$\pm$", "<": "$<$"}


@dataclass(frozen=True)
class Table:
    """Cells as they are shown.

    Args:
        name: of the files.
        title: above the table.
        columns: headings.
        rows: of cells.
        notes: below it.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """With its title and notes."""
        lines = [f"## {self.title}", "", *markdown_table(self.columns, self.rows)]
        return "\n".join([*lines, "", *(f"{note}\n" for note in self.notes)])

    def latex(self) -> str:
        """A tabular with its caption; the names of the paper's own tables stay free."""
        lines = [
            r"\begin{table}",
            rf"\caption{{{_escape(self.title)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
        ]
        lines += [
            r"\hline",
            _latex_row(self.columns),
            r"\hline",
            *map(_latex_row, self.rows),
            r"\hline",
            r"\end{tabular}",
        ]
        return "\n".join([*lines, *(rf"\\{_escape(note)}" for note in self.notes), r"\end{table}", ""])

    def write(self, folder: Path) -> None:
        """``<name>.csv`` and ``<name>.tex``; Markdown goes into the report."""
        write_csv(folder / f"{self.name}.csv", self.columns, self.rows)
        write_text(folder / f"{self.name}.tex", self.latex())
        write_text(folder / f"{self.name}.md", self.markdown())


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_escape, cells)) + r" \\"


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)

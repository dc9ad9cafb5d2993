"""Table 1 and Figure 6 of a dataset, against counts made by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.data.statistics import (
    DatasetCounts,
    count_dataset,
    draw_figure6,
    level_matrix,
    table1_markdown,
    write_statistics,
)
from scripts.errors import UserError
from scripts.levels import LEVEL_ORDER, level_name, level_number


def rows(subject: str, series: str, *levels: str) -> list[dict[str, str]]:
    return [{"subject": subject, "series": series, "level": level} for level in levels]


# Two patients, three scans, nine vertebrae; a variant that does not count.
DATASET = [
    *rows("p1", "split-a", "T12", "T13", "L1"),
    *rows("p1", "split-b", "L1", "L2"),
    *rows("p2", "", "C7", "T1", "T2", "L6"),
    *rows("p2", "~v01", "C7", "T1", "T2", "L6"),
    *rows("p1", "split-b~v02", "L1", "L2"),
]


def test_counts_by_hand() -> None:
    assert count_dataset(DATASET) == DatasetCounts(subjects=2, spines=3, vertebrae=9)
    assert count_dataset([]) == DatasetCounts(0, 0, 0)


def test_table_has_found_and_paper_beside_each_other(tmp_path: Path) -> None:
    text = table1_markdown(count_dataset(DATASET), "full")
    assert "| Number of subjects | 2 | 355 |" in text and "| Number of vertebrae | 9 | 4522 |" in text
    assert "| Number of spines | 3 | 140 |" in table1_markdown(count_dataset(DATASET), "small")
    with pytest.raises(UserError, match="unknown subset"):
        table1_markdown(count_dataset(DATASET), "medium")
    write_statistics(tmp_path, iter(DATASET), "small")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["figure6.png", "table1.csv", "table1.md"]
    with (tmp_path / "table1.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [(row["found"], row["paper_verse_small"]) for row in table] == [("2", "140"), ("3", "140"), ("9", "1407")]


def test_matrix_has_a_row_a_spine_and_t13_between_t12_and_l1() -> None:
    names, matrix = level_matrix(DATASET)
    assert names == ["p2", "p1_split-a", "p1_split-b"] and matrix.shape == (3, 26)
    levels = [[level_name(LEVEL_ORDER[i]) for i in np.flatnonzero(row)] for row in matrix]
    assert levels == [["C7", "T1", "T2", "L6"], ["T12", "T13", "L1"], ["L1", "L2"]]
    assert np.flatnonzero(matrix[1]).tolist() == [18, 19, 20]


def many(spines: int) -> list[dict[str, str]]:
    random = np.random.default_rng(0)
    found = []
    for i in range(spines):
        first = int(random.integers(0, 20))
        found += rows(f"s{i:03d}", "", *(level_name(n) for n in LEVEL_ORDER[first : first + 6]))
    return found


@pytest.mark.parametrize("spines", [1, 5, 400])
def test_figure_is_reproducible_and_of_readable_size(tmp_path: Path, spines: int) -> None:
    draw_figure6(many(spines), tmp_path / "a.png", "title")
    # The order of the rows is nobody's business.
    draw_figure6(many(spines)[::-1], tmp_path / "b.png", "title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    width, height = Image.open(tmp_path / "a.png").size
    assert width == 1425 and 700 < height < 2000
    draw_figure6(many(spines)[1:], tmp_path / "c.png", "title")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()


def test_regions_have_their_own_colours(tmp_path: Path) -> None:
    def has(level: str, colour: tuple[int, int, int]) -> bool:
        draw_figure6(rows("p", "", level), tmp_path / "f.png", "title")
        return bool((np.asarray(Image.open(tmp_path / "f.png").convert("RGB")) == colour).all(-1).sum() > 1000)

    lumbar, thoracic = (0xC9, 0x76, 0x2B), (0x2F, 0x7F, 0xB5)
    assert has("L3", lumbar) and not has("T3", lumbar)
    assert has("T13", thoracic) and level_number("T13") == 28


def test_an_empty_dataset_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="empty"):
        draw_figure6([], tmp_path / "f.png", "title")
    assert not (tmp_path / "f.png").exists()

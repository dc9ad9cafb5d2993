"""The paper's two datasets: VerSe-full takes every spine, VerSe-small the ones that are alike.

VerSe-small drops a whole spine that has a T13, an L6 or a cervical vertebra, fewer than three thoracic vertebrae, or
metal (ReVerteR, section "Datasets").
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.errors import UserError
from scripts.io.tables import write_csv
from scripts.levels import in_order, level_name, region

if TYPE_CHECKING:
    from scripts.data.metal import MetalEvidence

SUBSETS = ("full", "small")
FEWEST_THORACIC = 3


@dataclass(frozen=True)
class SpineRecord:
    """One spine (a series), as far as choosing it needs.

    Args:
        case: its key.
        subject: patient.
        series: of the patient.
        levels: VerSe numbers with a mask, head to foot, cut ones included and debris not.
        metal: what its CT says.
        centroid_convention: of its centroid file; empty without one.
        behind_mm: how far the vertebrae's centres of mass lie behind their bodies (median); negative would mean that
            the header exchanges front and back.
        notes: what was assumed about it and may be wrong, one line each.
        usable: whether a vertebra of it can be in a list.
    """

    case: str
    subject: str
    series: str
    levels: tuple[int, ...]
    metal: MetalEvidence
    centroid_convention: str = ""
    behind_mm: float = 0.0
    notes: tuple[str, ...] = ()
    usable: bool = True


@dataclass(frozen=True)
class SubsetOptions:
    """Which spines to take.

    Args:
        subset: full, or small: the paper's VerSe-small (no cervical vertebra, T13, L6 or metal; three thoracic ones).
        metal: cases that have metal whatever their CT says, comma-separated; subset.csv lists their names.
        no_metal: cases that have none whatever their CT says.
    """

    subset: str = "full"
    metal: tuple[str, ...] = ()
    no_metal: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.subset not in SUBSETS:
            raise UserError(f"--subset {self.subset}: choose {' or '.join(SUBSETS)}")
        if both := set(self.metal) & set(self.no_metal):
            raise UserError(f"--metal and --no-metal both name {', '.join(sorted(both))}")


def why_dropped(spine: SpineRecord, options: SubsetOptions) -> list[str]:
    """Every reason why a spine is not in the subset; empty if it is."""
    if options.subset == "full":
        return []
    reasons = []
    regions = [region(level) for level in spine.levels]
    if "cervical" in regions:
        names = [level_name(n) for n, r in zip(spine.levels, regions, strict=True) if r == "cervical"]
        reasons.append(f"cervical vertebrae {' '.join(names)}")
    reasons += [f"has {name}" for name in ("T13", "L6") if name in map(level_name, spine.levels)]
    if (count := regions.count("thoracic")) < FEWEST_THORACIC:
        reasons.append(f"{count} thoracic vertebrae")
    if has_metal(spine, options):
        reasons.append("metal" if spine.case in options.metal else f"metal, {spine.metal.near_spine_cm3:.1f} cm3")
    return reasons


def has_metal(spine: SpineRecord, options: SubsetOptions) -> bool:
    """What the lists say, else what the CT says."""
    return spine.case in options.metal or (spine.metal.is_metal and spine.case not in options.no_metal)


def check_lists(cases: set[str], options: SubsetOptions) -> None:
    """Refuse names in the lists that no case has: a typing error would silently change the dataset.

    Raises:
        UserError: there are such names.
    """
    for option, names in (("--metal", options.metal), ("--no-metal", options.no_metal)):
        if unknown := [name for name in names if name not in cases]:
            raise UserError(f"{option}: no case '{unknown[0]}' in the data; subset.csv lists their names")


def write_subset(path: Path, spines: list[SpineRecord], options: SubsetOptions) -> None:
    """One row a spine: kept or not, why, and the evidence."""
    columns = [
        "case", "subject", "series", "kept", "reasons", "levels", "hu_max", "metal_cm3", "metal_near_spine_cm3",
        "metal", "centroid_file", "behind_mm",
    ]  # fmt: skip
    rows = []
    for spine in sorted(spines, key=lambda s: s.case):
        reasons = why_dropped(spine, options)
        levels = " ".join(level_name(n) for n in in_order(list(spine.levels)))
        metal = spine.metal
        rows.append([
            spine.case, spine.subject, spine.series, "no" if reasons else "yes", "; ".join(reasons), levels,
            metal.hu_max, metal.total_cm3, metal.near_spine_cm3, "yes" if has_metal(spine, options) else "no",
            spine.centroid_convention or "none", spine.behind_mm,
        ])  # fmt: skip
    write_csv(path, columns, rows)

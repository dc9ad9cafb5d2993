"""The verb ``evaluate-localization``: the annotation network on films whose vertebrae are known."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.errors import UserError
from scripts.films.film import Films, Radiograph
from scripts.films.pair import pair_geometry
from scripts.io.atomic import write_text
from scripts.io.documents import not_finite, without, write_json
from scripts.io.tables import markdown_table, write_csv
from scripts.localization.annotate import FilmPatchReader, annotate_films
from scripts.localization.film_cases import FilmCase, film_pairs, film_subject, read_film_case
from scripts.localization.found import Localization
from scripts.localization.localizer import Localizer
from scripts.localization.metrics import REGIONS, CaseRow, JointRow, ViewRow, compare
from scripts.reconstruction.metrics.intervals import interval_95

FIELDS_OF_VIEW = {"up to 6": (1, 6), "7 to 9": (7, 9), "10 and more": (10, 99)}


def evaluate_films(
    films: str, output: str, localizer: Localizer, read_patches: FilmPatchReader | None = None
) -> dict[str, Any]:
    """Annotate every pair of a folder of films and compare with the truth.

    Args:
        films: folder made by `scripts.localization.films`, or several with commas between them.
        output: gets ``views.csv``, ``vertebrae.csv``, ``cases.csv``, ``summary.json`` and ``summary.md``.
        localizer: what annotates.
        read_patches: a second opinion on levels.

    Returns:
        the summary.
    """
    views, joint, cases = measure_films(
        films, lambda truth: annotate_films(as_films(truth), localizer, read_patches=read_patches)[1]
    )
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("views", views), ("vertebrae", joint), ("cases", cases)):
        _write_rows(folder / f"{name}.csv", table)
    summary = summarise(views, joint, cases)
    # Means over nothing are NaN here; JSON has null for them.
    write_json(folder / "summary.json", without(summary, not_finite(summary)))
    write_text(folder / "summary.md", summary_table(summary))
    return summary


def as_films(case: FilmCase, sized: bool = True) -> Films:
    """A stored pair as films that were read from files.

    Args:
        case: the pair.
        sized: whether the films know their pixels' size, and how they lie to each other.
    """
    if sized:
        ap, lat = (
            Radiograph(film, view.pixel_mm)
            for film, view in zip(case.films, (case.geometry.ap, case.geometry.lat), strict=True)
        )
        return Films(ap, lat, case.geometry, True)
    ap, lat = (Radiograph(film, None) for film in case.films)
    return Films(ap, lat, pair_geometry(ap, lat), False)


def measure_films(
    films: str, locate: Callable[[FilmCase], Localization]
) -> tuple[list[ViewRow], list[JointRow], list[CaseRow]]:
    """All rows of all film pairs of a folder.

    Args:
        films: folder made by `scripts.localization.films`, or several with commas between them.
        locate: what annotates a pair; where it raises a `UserError`, nothing is found.
    """
    views: list[ViewRow] = []
    joint: list[JointRow] = []
    cases: list[CaseRow] = []
    for path, pair in tqdm(film_pairs(films), unit="pair", desc="films"):
        truth = read_film_case(path, pair)
        started = time.perf_counter()
        try:
            found = locate(truth)
        except UserError:
            found = None
        seconds = time.perf_counter() - started
        rows = compare(f"{path.stem}#{pair}", film_subject(path), truth, found, seconds)
        views += rows[0]
        joint += rows[1]
        cases.append(rows[2])
    return views, joint, cases


def summarise(views: list[ViewRow], joint: list[JointRow], cases: list[CaseRow]) -> dict[str, Any]:
    """All measures: overall, of bodies that no border cuts, by region and by length of the field of view."""
    summary: dict[str, Any] = {
        "pairs": len(cases),
        "patients": len({c.subject for c in cases}),
        "vertebrae": len(joint),
        "all": _measures(views, joint, cases),
    }
    summary["whole bodies"] = _measures([v for v in views if v.whole], [j for j in joint if j.whole], [])
    for region in REGIONS:
        summary[region] = _measures(
            [v for v in views if v.region == region], [j for j in joint if j.region == region], []
        )
    for name, (low, high) in FIELDS_OF_VIEW.items():
        kept = {c.case for c in cases if low <= c.visible <= high}
        summary[f"{name} visible"] = _measures(
            [v for v in views if v.case in kept],
            [j for j in joint if j.case in kept],
            [c for c in cases if c.case in kept],
        )
    return summary


def summary_table(summary: dict[str, Any]) -> str:
    """The summary in Markdown, a line a group."""
    table: list[list[object]] = []
    for name, row in summary.items():
        if not isinstance(row, dict) or not row.get("vertebrae"):
            continue
        views = [row.get(view, {}) for view in ("ap", "lat")]

        def both(key: str, views: list[dict[str, Any]] = views) -> str:
            return " / ".join(_shown(view.get(key)) for view in views)

        interval = row["id_rate"]["interval"]
        right, shifted = (row.get("all_right") or {}).get("value"), row.get("shifted")
        span = f" ({_shown(interval[0])}-{_shown(interval[1])})" if interval else ""
        table.append([
            name, row["vertebrae"], both("recall_10mm"), both("precision_10mm"),
            f"{both('centroid_median_mm')}, {both('centroid_mean_mm')}", both("corner_median_mm"),
            f"{_shown(row['id_rate']['value'])}{span}", _shown(row["id_rate_strict"]["value"]),
            _shown(row["pairing"]), _shown(right), _shown(shifted),
        ])  # fmt: skip
    columns = [
        "", "n", "recall 10 mm AP / LAT", "precision", "centroid median, mean mm", "corners median mm",
        "id-rate (95 %)", "strict", "pairing", "all right", "shifted",
    ]  # fmt: skip
    whole = summary["all"]
    lines = [
        f"{summary['pairs']} film pairs of {summary['patients']} patients, {summary['vertebrae']} vertebrae",
        "",
        *markdown_table(columns, table),
        "",
        f"in space: median {_shown(whole['space_median_mm'])} mm, mean {_shown(whole['space_mean_mm'])} mm; "
        f"expected calibration error {_shown(whole['calibration']['ece'])}; "
        f"margin tells right pairs from wrong with AUC {_shown(whole['margin_auc'])}; "
        f"{_shown(whole['seconds_median'])} s a pair",
        "",
    ]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if value < 1 or value == 1 else f"{value:.2f}"


def _measures(views: list[ViewRow], joint: list[JointRow], cases: list[CaseRow]) -> dict[str, Any]:
    out: dict[str, Any] = {"vertebrae": len(joint)}
    for view in ("ap", "lat"):
        rows = [r for r in views if r.view == view]
        true = [r for r in rows if r.level]
        if not true:
            continue
        off = np.array([r.off_mm for r in true])
        hit = np.isfinite(off)
        false = sum(not r.level for r in rows)
        corner = np.array([r.corner_mm for r in true])
        out[view] = {
            "recall_5mm": _round((hit & (np.nan_to_num(off, nan=99) <= 5)).mean()),
            "recall_10mm": _round(hit.mean()),
            "precision_10mm": _round(hit.sum() / max(hit.sum() + false, 1)),
            "centroid_median_mm": _round(np.nanmedian(off) if hit.any() else np.nan),
            "centroid_mean_mm": _round(np.nanmean(off) if hit.any() else np.nan),
            "corner_median_mm": _round(np.nanmedian(corner) if np.isfinite(corner).any() else np.nan),
            "corner_mean_mm": _round(np.nanmean(corner) if np.isfinite(corner).any() else np.nan),
            "level_right": _round(np.mean([r.said == r.level for r in true])),
        }
    if joint:
        off = np.array([j.off_mm for j in joint])
        out |= {
            "id_rate": _with_interval([j.identified for j in joint], joint),
            "id_rate_strict": _with_interval([j.strictly for j in joint], joint),
            "space_median_mm": _round(np.nanmedian(off) if np.isfinite(off).any() else np.nan),
            "space_mean_mm": _round(np.nanmean(off) if np.isfinite(off).any() else np.nan),
            "pairing": _round(_share([j.paired for j in joint if j.paired >= 0])),
            "calibration": calibration(
                np.array([j.found_confidence for j in joint if j.called_right >= 0]),
                np.array([j.called_right for j in joint if j.called_right >= 0]),
            ),
        }
    if cases:
        right = np.array([c.all_right for c in cases])
        margins = np.array([c.margin for c in cases])
        out |= {
            "pairs": len(cases),
            "all_right": _with_interval([c.all_right for c in cases], cases),
            "shifted": _round(np.mean([c.shift != 0 for c in cases])),
            "margin_auc": _round(_auc(margins, right)),
            "seconds_median": _round(float(np.median([c.seconds for c in cases]))),
        }
    return out


def calibration(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> dict[str, Any]:
    """Expected calibration error, and per bin how many there are, how sure and how often right."""
    place = np.clip((confidence * bins).astype(int), 0, bins - 1)
    table = [
        (int((place == b).sum()), float(confidence[place == b].mean()), float(right[place == b].mean()))
        for b in range(bins)
        if (place == b).any()
    ]
    count = max(len(confidence), 1)
    error = sum(n * abs(sure - often) for n, sure, often in table) / count
    return {"ece": _round(error), "bins": [[n, _round(sure), _round(often)] for n, sure, often in table]}


def _auc(score: np.ndarray, label: np.ndarray) -> float:
    """Chance that a right case has the larger margin than a wrong one."""
    positive, negative = score[label], score[~label]
    if not len(positive) or not len(negative):
        return float("nan")
    apart = positive[:, None] - negative[None]
    return float((apart > 0).mean() + 0.5 * (apart == 0).mean())


def _with_interval(right: Sequence[bool], rows: Sequence[JointRow] | Sequence[CaseRow]) -> dict[str, Any]:
    """The share of rows that are right, and its 95 % interval over patients."""
    ends = interval_95(np.array(right), [row.subject for row in rows])
    return {"value": _round(np.mean(right)), "interval": None if ends is None else [_round(end) for end in ends]}


def _share(values: Sequence[int]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _round(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


def _write_rows(path: Path, rows: Sequence[Any]) -> None:
    cells = ([f"{v:.4g}" if isinstance(v, float) else v for v in asdict(row).values()] for row in rows)
    write_csv(path, list(asdict(rows[0])) if rows else [], cells)

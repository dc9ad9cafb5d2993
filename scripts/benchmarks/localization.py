"""What anchors, sizes of pixels and test-time views bring to the localizer, on films whose vertebrae are known.

    python -m scripts.benchmarks.localization --films FILMS,PARTS [--weights FILE] [--generator-weights FILE]
        [--cases plain,middle]

Cases: ``plain``; ``films_alone``, without the second opinion of the reconstruction network; ``one_view``, a single
test-time view instead of the config's; ``middle``, an anchor at a vertebra in the middle of the lateral film;
``lowest``, an anchor for the lowest whole vertebra; ``no_size``, without the pixels' size and the geometry;
``no_size_middle``, the same with an anchor in the middle. A row for each folder and case. An anchor that does not fit
what is found counts as nothing found. A pair is named wrongly if most of what is found in it bears another vertebra's
name; of right and wrong ones the table says how many were called uncertain.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from scripts.command import run_module
from scripts.errors import UserError
from scripts.io.tables import markdown_table
from scripts.levels import LEVEL_ORDER
from scripts.localization.anchors import Anchor
from scripts.localization.annotate import annotate_films
from scripts.localization.evaluate import as_films, measure_films, summarise
from scripts.localization.film_cases import FilmCase, on_film
from scripts.localization.found import Localization
from scripts.localization.levels import S1_INDEX
from scripts.localization.localizer import Localizer
from scripts.localization.metrics import ViewRow, whole_bodies
from scripts.localization.test_time_views import TestTimeView
from scripts.reconstruction.predictor import Predictor
from scripts.spine.patch_levels import PatchLevels

CASES = ("plain", "films_alone", "one_view", "middle", "lowest", "no_size", "no_size_middle")
# A size of pixels this near to the true one (natural logarithm) counts as found.
NEAR_SIZE = 0.2
LAT = 1
# Of the distance of neighbours: a centroid that lies further from a border belongs to a whole body.
BORDER_SHARE = 0.75


def middle_anchor(case: FilmCase) -> tuple[Anchor, ...]:
    """The vertebra in the middle of those that the lateral film shows; none if it shows none."""
    centroids = case.centroids[LAT]
    seen = np.flatnonzero(on_film(centroids, case.films[LAT].shape) & (case.levels != S1_INDEX))
    if not len(seen):
        return ()
    middle = seen[len(seen) // 2]
    row, column = (float(v) for v in centroids[middle])
    return (Anchor(LEVEL_ORDER[case.levels[middle]], "lat", (row, column)),)


def lowest_anchor(case: FilmCase) -> tuple[Anchor, ...]:
    """The lowest vertebra that is whole in both films; none if there is none.

    A body whose corners could not be measured counts as whole if no border of the film is near.
    """
    in_view = whole_bodies(case)
    for view, (film, points, corners) in enumerate(zip(case.films, case.centroids, case.corners, strict=True)):
        pitch = np.median(np.abs(np.diff(points[:, 0]))) if len(points) > 1 else np.inf
        in_view[view] |= np.isnan(corners).any((1, 2)) & (film.shape[0] - 1 - points[:, 0] > BORDER_SHARE * pitch)
    whole = np.flatnonzero(in_view.all(0) & (case.levels != S1_INDEX))
    return (Anchor(LEVEL_ORDER[case.levels[whole[-1]]]),) if len(whole) else ()


def main(
    films: str,
    weights: Path | None = None,
    generator_weights: Path | None = None,
    cases: tuple[str, ...] = CASES,
    device: str | None = None,
) -> None:
    """Print the table.

    Args:
        films: folders made by scripts.localization.films or film_parts, comma-separated.
        weights: of the annotation network, .pt or .ts file; the bundle's own if left out.
        generator_weights: of the reconstruction network.
        cases: of `CASES`, comma-separated.
        device: cpu, cuda, ...

    Raises:
        UserError: a case is unknown.
    """
    if unknown := set(cases) - set(CASES):
        raise UserError(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    localizer = Localizer(weights, device)
    single = Localizer(weights, device, test_time_views=(TestTimeView(),)) if "one_view" in cases else localizer
    read_patches = PatchLevels(Predictor(generator_weights, device, precision="auto"))

    def annotate(
        truth: FilmCase, network: Localizer = localizer, anchors: tuple[Anchor, ...] = (), sized: bool = True
    ) -> Localization:
        return annotate_films(as_films(truth, sized), network, anchors=anchors, read_patches=read_patches)[1]

    locate: dict[str, Callable[[FilmCase], Localization]] = {
        "plain": annotate,
        "films_alone": lambda truth: annotate_films(as_films(truth), localizer)[1],
        "one_view": lambda truth: annotate(truth, single),
        "middle": lambda truth: annotate(truth, anchors=middle_anchor(truth)),
        "lowest": lambda truth: annotate(truth, anchors=lowest_anchor(truth)),
        "no_size": lambda truth: annotate(truth, sized=False),
        "no_size_middle": lambda truth: annotate(truth, anchors=middle_anchor(truth), sized=False),
    }
    rows = [_row(folder, name, locate[name]) for folder in films.split(",") for name in cases]
    print("\n".join(markdown_table(HEAD, rows)))


def _row(folder: str, name: str, locate: Callable[[FilmCase], Localization]) -> list[object]:
    # Of each pair, whether it was called uncertain and whether both sizes were found.
    said: list[tuple[bool, bool]] = []

    def locate_and_note(truth: FilmCase) -> Localization:
        try:
            found = locate(truth)
        except UserError:
            said.append((True, False))
            raise
        said.append((found.levels_uncertain, _sizes_found(truth, found)))
        return found

    views, joint, pairs = measure_films(folder, locate_and_note)
    wrong = np.array([named_wrongly(views, pair.case) for pair in pairs])
    doubted, sized = np.array(said).T
    row = summarise(views, joint, pairs)["all"]
    return [
        Path(folder).name,
        name,
        len(pairs),
        *(" / ".join(f"{row[view][key]:.3f}" for view in ("ap", "lat")) for key in MEASURES),
        f"{row['id_rate']['value']:.3f}, {row['id_rate_strict']['value']:.3f}",
        f"{np.mean([v.said == v.level for v in views if v.level]):.3f}",
        f"{row['calibration']['ece']:.3f}",
        *(f"{part.sum()} ({(part & doubted).sum()})" for part in (~wrong, wrong)),
        f"{sized.mean():.2f}" if name.startswith("no_size") else "",
    ]


def _sizes_found(truth: FilmCase, found: Localization) -> bool:
    pairs = zip((truth.geometry.ap, truth.geometry.lat), found.pixel_mm, strict=True)
    return all(abs(np.log(size[0] / view.pixel_mm[0])) < NEAR_SIZE for view, size in pairs)


def named_wrongly(views: list[ViewRow], case: str) -> bool:
    """Whether at most half of what is found in a film pair bears its own name."""
    named = [v.said == v.level for v in views if v.case == case and v.level and v.said]
    return not named or sum(named) <= len(named) / 2


MEASURES = ("recall_10mm", "precision_10mm", "centroid_mean_mm")
HEAD = (
    "films", "case", "pairs", "recall AP / LAT", "precision", "centroid mean mm", "id-rate, strict", "found and named",
    "calibration error", "pairs named rightly (called uncertain)", "wrongly", "both sizes within 20 %",
)  # fmt: skip

if __name__ == "__main__":
    run_module(main)

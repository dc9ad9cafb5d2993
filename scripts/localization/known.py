"""Where the map of centroids is judged when only part of a spine is labelled."""

from __future__ import annotations

import numpy as np

from scripts.localization.levels import NAMES, S1_INDEX

# How far from its last known vertebra an unlabelled spine may lie to either side, in steps and at least in cells.
ASIDE_STEPS, ASIDE_CELLS = 3.0, 20.0
# From a centroid to half way to the next, and to what lies beyond the next but one; in steps.
HALF_STEP, ONE_MORE = 0.6, 2.2
# From one vertebra to the next where one alone is known, in cells of 4 mm: a lumbar spine's.
LONE_STEP = 8.0
NOWHERE = (np.inf, -np.inf, np.inf, -np.inf)
TOP, NEXT_TO_TOP = 0, 1
LAST_LUMBAR = (NAMES.index("L5"), NAMES.index("L6"))


def unknown_boxes(cells: np.ndarray, levels: np.ndarray, complete: bool) -> np.ndarray:
    """The boxes in which there may be vertebrae without a label.

    Above the first and below the last known vertebra the spine goes on, in a strip about its line. What lies beside
    that strip is not a vertebra, nor is what lies above C1 (the skull) or below S1 (coccyx, hips, femora): a network
    that does not learn this marks femoral heads.

    Args:
        cells: (N, 2) row and column of the centroids in the map, head to foot.
        levels: (N,) places in the level table.
        complete: whether every vertebra in the film is labelled.

    Returns:
        (2, 4) above and below: first and last row, first and last column; an empty box is `NOWHERE`.
    """
    boxes = np.array([NOWHERE, NOWHERE], np.float32)
    if complete:
        return boxes
    step = float(np.abs(np.median(np.diff(cells[:, 0])))) if len(cells) > 1 else LONE_STEP
    aside = max(ASIDE_STEPS * step, ASIDE_CELLS)
    upside_down = len(cells) > 1 and cells[0, 0] > cells[-1, 0]
    top_reach = {TOP: 0.0, NEXT_TO_TOP: ONE_MORE}.get(int(levels[0]), np.inf)
    bottom_reach = {S1_INDEX: 0.0, **dict.fromkeys(LAST_LUMBAR, ONE_MORE)}.get(int(levels[-1]), np.inf)
    for box, end, reach, up in ((0, 0, top_reach, True), (1, -1, bottom_reach, False)):
        if reach == 0.0:
            continue
        row, column = (float(v) for v in cells[end])
        near, far = HALF_STEP * step, reach * step
        rows = (row - far, row - near) if up != upside_down else (row + near, row + far)
        boxes[box] = (*rows, column - aside, column + aside)
    return boxes

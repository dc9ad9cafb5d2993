import numpy as np
import pytest

from scripts.reconstruction.steady import (
    AUTOMATIC_MARKS,
    ERRORS,
    MARKS,
    PEOPLE,
    SEEN_OF_AUTOMATIC,
    STEP,
    USUAL,
    Spread,
    steady_numbers,
)

LEVELS = [10, 11, 12, 13, 14]
NO_STEP = np.full(9, 1e-9)


def covariance(spread: Spread, count: int) -> np.ndarray:
    """The same by loops."""
    table = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            table[i, j] = spread.person**2 + spread.smooth**2 * np.exp(-abs(i - j) / spread.reach)
            table[i, j] += spread.own**2 if i == j else 0
    return table


@pytest.mark.parametrize(("number", "automatic"), [(0, False), (0, True), (2, True), (3, True), (8, False)])
def test_the_posterior_mean_in_its_other_form(number: int, automatic: bool) -> None:
    read = np.zeros((5, 9))
    read[:, number] = [0.4, 0.6, 2.0, 0.8, 1.0]
    people, errors = covariance(PEOPLE[number], 5), covariance(ERRORS[number], 5)
    mean, precision = USUAL[number], np.linalg.inv(errors)
    if number >= 3:
        # Precisions add up: (A^-1 + N^-1)^-1 N^-1 y is what the product states as A (A + N)^-1 y.
        wanted = mean + np.linalg.solve(np.linalg.inv(people) + precision, precision @ (read[:, number] - mean))
    else:
        # The same of both unknowns, the mark's error and where the body usually lies: y = (share, 1) (error, usual).
        marks = covariance((AUTOMATIC_MARKS if automatic else MARKS)[number], 5)
        design = np.hstack([np.eye(5) * (SEEN_OF_AUTOMATIC if automatic else 1), np.eye(5)])
        prior = np.linalg.inv(np.block([[marks, np.zeros((5, 5))], [np.zeros((5, 5)), people]]))
        both = np.linalg.solve(prior + design.T @ precision @ design, design.T @ precision @ (read[:, number] - mean))
        wanted = mean + both[:5] + both[5:]
    assert steady_numbers(read, LEVELS, automatic, NO_STEP)[:, number] == pytest.approx(wanted, abs=1e-6)
    rounded = steady_numbers(read, LEVELS, automatic)
    assert np.allclose(rounded / STEP, np.rint(rounded / STEP))
    assert np.abs(rounded[:, number] - wanted).max() <= STEP[number] / 2 + 1e-9


def test_what_one_vertebra_shows_alone_is_mostly_an_error() -> None:
    read = np.zeros((5, 9))
    read[2, 8] = 0.1
    alone = steady_numbers(read, LEVELS, step=NO_STEP)[:, 8]
    together = steady_numbers(read + 0.1 * np.eye(9)[8], LEVELS, step=NO_STEP)[:, 8]
    assert alone.argmax() == 2 and alone[2] < 0.05 and (alone[[0, 1, 3, 4]] > 0).all()
    assert (together > alone).all() and together.max() < 0.2


def test_places_are_trusted_where_marks_are_not() -> None:
    read = np.zeros((3, 9))
    read[:, 1] = 3.0
    by_hand, by_network = (steady_numbers(read, [18, 19, 20], kind)[:, 1] for kind in (False, True))
    assert (by_network > by_hand + 0.5).all() and (by_network < 3.0 / SEEN_OF_AUTOMATIC).all()
    # A mark that was corrected by hand counts as one by hand, and its neighbours gain from it nothing wrong.
    mixed = steady_numbers(read, [18, 19, 20], [True, False, True])[:, 1]
    assert mixed[1] < mixed[0] and mixed[1] < mixed[2]


def test_to_the_side_an_automatic_mark_is_believed_like_one_by_hand() -> None:
    """What misled the annotation network there misleads the reader, too."""
    read = np.zeros((3, 9))
    read[:, 2] = 3.0
    by_hand, by_network = (steady_numbers(read, [18, 19, 20], kind)[:, 2] for kind in (False, True))
    assert np.abs(by_network - by_hand).max() <= 0.25 and by_hand.max() < 2.0


def test_levels_apart_share_no_more_than_the_person() -> None:
    read = np.zeros((2, 9))
    read[1, 4] = 10
    near, far = (steady_numbers(read, levels, step=NO_STEP)[0, 4] for levels in ([8, 9], [8, 24]))
    assert 0 < far < near / 3
    assert steady_numbers(read[:1], [8]).shape == (1, 9)


def test_t12_and_l1_are_neighbours_unless_there_is_a_t13() -> None:
    read = np.zeros((2, 9))
    read[:, 3] = [0, 10]
    assert steady_numbers(read, [19, 20]).tolist() == steady_numbers(read, [18, 19]).tolist()
    read = np.array([0.0, 5, 10])[:, None] * np.eye(9)[3]
    assert steady_numbers(read, [19, 28, 20]).tolist() == steady_numbers(read, [17, 18, 19]).tolist()

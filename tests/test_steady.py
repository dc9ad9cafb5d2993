import numpy as np

from scripts.reconstruction.steady import STEP, steady_numbers


def test_neighbours_steady_a_reading() -> None:
    levels = [10, 11, 12, 13, 14]
    read = np.zeros((5, 9))
    read[:, 3] = [4, 6, 20, 8, 10]
    steady = steady_numbers(read, levels)
    # Each row by hand: exp(-1/2 (d / 0.6)^2) for d = 0, 1, 2, 3, 4.
    weights = np.array([1.0, 0.2494, 0.0039, 0.0, 0.0])
    middle = weights[[2, 1, 0, 1, 2]]
    assert abs(steady[2, 3] - (middle @ read[:, 3]) / middle.sum()) <= 0.5
    assert abs(steady[0, 3] - (weights @ read[:, 3]) / weights.sum()) <= 0.5
    assert np.allclose(steady / STEP, np.rint(steady / STEP))
    assert (steady[:, [0, 8]] == 0).all()


def test_levels_apart_count_as_far() -> None:
    read = np.zeros((2, 9))
    read[:, 3] = [0, 10]
    assert steady_numbers(read, [8, 24])[:, 3].tolist() == [0, 10]
    assert steady_numbers(read[:1], [8]).shape == (1, 9)


def test_t12_and_l1_are_neighbours_unless_there_is_a_t13() -> None:
    read = np.zeros((2, 9))
    read[:, 3] = [0, 10]
    assert steady_numbers(read, [19, 20]).tolist() == steady_numbers(read, [18, 19]).tolist()
    read = np.array([0.0, 5, 10])[:, None] * np.eye(9)[3]
    assert steady_numbers(read, [19, 28, 20]).tolist() == steady_numbers(read, [17, 18, 19]).tolist()

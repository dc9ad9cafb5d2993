"""Which patients train, validate and test: whole patients always, by a seeded draw that names can overrule."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from scripts.data.datalist import LISTS_FILE
from scripts.errors import UserError

# Lists that patients can be named for, the first to be filled first.
NAMED = ("test", "validation", "training")


@dataclass(frozen=True)
class SplitOptions:
    """Who goes where; whole patients always.

    Args:
        test_share: share of patients drawn for the test list (the paper's 4:1).
        validation_share: share of the remaining ones drawn for validation.
        test: patients that are in the test list whatever the draw, comma-separated.
        validation: patients that are in the validation list whatever the draw, comma-separated.
        training: patients that are in the training list whatever the draw, comma-separated.
    """

    test_share: float = 0.2
    validation_share: float = 0.1
    test: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    training: tuple[str, ...] = ()

    def among(self, patients: set[str]) -> SplitOptions:
        """The same without the names of those who are not there, as whose only scan could not be used."""
        named: dict[str, Any] = {name: tuple(p for p in getattr(self, name) if p in patients) for name in NAMED}
        return replace(self, **named)

    def renamed(self, names: Mapping[str, set[str]]) -> SplitOptions:
        """The same with one name for each patient.

        Args:
            names: every name that a patient has in a release, by the one that counts.
        """
        own = {other: name for name, others in names.items() for other in others if other not in names}
        named: dict[str, Any] = {k: tuple(dict.fromkeys(own.get(p, p) for p in getattr(self, k))) for k in NAMED}
        return replace(self, **named)


def empty_lists(counts: Mapping[str, int], split: SplitOptions) -> list[str]:
    """What to tell a user whose lists are empty though patients were asked for; nothing if all is well.

    Args:
        counts: vertebrae per list.
        split: that was asked for.
    """
    if not any(counts[name] for name in NAMED):
        return [f"no vertebra is in any list; {LISTS_FILE} says why, under excluded"]
    shares = {"test": split.test_share, "validation": split.validation_share}
    lines = []
    for name in [name for name in shares if not counts[name]]:
        if getattr(split, name):
            lines.append(f"the {name} list is empty: no vertebra of {', '.join(getattr(split, name))} can be in a list")
        elif shares[name]:
            lines.append(
                f"the {name} list is empty: a share of {shares[name]:g} of so few patients is none; name patients with "
                f"--{name}, or ask for none with --{name}-share 0"
            )
    return lines


def split_patients(subjects: Iterable[str], split: SplitOptions, seed: int) -> dict[str, str]:
    """Which list each patient belongs to.

    The draw ranks patients by a hash of seed and name, so that it does not depend on the order of the input and a
    patient who joins later leaves most others where they were.

    Raises:
        UserError: a patient is asked for in two lists, or a named one is not in the data.
    """
    known = set(subjects)
    unique = sorted(known)
    fixed: dict[str, tuple[str, ...]] = {name: getattr(split, name) for name in NAMED}
    membership: dict[str, str] = {}
    for name, patients in fixed.items():
        for patient in patients:
            if patient not in known:
                raise UserError(f"patient '{patient}' named for {name} is not in the data ({', '.join(unique[:10])})")
            if membership.setdefault(patient, name) != name:
                raise UserError(f"patient '{patient}' is named for two lists")
    free = sorted(
        (s for s in unique if s not in membership), key=lambda s: hashlib.sha256(f"{seed}:{s}".encode()).hexdigest()
    )
    wanted_test = max(round(len(unique) * split.test_share) - len(split.test), 0)
    wanted_validation = round((len(unique) - wanted_test - len(split.test)) * split.validation_share)
    wanted_validation = max(wanted_validation - len(split.validation), 0)
    for rank, subject in enumerate(free):
        test = rank < wanted_test
        validation = rank < wanted_test + wanted_validation
        membership[subject] = "test" if test else "validation" if validation else "training"
    return membership


def split_truth(subjects: Iterable[str], fitted: set[str], split: SplitOptions, seed: int) -> dict[str, str]:
    """Which list each patient belongs to; those whose labels are not ground truth only train, outside the draw.

    Args:
        subjects: all patients.
        fitted: those of them whose labels are fitted shapes.
        split: who goes where.
        seed: of the draw.

    Raises:
        UserError: a patient is asked for in two lists, a named one is not in the data, or a patient with fitted labels
            is named for test or validation.
    """
    for name in ("test", "validation"):
        wrong = fitted.intersection(getattr(split, name))
        if wrong:
            raise UserError(f"patient '{min(wrong)}' has fitted labels, which are no truth: not for {name}")
    training = tuple(s for s in split.training if s not in fitted)
    membership = split_patients(set(subjects) - fitted, replace(split, training=training), seed)
    return membership | dict.fromkeys(sorted(fitted), "training")

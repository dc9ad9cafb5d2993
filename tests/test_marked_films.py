"""Marks say which films they were set on, and are not taken for those of others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts.films.film import Films
from scripts.films.marked_films import accepted, marks_of_films, other_films
from scripts.films.options import ReadingOptions
from scripts.films.pair import read_films
from scripts.io.annotations import Annotations, read_annotations, write_annotations
from scripts.job.options import Job
from scripts.job.run import Networks, find_marks
from tests.conftest import SAMPLE


@pytest.fixture(scope="module")
def films() -> Films:
    return read_films(SAMPLE / "ap.nii.gz", SAMPLE / "lat.nii.gz")


@pytest.fixture(scope="module")
def marks(films: Films) -> Annotations:
    given = replace(read_annotations(SAMPLE / "annotations.json"), levels_confirmed=True)
    return marks_of_films(films, given)


def test_marks_of_these_films_are_taken_as_they_are(films: Films, marks: Annotations, tmp_path: Path) -> None:
    write_annotations(tmp_path / "marks.json", marks)
    kept = marks_of_films(films, read_annotations(tmp_path / "marks.json"))
    assert other_films(kept) == [] and kept.levels_confirmed
    assert (kept.ap.film, kept.lat.film) == (films.ap.fingerprint, films.lat.fingerprint)


def test_marks_of_other_films_are_told_until_a_person_confirms_them(films: Films, marks: Annotations) -> None:
    mirrored = replace(films, ap=replace(films.ap, pixels=np.ascontiguousarray(films.ap.pixels[:, ::-1])))
    doubted = marks_of_films(mirrored, marks)
    (line,) = other_films(doubted)
    assert line.startswith("AP: ") and not doubted.levels_confirmed and doubted.ap.film == films.ap.fingerprint
    # Once more says it once.
    assert marks_of_films(mirrored, doubted).warnings == doubted.warnings
    taken = accepted(mirrored, replace(doubted, levels_confirmed=True))
    assert other_films(taken) == [] and taken.levels_confirmed and taken.ap.film == mirrored.ap.fingerprint


def test_a_job_warns_of_marks_of_other_films(marks: Annotations, tmp_path: Path) -> None:
    path = tmp_path / "marks.json"
    write_annotations(path, marks)
    job = Job(
        ap=SAMPLE / "ap.nii.gz", lat=SAMPLE / "lat.nii.gz", annotations=path, reading=ReadingOptions(invert=("lat",))
    )
    found = find_marks(job, read_films(job.ap, job.lat, job.reading), Networks())
    assert [line[:4] for line in other_films(found)] == ["LAT:"]
    write_annotations(path, found)
    assert "another film" in json.loads(path.read_text())["warnings"][0]

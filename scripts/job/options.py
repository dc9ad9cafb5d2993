"""What is asked of the main job, by the command line and by the services; nothing here loads a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from scripts.films.options import ReadingOptions
from scripts.levels import Level
from scripts.localization.anchors import Anchors


@dataclass(frozen=True)
class Job:
    """Two films, and what is known and wanted of them.

    Args:
        ap: frontal radiograph (DICOM, NIfTI, PNG, JPEG or TIFF), or the folder of a study that holds it.
        lat: lateral radiograph (the same formats), or the folder of a study that holds it; it may be the same folder.
        annotations: annotations.json with the vertebrae's marks; found by the annotation network if left out.
        levels: which levels, comma-separated; all that are marked in both films if left out.
        anchor: a level that you know, as L5 (the lowest whole vertebra) or T12@lat:ROW,COLUMN (the one there); the
            others follow from it, those of annotations too.
        reading: how the films are to be read.
    """

    ap: Path
    lat: Path
    annotations: Path | None = None
    levels: tuple[Level, ...] = ()
    anchor: Anchors = ()
    reading: ReadingOptions = field(default_factory=ReadingOptions)


@dataclass(frozen=True)
class OutputOptions:
    """What a reconstruction's folder holds beside what it always does.

    Args:
        truth: true labelmap to compare with.
        dicom: also write dicom/, a segmentation and encapsulated STL; patient and study are those of DICOM films.
        mesh_formats: of the surfaces in meshes/: stl, obj, ply, comma-separated; spine.glb is always written.
        decimate: share of the surfaces' triangles to keep, 1 keeps all.
        turntable: name of a film of the turning spine to write, .gif or .mp4.
        timings: write what took how long, and how much memory, into report.json.
    """

    truth: Path | None = None
    dicom: bool = False
    mesh_formats: tuple[str, ...] = ("stl",)
    decimate: float = 1.0
    turntable: str = ""
    timings: bool = False


@dataclass(frozen=True)
class NetworkOptions:
    """Which networks do it, and how.

    Args:
        weights: of the reconstruction network, .pt or .ts file; the bundle's own if left out.
        localizer_weights: of the annotation network, .pt or .ts file; the bundle's own if left out.
        device: cpu, cuda, ...; a GPU if there is one and nothing is given.
        batch_size: vertebrae at a time.
        precision: float32, bfloat16 (half the time where processor or GPU have it), or auto, which takes it there.
    """

    weights: Path | None = None
    localizer_weights: Path | None = None
    device: str | None = None
    batch_size: int = 4
    precision: str = "auto"

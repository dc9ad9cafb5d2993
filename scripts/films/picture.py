"""PNG, JPEG and TIFF radiographs: grey values and nothing else that could be relied on."""

from __future__ import annotations

import os
import sys
import warnings as python_warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from scripts.errors import UserError
from scripts.films.dicom import finish
from scripts.films.film import Projection, Radiograph
from scripts.films.plausible import check_pixels

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
# Pillow inverts white-is-zero pictures up to 8 bits itself.
DEEP_MODES = ("I;16", "I;16B", "I;16L", "I", "F")
GREY_MODES = ("1", "L", *DEEP_MODES)
SAME_RESOLUTION = 0.02
# libtiff unpacks into the machine's byte order, whatever the file's; Pillow knows that for 16 bits without sign only.
NATIVE_ORDER = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "I;32B": "I;32N", "F;32BF": "F;32NF"}

# Of colours with 16 bits Pillow keeps the higher bytes. In the other order it keeps the lower ones; of grey with alpha,
# read as four bytes, the second one is the grey's lower one.
LOWER_BYTES = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA", "RGBX")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B" if sys.byteorder == "little" else "L"))
} | {"LA;16B": "RGBA"}
LUMA = (0.299, 0.587, 0.114)  # red, green and blue in Pillow's grey


def _deep_kinds() -> None:
    """Have Pillow open big-endian 32-bit and white-is-zero TIFFs of more than 8 bits too, as if black were zero."""
    kinds = TiffImagePlugin.OPEN_INFO
    kinds.setdefault((TiffImagePlugin.MM, 1, (1,), 1, (32,), ()), ("I", "I;32B"))
    for (order, photometric, *rest), mode in list(kinds.items()):
        if photometric == 1 and mode[0] in DEEP_MODES:
            kinds.setdefault((order, 0, *rest), mode)


_deep_kinds()


def read_picture(path: Path, wanted: Projection, invert: bool = False) -> Radiograph:
    """A picture file as a film: uncalibrated, taken as displayed for reading.

    The resolution that such files carry (dots per inch) is the screen's or the scanner's and is not used.

    Args:
        path: the file; grey of up to 32 bits, or colour.
        wanted: which view the user says it is.
        invert: whether its bones are dark.

    Raises:
        UserError: missing, no picture, damaged, several pages, blank.
    """
    name = wanted.value
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            # From a stream: by its name Pillow maps an uncompressed TIFF into memory and garbles one that is turned.
            with _silent_libtiff(), path.open("rb") as stream, Image.open(stream) as image:
                check_pixels((image.height, image.width), str(path))
                pixels, seen, notes = _grey(image, path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: no PNG, JPEG, TIFF or BMP picture, or one of a kind that is not read") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: too many pixels ({error})") from error
    except UserError:
        raise
    except (OSError, SyntaxError, EOFError) as error:
        raise UserError(f"{path}: not a readable picture, truncated or damaged ({type(error).__name__})") from error
    # Pillow's many formats have errors of their own.
    except Exception as error:
        raise UserError(f"{path}: not a readable picture ({type(error).__name__}: {str(error)[:80]})") from error
    side = "the patient's right at the left" if wanted is Projection.FRONTAL else "the patient facing left"
    film = Radiograph(pixels, None, warnings=tuple(f"{name}: {note}" for note in notes))
    return finish(film, wanted, str(path), seen, invert).warned(
        f"{name}: a picture without a header; taken as bones bright with {side}, see --invert and --mirror",
    )


@contextmanager
def _silent_libtiff() -> Iterator[None]:
    """Keep libtiff's own lines from standard error, where they come on top of the one line that names the file."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _grey(image: Image.Image, path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(rows, columns) float32, what of it is not transparent, and what was assumed."""
    pictures = getattr(image, "n_frames", 1)
    # A phone's second picture is a thumbnail or a map of its brightness.
    if pictures > 1 and image.format != "MPO":
        raise UserError(f"{path}: holds {pictures} pictures; give the one that shows the spine")
    notes = []
    white_is_zero = _tag(image, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0 and image.mode in DEEP_MODES
    signed = _tag(image, TiffImagePlugin.SAMPLEFORMAT) == 2
    words = isinstance(image, TiffImagePlugin.TiffImageFile) and {"I": np.uint32, "L": np.int8}.get(image.mode)
    resolution = _resolution(image)
    # Before anything else: Pillow loads a PNG to look for its orientation.
    low = _lower_bytes(image, path)
    # Pillow turns a TIFF as it loads it.
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    _native_order(image)
    image.load()
    if orientation in range(2, 9):
        notes.append(
            f"turned or mirrored as its EXIF orientation {orientation} says; marks refer to the turned picture"
        )
        image = ImageOps.exif_transpose(image)
    if min(resolution) > 0 and abs(resolution[0] / resolution[1] - 1) > SAME_RESOLUTION:
        notes.append(f"its resolution is not the same in both directions ({resolution[0]:g} x {resolution[1]:g} dpi)")
    seen = np.ones((image.height, image.width), bool)
    if image.mode not in GREY_MODES:
        if image.has_transparency_data:
            seen = np.asarray(image.convert("RGBA").getchannel("A")) > 0
        notes += [] if _is_grey(image) else ["a colour picture, taken as grey"]
        pixels = np.asarray(image.convert("L")) if low is None else _deep_grey(image, low)
    else:
        pixels = np.asarray(image)
    # Pillow's 32 bits are always signed, its 8 bits never.
    if words and signed == (words is np.int8):
        pixels = pixels.view(words)
    grey: np.ndarray = pixels.astype(np.float32)
    if white_is_zero:
        notes.append("white is zero in the file, inverted")
        grey = grey.max() + grey.min() - grey
    if not seen.any():
        raise UserError(f"{path}: every pixel is transparent")
    return grey, seen, notes


def _lower_bytes(image: Image.Image, path: Path) -> np.ndarray | None:
    """(rows, columns, 3) lower bytes of colours with 16 bits, upright; None of any other picture."""
    kinds = [tile.args if isinstance(tile.args, str) else str((tile.args or ("",))[0]) for tile in image.tile]
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    deep = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8 or any(";16" in kind for kind in kinds)
    if image.mode in GREY_MODES or not deep:
        return None
    # Of planes libtiff's decoder takes the higher bytes whatever order it is told.
    if _tag(image, TiffImagePlugin.PLANAR_CONFIGURATION) == 2 or not all(kind in LOWER_BYTES for kind in kinds):
        raise UserError(f"{path}: 16 bits a colour, in a form that is not read; save it as 16-bit grey")
    with path.open("rb") as stream, Image.open(stream) as again:
        again.tile = [
            tile._replace(args=LOWER_BYTES[kind] if isinstance(tile.args, str) else (LOWER_BYTES[kind], *tile.args[1:]))
            for tile, kind in zip(again.tile, kinds, strict=True)
        ]
        again.load()
        upright = ImageOps.exif_transpose(again)
    return np.asarray((upright.getchannel("G") if "LA;16B" in kinds else upright).convert("RGB"))


def _deep_grey(image: Image.Image, low: np.ndarray) -> np.ndarray:
    high = np.asarray(image.convert("RGB"))
    return sum(
        (weight * (256 * high[..., i].astype(np.float32) + low[..., i]) for i, weight in enumerate(LUMA)),
        start=np.zeros(low.shape[:2], np.float32),
    )


def _native_order(image: Image.Image) -> None:
    """Have what libtiff unpacks taken in the order in which it does."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        image.tile = [
            tile._replace(args=(NATIVE_ORDER.get(tile.args[0], tile.args[0]), *tile.args[1:]))
            if tile.codec_name == "libtiff"
            else tile
            for tile in image.tile
        ]


def _resolution(image: Image.Image) -> tuple[float, float]:
    """Dots per inch across and down, 0 where they are not said; Pillow's fractions cannot be divided."""
    across, down = image.info.get("dpi") or (0, 0)
    return (float(across), float(down)) if across > 0 and down > 0 else (0.0, 0.0)


def _tag(image: Image.Image, number: int) -> int | None:
    """The first value of a TIFF tag, None if there is none."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    value = image.tag_v2.get(number)
    return value[0] if isinstance(value, tuple) and value else value


def _is_grey(image: Image.Image) -> bool:
    small = np.asarray(image.convert("RGB").resize((64, 64)), dtype=int)
    return int(np.ptp(small, axis=-1).max()) <= 8

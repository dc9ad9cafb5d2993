"""What a workflow is given, checked before anything is written; what is wrong is one line, as for our own commands.

MONAI wraps an error of a config into others and Python prints them all. A `UserError` among them is printed alone.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from scripts.data.datalist import LISTS_FILE, read_datalist
from scripts.errors import UserError, reason_of
from scripts.io.nifti import open_nifti
from scripts.learning.checkpoint import refuse_checkpoints
from scripts.learning.overrides import check_options

COUNTS = ("batch_size", "max_epochs", "accumulate", "val_interval")
FOLDERS = ("dataset_dir", "films_dir", "output_dir")
SWITCHES = ("resume",)
WEIGHTS = ("init_weights",)
CHECKPOINTS = ("ckpt_path",)
DEVICES = ("device",)
# Options that a training may be without: their defaults, and what another value is told.
UNUSED: dict[str, tuple[Any, str]] = {
    "resume": (False, "has no effect in a training by the clock: begin with --init_weights OUT/model_snapshot.pt"),
    "accumulate": (1, "has no effect in this training: take a larger --batch_size"),
    "nproc_per_node": (1, "cannot train by the clock, which would end in one process while the others wait: use one"),
    "amp_dtype": (torch.bfloat16, "needs a gradient scaler, which this training lacks: leave it out"),
}


def load_items(
    dataset_dir: str,
    data_list: str,
    first: int | None = None,
    read_images: bool = False,
    names: Sequence[str] = ("image", "label"),
) -> list[dict[str, Any]]:
    """Items of a list of a prepared dataset, with full paths, as MONAI's datasets take them.

    Args:
        dataset_dir: folder made by ``prepare``.
        data_list: training, validation or test.
        first: how many to take; all if None.
        read_images: also read every image now, where a damaged one would end a workflow that has written others.
        names: the files that an item has to have.

    Raises:
        UserError: no dataset, an empty list, or a file of it is not there or, if they are read, damaged.
    """
    _say_user_errors_alone()
    items = read_datalist(Path(dataset_dir), data_list)[:first]
    for number, item in enumerate(items, start=1):
        for name in names:
            # These alone: MONAI's reader joins any text to the folder that names something there, "" for one.
            item[name] = os.path.normpath(os.path.join(dataset_dir, str(item.get(name, ""))))
            if not Path(item[name]).is_file():
                path = Path(dataset_dir) / LISTS_FILE
                raise UserError(f"{path}: item {number} of '{data_list}' has no file {name}: {item[name]}")
        if read_images:
            open_nifti(Path(item["image"]))
    return items


def check_own_images(dataset_dir: str, data_list: str) -> None:
    """Refuse a list whose images lie outside its dataset, where results are named after the place of their image in it.

    Args:
        dataset_dir: made by ``prepare``; a mixed list points to the files of other datasets.
        data_list: training, validation or test.

    Raises:
        UserError: an image lies elsewhere, so that its result would be written outside the folder for results.
    """
    root = os.path.abspath(dataset_dir)
    for item in read_datalist(Path(dataset_dir), data_list):
        image = os.path.abspath(os.path.join(root, str(item.get("image"))))
        if not Path(image).is_relative_to(root):
            raise UserError(
                f"{Path(dataset_dir) / LISTS_FILE}: its list '{data_list}' points to {image}, beside which its "
                "mask would be written; take the dataset that holds the image, not the mixed list"
            )


def check_settings(unused: dict[str, Any] | None = None, **settings: Any) -> None:
    """Refuse values of the command line that are not of the expected kind or that nothing reads, and to mix trainings.

    The first step of a workflow's ``run``: MONAI finds the bundle's own modules only from there on.

    Args:
        unused: value by its name of options that this workflow does without, of `UNUSED`.
        settings: value by its name in the config: numbers, names of folders and files, switches. With ``resume``,
            which only trainings with checkpoints have, ``output_dir`` must not hold any unless it is true.

    Raises:
        UserError: one is not, would have no effect, or another training's checkpoints lie there.
    """
    _say_user_errors_alone()
    check_options()
    for name, value in (unused or {}).items():
        default, reason = UNUSED[name]
        if value != default:
            raise UserError(f"--{name} {value} {reason}")
    for name, value in settings.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in FOLDERS:
            good, wanted = isinstance(value, str) and bool(value), "the name of a folder"
            if good and any(place.exists() and not place.is_dir() for place in (Path(value), *Path(value).parents)):
                raise UserError(f"--{name} {value}: there is a file where a folder is due")
        elif name in CHECKPOINTS:
            # None where none is loaded.
            good, wanted = value is None or (isinstance(value, str) and Path(value).is_file()), "an existing file"
        elif name in DEVICES:
            good, wanted = _is_there(value), f"cpu or a device that is there ({_devices()})"
        elif name in WEIGHTS:
            # Empty for none.
            good, wanted = isinstance(value, str) and (not value or Path(value).is_file()), "an existing file"
        elif name in SWITCHES:
            good, wanted = isinstance(value, bool), "True or False"
        elif name in COUNTS:
            good, wanted = number and value == int(value) and value >= 1, "a whole number from 1 on"
        elif name == "num_workers":
            good, wanted = number and value == int(value) and value >= 0, "a whole number from 0 on"
        else:
            good, wanted = number and 0 <= value < float("inf"), "a number from 0 on"
        if not good:
            raise UserError(f"--{name} is {wanted}, not {value!r}")
    if settings.get("resume") is False:
        refuse_checkpoints(Path(settings["output_dir"]))


def _is_there(device: Any) -> bool:
    """Whether a device is one of this machine; PyTorch without CUDA asserts that it has it."""
    try:
        torch.empty(0, device=torch.device(device))
    except (RuntimeError, TypeError, AssertionError):
        return False
    return True


def _devices() -> str:
    return ", ".join(f"cuda:{number}" for number in range(torch.cuda.device_count())) or "no GPU is"


def _say_user_errors_alone() -> None:
    """Print a `UserError` that ends the process as one line; code that catches it sees no difference.

    MONAI's `StatsHandler` logs the whole trace of an error that ends a run, so the log keeps its line alone too.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _print_error
        make = logging.getLogRecordFactory()

        def record(*values: Any, **options: Any) -> logging.LogRecord:
            made = make(*values, **options)
            error = made.exc_info[1] if made.exc_info else None
            if error is not None and isinstance(reason_of(error), UserError):
                made.exc_info = None
            return made

        logging.setLogRecordFactory(record)


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    reason = reason_of(error)
    if isinstance(reason, UserError):
        print(f"error: {reason}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)

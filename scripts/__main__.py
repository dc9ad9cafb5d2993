"""``python -m scripts VERB``: everything that is not a bundle workflow."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable

from scripts.cli import bundle, data, evaluation, films, services
from scripts.command import run_command

VERBS: dict[str, Callable[..., None]] = {
    "prepare": data.prepare,
    "simulate": data.simulate,
    "annotate": films.annotate,
    "reconstruct": films.reconstruct,
    "export": films.export,
    "evaluate": evaluation.evaluate,
    "benchmark": evaluation.benchmark,
    "verify": bundle.verify,
    "release": bundle.release,
    "evaluate-localization": evaluation.evaluate_localization,
    "view": films.view,
    "serve": services.serve,
    "listen": services.listen,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb.

    Returns:
        exit status: 0 only if the job was done.
    """
    # MONAI looks for a GPU decoder of DICOM whenever pydicom is installed; we do not use it.
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
    # Its warnings quote what it read, a patient's values among them.
    warnings.filterwarnings("ignore", module="pydicom")
    return run_command(VERBS, sys.argv[1:] if arguments is None else arguments, "python -m scripts")


if __name__ == "__main__":
    sys.exit(main())

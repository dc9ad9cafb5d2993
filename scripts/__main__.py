"""``python -m scripts VERB``: everything that is not a bundle workflow."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable

import fire

from scripts.cli import bundle, data, evaluation, films, services
from scripts.errors import UserError

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


def _check_options(words: list[str]) -> None:
    """Refuse unknown and missing options before any work: fire would call the verb first and complain afterwards."""
    if not words or words[0] not in VERBS or "--help" in words or "-h" in words:
        return
    parameters = inspect.signature(VERBS[words[0]]).parameters
    given = [word[2:].split("=")[0].replace("-", "_") for word in words[1:] if word.startswith("--") and len(word) > 2]
    for name in given:
        if name not in parameters:
            raise UserError(f"{words[0]} has no option --{name}; it has --{', --'.join(parameters)}")
    needed = [name for name, p in parameters.items() if p.default is inspect.Parameter.empty and name not in given]
    # Verbs can also be called with their arguments in order; then fire counts them.
    if needed and all(word.startswith("--") for word in words[1:2]):
        raise UserError(f"{words[0]} needs --{', --'.join(needed)}")


def main(arguments: list[str] | None = None) -> int:
    """Run one verb.

    Returns:
        exit status: 0 only if the job was done.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    os.environ.setdefault("PAGER", "cat")
    # MONAI looks for a GPU decoder of DICOM whenever pydicom is installed; we do not use it.
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
    try:
        _check_options(words)
        fire.Fire(VERBS, command=words, name="python -m scripts")
        return 0
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

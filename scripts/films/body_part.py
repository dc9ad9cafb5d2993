"""Whether a header says that a film shows another part of the body than the trunk or the neck."""

from __future__ import annotations

import re

from pydicom import Dataset

from scripts.films.header import printable, texts

# Terms of PS3.16 annex L that hold a part of the spine (CSPINE, LSSPINE, CHESTABDPELVIS, HEADNECK, WHOLEBODY, ...), and
# what machines write in other languages and forms.
SPINAL = re.compile(
    r"SPIN|VERTEB|COLUMN|RACHIS|WIRBEL|SKOLIO|SCOLIO|CERVIC|THORA|DORS|LUMB|SACR|COCCYX|CHEST|ABD|PELV|TRUNK|TORSO|NECK"
    r"|BODY|BACK|RIB|STERN|LUNG|HEART|SKELET|\b[HBL]WS\b"
)


def body_part_warning(header: Dataset, name: str) -> str:
    """A warning if Body Part Examined names what holds no part of the spine; empty if it does, or says nothing.

    Args:
        header: a mended data set.
        name: AP or LAT.
    """
    said = " ".join(texts(header, "BodyPartExamined"))
    if not said or SPINAL.search(said.replace("_", " ")):
        return ""
    return f"{name}: BodyPartExamined is {printable(said)}, which is not known to show the spine; is it the right film?"

"""How the annotation network's warnings begin, for those who drop or rename what they say."""

from __future__ import annotations

LEVELS_UNCERTAIN = "levels are uncertain by one"
FROM_THE_SACRUM = "levels are counted from the sacrum, taking it that there are five lumbar vertebrae"
IN_ONE_VIEW = "seen in one view only"
IN_NO_VIEW = "no view shows"

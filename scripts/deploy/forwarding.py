"""Results from the spool to the archive, as often as it takes."""

from __future__ import annotations

import asyncio

from scripts.deploy.sender import Outcome, Peer, Sender, UnreadableResultError
from scripts.io.atomic import NoRoomError
from scripts.serving.security import log_failure, tell
from scripts.serving.spool import OUTPUT, Spool, State

POLL_S = 0.2
RETRY_S = (1.0, 60.0)


async def forward(spool: Spool, peer: Peer) -> None:
    """Send what waits, for ever; the pause grows as long as something is left."""
    sender, pause = Sender(peer), RETRY_S[0]
    while True:
        if await _round(spool, sender):
            pause = RETRY_S[0]
            await asyncio.sleep(POLL_S)
        else:
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_S[1])


async def _round(spool: Spool, sender: Sender) -> bool:
    """Each job that waits once; whether all were stored."""
    stored, left = 0, 0
    for folder in spool.jobs(State.SENDING):
        try:
            outcome = await asyncio.to_thread(sender.send, folder / OUTPUT / "dicom")
            if outcome is Outcome.STORED:
                spool.move(folder.name, State.SENDING, State.DONE)
                stored += 1
                continue
            left += 1
            if outcome is Outcome.UNREACHABLE:
                break
        except UnreadableResultError:
            left += 1
            try:
                spool.count_attempt(folder.name, State.SENDING)
                if spool.give_back(folder.name, State.SENDING) is State.WAITING:
                    tell(f"job {folder.name}: its results cannot be read and are computed anew")
            except (OSError, NoRoomError) as error:
                log_failure(error)
        except OSError as error:
            left += 1
            log_failure(error)
    if stored and not left:
        sender.tell_recovery()
    return not left

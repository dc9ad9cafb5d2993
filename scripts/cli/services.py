"""Services for a hospital."""

from __future__ import annotations

from pathlib import Path


def serve(
    spool: Path,
    host: str = "127.0.0.1",
    port: int = 8766,
    capacity: int = 32,
    keep_hours: float = 24.0,
    most_gb: float = 50.0,
    name: str = "",
) -> None:
    """Reconstruct what is handed in over HTTP, one pair after the other.

    Args:
        spool: folder for what waits and what is done; a job that was accepted is never lost.
        host: address to serve on; on another than this machine's own a token is asked for.
        port: to serve on; 0 for a free one.
        capacity: jobs that may wait; more are refused until there is room.
        keep_hours: how long results stay.
        most_gb: how large the spool may become; more is refused until there is room.
        name: under which a proxy offers it, as spine.example.org; a token is then asked for.
    """
    from scripts.deploy.service import serve as serve_jobs

    serve_jobs(spool, host, port, capacity, keep_hours, most_gb, name)


def listen(
    spool: Path,
    send_to: str = "",
    host: str = "127.0.0.1",
    port: int = 11112,
    ae_title: str = "SPINE3D",
    settle_s: float = 30.0,
    keep_hours: float = 24.0,
    geometry: Path | None = None,
    anchor: str = "",
) -> None:
    """Receive studies over DICOM, reconstruct each pair of films and send the results on.

    Args:
        spool: folder for what waits and what is done; a study that was received is never lost.
        send_to: where results go, as AETITLE@host:port; they stay in the spool if left out.
        host: address to listen on.
        port: to listen on; 0 for a free one.
        ae_title: of this node.
        settle_s: a study is complete when it has a pair and nothing has come for so long.
        keep_hours: how long results, and studies without a pair, stay.
        geometry: YAML or JSON file that says how the machine takes its films, where their headers do not;
            docs/films.md describes it.
        anchor: a level that holds in all films, as L5 where the lowest whole vertebra always is L5.
    """
    from scripts.deploy.listener import listen as listen_dicom

    listen_dicom(spool, send_to, host, port, ae_title, settle_s, keep_hours, geometry, anchor)

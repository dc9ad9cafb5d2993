"""``python -m tests.quick SPOOL PORT PEER``."""

import sys
from pathlib import Path

from scripts.deploy.listener import listen
from scripts.serving.engine import Engine

if __name__ == "__main__":
    spool, port, peer = sys.argv[1:]
    listen(Path(spool), peer, "127.0.0.1", int(port), "SPINE3D", 0.3, 24.0, engine=Engine("tests.quick"))

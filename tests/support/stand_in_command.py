"""The command `imagetrain` with stand-in workers (see stand_in_worker.py)."""

import pathlib
import sys

from imagetrain_client.cli import main
from imagetrain_client.executor import processes

COMMAND = [sys.executable, str(pathlib.Path(__file__).with_name("stand_in_worker.py"))]

if __name__ == "__main__":
    processes.resolve_command = lambda command: COMMAND
    main.main()

import os
import subprocess
import sys

from imagetrain_trainer.worker import reaper


def test_dead_child_that_nobody_waits_for_is_reaped_after_a_while() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    now = 100.0
    buries = reaper.Reaper(lambda: now)
    assert buries.reap() == []
    now = 104.0
    assert buries.reap() == []
    now = 105.0
    assert child.pid in buries.reap()
    child.returncode = 0  # Popen need not look for it
    assert child.pid not in buries.reap()


def test_living_child_is_left_alone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    now = 100.0
    buries = reaper.Reaper(lambda: now)
    buries.reap()
    now = 200.0
    assert child.pid not in buries.reap()
    assert child.poll() is None
    child.kill()
    child.wait()

"""Conditions with deadlines."""

import ctypes
import signal
import time


def until(what, seconds_max, condition, pause_s=0.1):
    """Waits until `condition` gives something true and gives it; fails with `what` after `seconds_max`."""
    began = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() - began > seconds_max:
            raise AssertionError(f"waited {seconds_max} s in vain until {what}")
        time.sleep(pause_s)


def die_with_parent():
    """For a child before it becomes another program: it is killed when this test ends, however it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)

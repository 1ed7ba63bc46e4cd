"""Waiting for conditions, never for time, and never for ever."""

import time
from collections.abc import Callable
from typing import Optional, TypeVar

T = TypeVar("T")
PATIENCE_S = 40.0
"""Far more than anything here takes, since a busy machine is no mistake; less than a test may take."""


def until(what: str, condition: Callable[[], Optional[T]]) -> T:
    """What the condition gives, once it gives something that counts as true."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {PATIENCE_S} s for {what}")

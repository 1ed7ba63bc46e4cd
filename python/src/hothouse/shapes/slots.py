"""Slots for dataclasses where Python can make them (from 3.10 on): less memory, and faster to read."""

import sys

SLOTS: dict[str, bool] = {"slots": True} if sys.version_info >= (3, 10) else {}

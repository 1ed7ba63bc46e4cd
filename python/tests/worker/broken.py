"""Breaks while it is imported."""

result = 1 / 0

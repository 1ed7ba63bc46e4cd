"""The asynchronous half, tested; `generate_sync.py` makes the tests of the blocking half from it."""

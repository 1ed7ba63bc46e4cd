"""The blocking half, tested by what `generate_sync.py` makes from the tests of the asynchronous one."""

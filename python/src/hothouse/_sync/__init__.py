"""The blocking half, generated from `_async` by `generate_sync.py`. Only `seam.py` is written by hand in both."""

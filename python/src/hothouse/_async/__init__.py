"""The asynchronous half, of which `generate_sync.py` makes the blocking one. `seam.py` is written by hand in both."""

"""The worker, as a real process behind a real socket."""

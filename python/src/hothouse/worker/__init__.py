"""The worker: serves an environment to `hothouse` over a Unix socket, many sessions on each connection.

`python -m hothouse.worker TARGET --socket PATH` imports TARGET once and forks a process for each connection.
"""

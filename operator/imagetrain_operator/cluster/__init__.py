"""Everything that talks to the API server or to a worker: client, caches, lease, events, progress.

No decision lies here.
"""

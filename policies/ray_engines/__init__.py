"""Sampling on many engines: Ray actors, each with an engine of its own, behind the interface of one sampler.

`cluster.py` starts Ray or joins a cluster, `actor.py` is what runs in an engine's process, `transfer.py` and
`images.py` carry directories and images to other nodes, `engine.py` is an actor as the controller sees it, `roster.py`
begins, proves and shuts out engines, `engines.py` is the sampler.
"""

"""Sampling on many engines: Ray actors, each with an engine of its own, behind the interface of one sampler.

`cluster.py` starts Ray or joins a cluster, `actor.py` runs in an engine's process, `transfer.py` and `images.py`
send directories and images to other nodes. In the controller `engine.py` has the state of one engine, `roster.py`
starts, proves and shuts out engines, and `engines.py` is the sampler.
"""

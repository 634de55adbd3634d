"""Sampling on many engines: Ray actors, each with an engine of its own, behind the interface of one sampler.

`cluster.py` starts Ray or joins a cluster, `actor.py` is what runs in an engine's process, `transfer.py` carries
directories to other nodes, `engine.py` is an actor as the controller sees it, `engines.py` the sampler.
"""

"""Ray itself: a local one that is started and stopped with the run, or a cluster that is there."""

import importlib.util
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from policies import PolicyError, first_line

CONNECT_SECONDS = 10.0
"""How long the head of a cluster has to answer."""


@dataclass(frozen=True)
class Resources:
    """What one engine takes of a node."""

    cpus: int
    gpus: int


def require_ray(key: str) -> None:
    """Raise PolicyError, naming the key that wants it, if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise PolicyError(f"{key} needs Ray; install the extra 'cluster': pip install 'ratchet-loop[cluster]'")


@contextmanager
def joined(address: str | None) -> Iterator[None]:
    """Ray while the context lasts: on this machine if there is no address, else the cluster there.

    Inside another such context it changes nothing. Raises PolicyError if the cluster does not answer or runs another
    version.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    if address not in (None, "auto"):
        _require_answer(str(address))
    options: dict[str, Any] = {} if address else {"num_cpus": os.cpu_count(), "include_dashboard": False}
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"cluster.address = {address!r}" if address else "a local Ray"
        raise PolicyError(
            f"{where} cannot be joined ({first_line(error)}); start it with 'ray start --head'"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def require_room(engines: int, each: Resources) -> None:
    """Raise PolicyError, naming the key, if the cluster has too few processors or accelerators."""
    import ray

    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for what, wanted in (("GPU", each.gpus), ("CPU", each.cpus)):
        if engines * wanted > there.get(what, 0):
            raise PolicyError(
                f"engine.replicas = {engines} needs {engines * wanted} {what}s, the cluster has"
                f" {there.get(what, 0):.0f}; lower engine.replicas or add nodes"
            )


def _require_answer(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"cluster.address = {address!r}: nothing answers there ({error}); name the head as HOST:PORT, 'auto' on a"
            " node of the cluster, or leave the key out for this machine alone"
        ) from error

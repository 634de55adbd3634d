"""Starts and stops a local Ray with the run, or joins an existing cluster."""

import importlib.util
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import policies
from policies import PolicyError, first_line

PROJECT = str(Path(policies.__file__).resolve().parent.parent)
"""Where the project's packages lie, be it a checkout or site-packages."""

CONNECT_SECONDS = 10.0
"""How long the head of a cluster has to answer."""


@dataclass(frozen=True)
class Resources:
    """The processors and accelerators that one engine takes of a node."""

    cpus: int = 0
    gpus: int = 0


NOTHING = Resources()


def has_ray() -> bool:
    """Whether Ray is installed."""
    return importlib.util.find_spec("ray") is not None


def require_ray(key: str) -> None:
    """Raise PolicyError, naming the key that needs it, if Ray is not installed."""
    if not has_ray():
        raise PolicyError(f"{key} needs Ray; install the extra 'cluster': pip install 'ratchet-loop[cluster]'")


@contextmanager
def joined(address: str | None) -> Iterator[None]:
    """A context with Ray: a local one if there is no address, else the cluster at the address.

    Inside another such context it changes nothing. Raises PolicyError if the cluster does not answer or runs another
    version.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    require_answer(address)
    options: dict[str, Any] = {} if address else {"num_cpus": os.cpu_count(), "include_dashboard": False}
    try:
        # Ray tells its processes the directory of the script and the current one, which need not be the project's.
        path = os.pathsep.join(filter(None, [PROJECT, os.environ.get("PYTHONPATH")]))
        environment = {"env_vars": {"PYTHONPATH": path}}
        ray.init(
            address or "local", log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment, **options
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"cluster.address = {address!r}" if address else "a local Ray"
        raise PolicyError(
            f"{where} cannot be joined ({first_line(error)}); start it with 'ray start --head'"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def room_for(wanted: int | None, each: Resources, kept: Resources) -> int:
    """Number of engines: the wanted one, or as many as the cluster can hold, with `kept` left for others.

    Raises PolicyError, naming the key, if the cluster has too few processors or accelerators.
    """
    import ray

    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    needs = [(what, per, there.get(what, 0.0) - keep) for what, per, keep in _resources(each, kept) if per]
    if wanted is None:
        wanted = max(1, min(int(free // per) for _, per, free in needs))
    for what, per, free in needs:
        if wanted * per > free:
            raise PolicyError(
                f"engine.replicas = {wanted} needs {wanted * per} {what}s, the cluster has {free:.0f}; lower"
                " engine.replicas or add nodes"
            )
    return wanted


def _resources(each: Resources, kept: Resources) -> list[tuple[str, int, int]]:
    return [("GPU", each.gpus, kept.gpus), ("CPU", each.cpus, kept.cpus)]


def require_answer(address: str | None) -> None:
    """Raise PolicyError if nothing answers at a cluster's address."""
    if address in (None, "auto"):
        return
    host, _, port = str(address).rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"cluster.address = {address!r}: nothing answers there ({error}); name the head as HOST:PORT, 'auto' on a"
            " node of the cluster, or leave the key out for this machine alone"
        ) from error


def reason_of(error: Exception) -> str:
    """The line with the reason in an error of Ray."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[-1] if isinstance(cause, type(error)) and lines else first_line(cause)}"

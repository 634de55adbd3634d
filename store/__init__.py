"""The store: questions, samples, verdicts, pairs, policies, evaluations, in one SQLite file."""

from store.database import Store, open_store
from store.errors import StoreError
from store.lock import RunLocked, run_lock

__all__ = ["RunLocked", "Store", "StoreError", "open_store", "run_lock"]

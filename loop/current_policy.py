"""The links in a run directory that lead to the accepted weights."""

from pathlib import Path

from store import Store
from store.gate import best_policy
from store.rounds import get_policy


def point_to_current(store: Store, run_dir: Path) -> None:
    """Make `DIR/policies/current` a link to the accepted policy's directory, and `DIR/policy` one to `DIR/policies`."""
    served = best_policy(store)
    if served == 0:
        return
    temporary, link = run_dir / "policies" / "current.tmp", run_dir / "policies" / "current"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(Path(get_policy(store, served).path).name)
    temporary.replace(link)
    if not (run_dir / "policy").is_symlink():
        (run_dir / "policy").symlink_to("policies")

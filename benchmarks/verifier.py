"""The gain by the verifier, by how token scores are combined: `python -m benchmarks.verifier RUN_DIR`.

Reads what `run_loop.py evaluate RUN_DIR --policy P --reference R --best-of K` kept: chains of policy P, each token with
the log-ratio of the later of the two policies to the earlier. A row a way of putting them together: how often a right
chain of a question is ranked above a wrong one, best of K, weighted vote; percent.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from judges.vote import vote
from loop.evaluation.best_of import Ballot, chosen_by, read_ballot, same_answer, weighted_votes
from loop.reading.accuracy_log import reported_split, trained_style
from store import Store, open_store
from store.evaluations import greedy_outcomes, scored_samples
from store.gate import best_policy
from store.questions import Question, find_questions
from store.rounds import cold_start_policy

WAYS: dict[str, Callable[[Sequence[float]], float]] = {"worst token": min, "mean": statistics.fmean, "sum": sum}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--policy", type=int, help="whose chains; the accepted policy if left out")
    parser.add_argument("--reference", type=int, help="the cold start if left out")
    parser.add_argument("--samples", type=int, default=8, help="K")
    options = parser.parse_args()
    store = open_store(options.run_dir, read_only=True)
    policy = best_policy(store) if options.policy is None else options.policy
    reference = cold_start_policy(store) if options.reference is None else options.reference
    for name, row in measure(store, policy, reference, options.samples).items():
        print(f"{name:>14}", *(f"{key} {value:5.1f}" for key, value in row.items()), sep="  ")
    store.close()


def measure(store: Store, policy: int, reference: int, samples: int) -> dict[str, dict[str, float]]:
    """Percentages by way and column. Raises SystemExit where `evaluate --best-of` has not been there yet."""
    split, style = reported_split(store), trained_style(store)
    chains: dict[int, list[Any]] = defaultdict(list)
    for row in scored_samples(store, policy, reference, split, style, samples):
        chains[row["question"]].append(row)
    if not chains or all(row["token_scores"] is None for rows in chains.values() for row in rows):
        raise SystemExit(
            f"no scored chains: run_loop.py evaluate {store.path.parent} --policy {policy} --reference {reference}"
            f" --best-of {samples} makes them"
        )
    greedy = greedy_outcomes(store, policy, split, style)
    asked = find_questions(store, f"id IN ({','.join(map(str, chains))})")
    found: dict[str, dict[str, float]] = {}
    for name, together in WAYS.items():
        cast = {number: [read_ballot(row, together) for row in rows] for number, rows in chains.items()}
        if not found:
            found[f"{len(asked)} questions"] = _unweighted(asked, cast, greedy)
        ranked = [right.score > wrong.score for ballots in cast.values() for right, wrong in product(*_sides(ballots))]
        found[name] = {
            "ranked rightly": _percent(ranked),
            "best of K": _percent([chosen_by(each, [b.score for b in each]) for each in cast.values()]),
            "weighted vote": _percent(
                [chosen_by(cast[q.id], weighted_votes(cast[q.id], same_answer(q))) for q in asked]
            ),
        }
    return found


def _unweighted(asked: Sequence[Question], cast: dict[int, list[Ballot]], greedy: dict[int, bool]) -> dict[str, float]:
    votes = {q.id: vote([b.answer for b in cast[q.id]], same_answer(q)).votes for q in asked}
    return {
        "greedy": _percent([greedy[q.id] for q in asked if q.id in greedy]),
        "majority": _percent([chosen_by(cast[q.id], [float(v) for v in votes[q.id]]) for q in asked]),
        "pass@K": _percent([any(b.correct for b in cast[q.id]) for q in asked]),
    }


def _sides(ballots: Sequence[Ballot]) -> tuple[list[Ballot], list[Ballot]]:
    answered = [each for each in ballots if each.answer is not None]
    return [each for each in answered if each.correct], [each for each in answered if not each.correct]


def _percent(values: Sequence[bool]) -> float:
    return 100 * statistics.fmean(values) if values else float("nan")


if __name__ == "__main__":
    main()

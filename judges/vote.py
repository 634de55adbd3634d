"""`vote`: the majority answer of a question's samples, and its share of the votes.

Self-consistency (Wang et al. 2023, arXiv 2203.11171) for maj@k; ScPO (Prasad et al. 2024, arXiv
2411.04109) for questions without an accepted answer: the most-voted answer against the least-voted
one, weighted by (V+ - V-) / k.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Same = Callable[[str, str], bool]
"""Whether two answers are the same by the question's own rule."""


@dataclass(frozen=True)
class Vote:
    """The count of one question's samples.

    `winner` is the answer with most votes, in its most frequent wording (None if no sample has an answer);
    among equals the earliest. `votes[i]` is the number of samples that agree with sample i, itself included,
    and 0 if it has no answer. `samples` counts those without an answer, too.
    """

    winner: str | None
    samples: int
    votes: tuple[int, ...]

    @property
    def share(self) -> float:
        """The winner's votes / samples."""
        return max(self.votes, default=0) / self.samples if self.samples else 0.0

    @property
    def margin(self) -> float:
        """(the winner's votes - those of the second answer) / samples."""
        counts = [count for count in self.votes if count]
        best = max(counts, default=0)
        # A class of n samples occurs n times among the votes.
        second = best if counts.count(best) > best else max((count for count in counts if count < best), default=0)
        return (best - second) / self.samples if self.samples else 0.0

    @property
    def shares(self) -> tuple[float, ...]:
        """Each sample's votes / samples: its score if no accepted answer is known."""
        return tuple(count / self.samples for count in self.votes)

    def weight(self, chosen: int, rejected: int) -> float:
        """ScPO's weight of a pair of samples: (V(chosen) - V(rejected)) / k."""
        return (self.votes[chosen] - self.votes[rejected]) / self.samples


def vote(answers: Sequence[str | None], same: Same) -> Vote:
    """Count the answers of one question's samples; None is a sample without an answer.

    An answer joins the first class whose most frequent wording equals it. So `same` is called
    for different wordings only, and the result is well-defined even if `same` is not transitive.
    """
    wordings = Counter(answer for answer in answers if answer is not None)
    representatives: list[str] = []
    class_of: dict[str, int] = {}
    for wording, _ in wordings.most_common():
        known = next((n for n, other in enumerate(representatives) if same(wording, other)), None)
        if known is None:
            known = len(representatives)
            representatives.append(wording)
        class_of[wording] = known
    sizes = Counter(class_of[answer] for answer in answers if answer is not None)
    votes = tuple(0 if answer is None else sizes[class_of[answer]] for answer in answers)
    most = max(votes, default=0)
    first = next((answer for answer, count in zip(answers, votes, strict=True) if answer and count == most), None)
    winner = None if first is None else representatives[class_of[first]]
    return Vote(winner, len(answers), votes)

"""Error rates of the gate: simulated candidates of known quality, decided by the gate's own test.

`python -m benchmarks.gate` prints two tables as Markdown. The first: how often a candidate is accepted, by how much
better it is, by how many questions there are and by how many of them the two policies answer differently. The second:
runs of many rounds, all judged on the same questions, where the best policy is replaced by any better one, or only
by one that is better by a standard error.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loop.evaluation.sequential_test import Evidence, sequential_test

WORTH = (-0.03, -0.02, -0.01, -0.005, 0.0, 0.005, 0.01, 0.03)
QUESTIONS = (500, 1000, 2400, 4800)
DIFFERENT = (0.03, 0.06, 0.12)
ROUNDS = (4, 20, 100)


@dataclass(frozen=True)
class Gate:
    """Settings of `[gate]` that the test depends on, and how many questions there are."""

    first: int
    margin: float
    level: float
    questions: int

    def judge(self, differences: Sequence[float]) -> tuple[bool, Evidence]:
        """Whether a candidate is accepted, and the evidence at that point."""
        return sequential_test(lambda count: differences[:count], self.first, self.questions, self.margin, self.level)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=4000, help="simulated candidates of each kind")
    parser.add_argument("--runs", type=int, default=400, help="simulated runs of each kind")
    parser.add_argument("--first", type=int, default=500)
    parser.add_argument("--margin", type=float, default=0.01)
    parser.add_argument("--level", type=float, default=0.05)
    options = parser.parse_args()
    print(f"| questions | different | {' | '.join(f'{100 * worth:+.1f}' for worth in WORTH)} | asked when equal |")
    print("| --- " * (len(WORTH) + 3) + "|")
    for questions in QUESTIONS:
        gate = Gate(options.first, options.margin, options.level, questions)
        for different in DIFFERENT:
            print(_error_rates(gate, different, options.candidates), flush=True)
    print()
    print("| rounds | best gives way to | accepted | better rejected | worse by the margin accepted | best policy |")
    print("| --- | --- | --- | --- | --- | --- |")
    gate = Gate(options.first, options.margin, options.level, 2400)
    for rounds in ROUNDS:
        for name, step in (("any better", 0.0), ("a standard error", 1.0)):
            print(f"| {rounds} | {name} | {_runs(gate, options.runs, rounds, step)} |", flush=True)


def _error_rates(gate: Gate, different: float, count: int) -> str:
    generator, cells, asked = np.random.default_rng(0), list[str](), 0.0
    for worth in WORTH:
        share = [(different + worth) / 2, (different - worth) / 2, 1 - different]
        judged = [
            gate.judge(generator.choice([1.0, -1.0, 0.0], gate.questions, p=share).tolist()) for _ in range(count)
        ]
        cells.append(f"{sum(accepted for accepted, _ in judged) / count:.0%}")
        if worth == 0.0:
            asked = sum(seen.questions for _, seen in judged) / count
    return f"| {gate.questions} | {different:.0%} | {' | '.join(cells)} | {asked:.0f} |"


class Simulated:
    """Policies of known accuracy that answer the same questions, each question with its own difficulty."""

    def __init__(self, seed: int, questions: int) -> None:
        self.draw = np.random.default_rng(seed)
        self.difficulty = self.draw.random(questions)

    def answers(self, worth: float) -> np.ndarray:
        """1 where a policy that is right with probability `worth` is right; questions near its limit are a toss."""
        shaken = (self.difficulty + self.draw.normal(0.0, 0.05, self.difficulty.size)) % 1.0
        return (shaken < worth).astype(float)

    def update(self, worth: float) -> float:
        """An update gains a quarter of what is left, give or take a point; one of seven falls."""
        if self.draw.random() < 1 / 7:
            return worth - self.draw.uniform(0.0, 0.08)
        return min(worth + self.draw.normal(0.25 * (1.0 - worth), 0.01), 0.995)


def _runs(gate: Gate, runs: int, rounds: int, step: float) -> str:
    accepted_, better, better_rejected, worse, worse_accepted = 0, 0, 0, 0, 0
    behind = list[float]()
    for seed in range(runs):
        world = Simulated(seed, gate.questions)
        serving = best = top = 0.75
        answers_of_best = world.answers(best)
        for _ in range(rounds):
            candidate = world.update(serving)
            answers = world.answers(candidate)
            accepted, seen = gate.judge((answers - answers_of_best).tolist())
            accepted_ += accepted
            better += candidate >= best
            better_rejected += candidate >= best and not accepted
            worse += candidate <= best - gate.margin
            worse_accepted += candidate <= best - gate.margin and accepted
            if accepted:
                serving, top = candidate, max(top, candidate)
                if seen.difference > step * seen.error:
                    best, answers_of_best = candidate, answers
        behind.append(top - best)
    return (
        f"{accepted_ / (runs * rounds):.0%} | {better_rejected / max(better, 1):.1%}"
        f" | {worse_accepted / max(worse, 1):.1%} | {100 * float(np.mean(behind)):.2f} points below the best of its run"
    )


if __name__ == "__main__":
    main()

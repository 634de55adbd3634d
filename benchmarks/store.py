"""The store at 10 thousand, 1 million and 10 million samples: `python -m benchmarks.store`.

Fills a store in a temporary directory (about 4 GB; `--folder` says where), measures, and deletes it. Rounds are of
10,000 questions x 16 samples; chains are as long as `--tokens` says. One JSON object a row.
"""

import argparse
import json
import os
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from loop.config.load import parse_config
from loop.config.schema import Config
from loop.context import BatchSizes
from loop.phases.pair import pair
from loop.terminal.console import Console
from store import Store, open_store
from store.database import as_json, now
from store.new_questions import NewQuestion, add_questions
from store.packing import pack_token_ids
from store.rounds import Policy, add_policy, end_phase, get_round, record_decision, start_round
from store.samples import NewSample, NewVerdict, add_samples, add_verdicts, present_samples, unjudged_samples

PROJECT = Path(__file__).resolve().parent.parent
SIZES = BatchSizes()
QUESTIONS, SAMPLES, HELD_OUT = 10_000, 16, 2_000
ROUND = QUESTIONS * SAMPLES
BEGUN = 10_000
"""Samples that the round in progress has when 'what is missing' is asked."""
VOCABULARY = 49_152
WORDS = ("red", "circle", "the", "shape", "is", "no", "yes", "blue", "left", "count", "answer", "so", "because")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--tokens", type=int, default=28, help="tokens a chain; the demo's are 28 long")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the temporary directory is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        bench = Bench(Path(folder), options.tokens, options.repeats)
        for size in options.sizes:
            bench.grow_to(size)
            bench.missing(size)
        bench.finish_round()
        bench.pairs()
        bench.inserts()
        bench.commands()


class Bench:
    """A store that grows, and what is measured on it."""

    def __init__(self, folder: Path, tokens: int, repeats: int) -> None:
        self.folder, self.repeats = folder, repeats
        self.store = open_store(folder, create=True)
        self.config = parse_config(
            {
                "policy": {"model": "none"},
                "questions": {"source": "jsonl", "path": "none"},
                "teacher": {"enabled": False},
                "sampling": {"questions": QUESTIONS, "samples": SAMPLES},
                "evaluation": {"limit": HELD_OUT},
            },
            "benchmark",
        )
        rng = random.Random(0)
        self.chains = [_chain(rng, tokens) for _ in range(2_000)]
        self.number, self.filled = 0, 0
        self._found()

    def _found(self) -> None:
        with self.store.transaction():
            self.store.connection.execute(
                "INSERT INTO run (id, seed, configuration, packages, created) VALUES (1, 0, ?, '{}', ?)",
                (as_json(self.config.model_dump(mode="json")), now()),
            )
            add_policy(self.store, Policy(0, None, "base", "0" * 64, "base", {}))
            for split, count in (("train", QUESTIONS), ("test", HELD_OUT)):
                add_questions(
                    self.store,
                    [NewQuestion(f"question {n}?", ["red"], [], split, "bench", "exact") for n in range(count)],
                )
        start_round(self.store, 0, "distil", 0, [])
        record_decision(self.store, 0, "no_update", "benchmark")
        end_phase(self.store, 0, "gate", "done", 1.0)

    @property
    def total(self) -> int:
        return self.number * ROUND - (ROUND - self.filled) if self.number else 0

    def grow_to(self, size: int) -> None:
        """Whole rounds, then one that has BEGUN samples, none of them judged."""
        started = time.monotonic()
        if self.number:
            self.finish_round()
        while self.total + ROUND + BEGUN <= size:
            self._start_round()
            self.finish_round()
        self._start_round()
        self._fill(BEGUN, judged=False)
        self.store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _say("filled", samples=self.total, seconds=round(time.monotonic() - started, 1))
        if self.total > ROUND:
            text = statistics.mean(len(text.encode()) for text, _, _ in self.chains)
            ids = statistics.mean(len(blob) for _, blob, _ in self.chains)
            _say(
                "bytes a sample beyond its text",
                samples=self.total,
                bytes=round(self._bytes() / self.total - text, 1),
                token_ids=round(ids, 1),
            )

    def finish_round(self) -> None:
        """Fill and judge the round in progress, evaluate a policy, end it."""
        self._fill(ROUND - self.filled, judged=True)
        self._judge_rest()
        policy = self.number
        with self.store.transaction():
            add_policy(self.store, Policy(policy, policy - 1, "dpo", f"{policy:064d}", f"policies/{policy:04d}", {}))
            self.store.connection.executemany(
                "INSERT INTO evaluation (policy, split, style, question, text, tokens, finish_reason, judge,"
                " judge_version, extracted, score, outcome) VALUES (?, 'test', ?, ?, 'red', 1, 'stop', 'exact', '1',"
                " 'red', 1.0, 'correct')",
                [(policy, style, QUESTIONS + 1 + n) for style in ("cot", "direct") for n in range(HELD_OUT)],
            )
            self.store.connection.execute(
                "UPDATE round SET candidate_policy = ? WHERE number = ?", (policy, self.number)
            )
        record_decision(self.store, self.number, "accepted", "benchmark")
        end_phase(self.store, self.number, "gate", "done", 1.0)

    def _start_round(self) -> None:
        start_round(self.store, self.number + 1, "sample", self.number, range(1, QUESTIONS + 1))
        self.number, self.filled = self.number + 1, 0

    def _fill(self, count: int, *, judged: bool) -> None:
        first = self.store.value("SELECT coalesce(max(id), 0) FROM sample") + 1
        connection, places = self.store.connection, range(self.filled, self.filled + count)

        def samples() -> Iterator[tuple[Any, ...]]:
            for place in places:
                text, blob, _ = self._of(place)
                yield (
                    self.number,
                    place // SAMPLES + 1,
                    self.number - 1,
                    place % SAMPLES,
                    place * 7919,
                    text,
                    blob,
                    place,
                )

        with self.store.transaction():
            connection.executemany(
                'INSERT INTO sample (round, question, author, policy, style, "index", seed, temperature, text,'
                " token_ids, tokens, logprob, finish_reason, created)"
                " VALUES (?, ?, 'policy', ?, 'cot', ?, ?, 1.0, ?, ?, 30, -12.345, 'stop', 1795000000 + ?)",
                samples(),
            )
            if judged:
                connection.executemany(
                    "INSERT INTO verdict (sample, judge, judge_version, extracted, score, outcome)"
                    " VALUES (?, 'exact', '1', 'red', 1.0, ?)",
                    ((first + n, self._of(place)[2]) for n, place in enumerate(places)),
                )
        self.filled += count

    def _judge_rest(self) -> None:
        with self.store.transaction():
            self.store.connection.execute(
                "INSERT INTO verdict (sample, judge, judge_version, extracted, score, outcome)"
                " SELECT id, 'exact', '1', 'red', 1.0, CASE id % 2 WHEN 0 THEN 'correct' ELSE 'wrong' END FROM sample"
                " WHERE round = ? AND NOT EXISTS (SELECT 1 FROM verdict WHERE verdict.sample = sample.id)",
                (self.number,),
            )
            self.store.connection.execute(
                "INSERT INTO vote (round, question, answer, samples, share, margin, outcome)"
                " SELECT round, question, 'red', ?, 0.5, 0.1, 'correct' FROM round_question WHERE round = ?",
                (SAMPLES, self.number),
            )

    def _of(self, place: int) -> tuple[str, bytes, str]:
        return self.chains[(place * 31 + self.number) % len(self.chains)]

    def _bytes(self) -> int:
        """Pages of the samples, their verdicts, and every index of both."""
        tables = "SELECT name FROM sqlite_master WHERE tbl_name IN ('sample', 'verdict')"
        return int(self.store.value(f"SELECT sum(pgsize) FROM dbstat WHERE name IN ({tables})"))

    def missing(self, size: int) -> None:
        """'What is missing' for the next batch: as the phases `sample` and `judge` ask it."""
        asked: dict[str, Callable[[], object]] = {
            "sample": lambda: present_samples(self.store, self.number, self.number - 1, "cot"),
            "judge": lambda: unjudged_samples(self.store, self.number, 0, SIZES.verdicts),
        }
        for phase, ask in asked.items():
            ask()
            times = [_timed(ask) for _ in range(self.repeats)]
            _say(f"what is missing: {phase}", samples=size, ms=round(1000 * statistics.median(times), 2))

    def pairs(self) -> None:
        """The phase `pair` for a round of 10,000 x 16, in a process of its own so that its memory is its own."""
        child = os.fork()
        if child == 0:
            store = open_store(self.folder)
            before = _peak()
            times = [_timed(partial(_select_pairs, store, self.number, self.config)) for _ in range(self.repeats)]
            count = store.value("SELECT count(*) FROM pair WHERE round = ?", self.number)
            _say(
                "pair selection of a round",
                samples=self.total,
                pairs=count,
                seconds=round(statistics.median(times), 2),
                memory_mb=round((_peak() - before) / 1e6, 1),
                process_mb=round(_peak() / 1e6, 1),
            )
            os._exit(0)
        os.waitpid(child, 0)

    def inserts(self) -> None:
        """Samples and verdicts as the loop writes them, beside bare executemany of the same rows, in turns."""
        self._start_round()
        last = self.store.value("SELECT max(id) FROM sample")
        count = 20 * SIZES.commit_chains
        bare = sqlite3.connect(self.folder / "bare.db")
        bare.execute("PRAGMA journal_mode = WAL")
        for table in ("sample", "verdict"):
            columns = [f'"{row["name"]}"' for row in self.store.rows(f"PRAGMA table_info({table})")]
            bare.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        bare.commit()
        rates: dict[str, list[float]] = {"loop": [], "bare, same tables": [], "bare, no key or index": []}
        for turn in range(3 * self.repeats):
            name = list(rates)[turn % 3]
            samples = [self._new_sample(turn * count + n) for n in range(count)]
            first = last + 1
            verdicts = [NewVerdict(first + n, "exact", "1", "red", 1.0, "correct") for n in range(count)]
            rows = [_sample_row(sample) for sample in samples]
            verdict_rows = [(v.sample, v.judge, v.judge_version, v.extracted, v.score, v.outcome) for v in verdicts]
            if name == "loop":
                seconds = _timed(partial(_insert_as_loop, self.store, samples, verdicts))
            else:
                into = self.store.connection if name == "bare, same tables" else bare
                seconds = _timed(partial(_insert_bare, into, rows, verdict_rows))
            if name != "bare, no key or index":
                last += count
            rates[name].append(count / seconds)
        medians = {name: statistics.median(values) for name, values in rates.items()}
        _say("inserted samples with verdicts a second", **{name: round(rate) for name, rate in medians.items()})
        for name in list(rates)[1:]:
            _say("ratio of insert rates", beside=name, ratio=round(medians["loop"] / medians[name], 2))
        bare.close()

    def _new_sample(self, place: int) -> NewSample:
        text, _, _ = self._of(place)
        question, index = place // SAMPLES + 1, place % SAMPLES
        ids = [(place + n * 997) % VOCABULARY for n in range(28)]
        return NewSample(
            self.number, question, "policy", self.number - 1, "cot", index, text, ids, "stop", -12.3, place, 1.0
        )

    def commands(self) -> None:
        """`log` and `status` as a person runs them, process start included."""
        self.store.close()
        for name in ("log", "status"):
            command = [sys.executable, str(PROJECT / "run_loop.py"), name, str(self.folder)]
            times = [_timed(partial(_run, command)) for _ in range(6)][1:]
            _say(f"command {name}", samples=self.total, seconds=round(statistics.median(times), 2))


FORBIDDEN = {VOCABULARY + n for n in range(7)}


def _chain(rng: random.Random, tokens: int) -> tuple[str, bytes, str]:
    text = " ".join(rng.choice(WORDS) for _ in range(int(tokens * 0.8))) + f" {rng.randrange(10**6)}"
    ids = [min(VOCABULARY - 1, int(rng.paretovariate(0.6) * 20)) for _ in range(tokens)]
    return text, pack_token_ids(ids), rng.choice(("correct", "wrong"))


def _sample_row(s: NewSample) -> tuple[Any, ...]:
    ids = pack_token_ids(s.token_ids)
    return (
        s.round,
        s.question,
        s.author,
        s.policy,
        s.style,
        s.index,
        s.seed,
        s.temperature,
        s.text,
        ids,
        30,
        s.logprob,
    )


def _insert_as_loop(store: Store, samples: list[NewSample], verdicts: list[NewVerdict]) -> None:
    for start in range(0, len(samples), SIZES.commit_chains):
        with store.transaction():
            add_samples(store, samples[start : start + SIZES.commit_chains])
    for start in range(0, len(verdicts), SIZES.verdicts):
        with store.transaction():
            add_verdicts(store, verdicts[start : start + SIZES.verdicts])


def _insert_bare(
    connection: sqlite3.Connection, samples: list[tuple[Any, ...]], verdicts: list[tuple[Any, ...]]
) -> None:
    for start in range(0, len(samples), SIZES.commit_chains):
        connection.executemany(
            'INSERT INTO sample (round, question, author, policy, style, "index", seed, temperature, text, token_ids,'
            " tokens, logprob, finish_reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'stop')",
            samples[start : start + SIZES.commit_chains],
        )
        connection.commit()
    for start in range(0, len(verdicts), SIZES.verdicts):
        connection.executemany(
            "INSERT INTO verdict (sample, judge, judge_version, extracted, score, outcome) VALUES (?, ?, ?, ?, ?, ?)",
            verdicts[start : start + SIZES.verdicts],
        )
        connection.commit()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    assert done.returncode in (0, 4), done.returncode  # `status` says of a run that nobody works on: stopped


def _select_pairs(store: Store, number: int, config: Config) -> None:
    """The phase `pair` itself; of the model it needs only which token ids are special."""
    encoder = SimpleNamespace(is_plain=lambda ids: not FORBIDDEN.intersection(ids[:-1]))
    context: Any = SimpleNamespace(store=store, config=config, encoder=encoder, console=Console(quiet=True))
    pair(context, get_round(store, number))


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _say(what: str, **figures: Any) -> None:
    print(json.dumps({"what": what, **figures}), flush=True)


if __name__ == "__main__":
    main()

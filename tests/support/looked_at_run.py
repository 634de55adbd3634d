"""A run to look at: three rounds of which the last was rejected, written by the store's own functions.

Every place that holds other people's text holds what would hurt a page that believed it.
"""

import array
import io
import random
import shutil
import zlib
from pathlib import Path

from PIL import Image
from tokenizers import Tokenizer

from loop.config.load import parse_config
from loop.config.prompt_styles import STYLES
from store import Store, open_store
from store.database import as_json, now
from store.new_questions import NewQuestion, add_questions
from store.packing import pack_token_ids
from store.rounds import PhaseMemory, Policy, add_policy, end_phase, record_decision, record_phase_memory, start_round
from store.samples import NewSample, NewVerdict, add_samples, add_verdicts
from tests.support.command_line import BASE_MODEL

HOSTILE = (
    "<script>window.hacked = 'script'</script><img src=x onerror=\"window.hacked = 'image'\">",
    "</script></template></style><script>window.hacked = 'ended'</script>",
    "{{ 7 * 7 }} {% raw %} **bold** [link](javascript:window.hacked='link')",
    "\x1b[31mred\x1b[0m \x1b]8;;http://example.invalid\x07link\x1b]8;;\x07",
    "left \u202eright to left\u202c \u2066isolated\u2069 \u200fmark",
    "nul\x00in the middle, \r carriage return",
    '=HYPERLINK("http://example.invalid")',
    "long " + "x" * 100_000,
)
SAMPLES, ROUNDS = 4, 3
RECURRING = ("no", "yes", HOSTILE[0], HOSTILE[3], "<b>bold</b>", "no")
"""First accepted answers of held-out questions; policies give them too, later ones "no" ever more often."""


def make_run(folder: Path, questions: int = 24, chain_words: int = 20, rounds: int = ROUNDS, chains: int = 50) -> Path:
    """Write the run: half of the questions are sampled in every round, half are held out.

    `chains` is how many different ones there are besides the hostile ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = open_store(folder, create=True)
    rng = random.Random(5)
    with store.transaction():
        _begin(store)
        train, test = questions // 2, questions - questions // 2
        for split, count in (("train", train), ("test", test)):
            add_questions(store, (_question(n, split) for n in range(count)))
        texts = [
            *HOSTILE,
            *(" ".join(rng.choices(("red", "blue", "circle", "so"), k=chain_words)) for _ in range(chains)),
        ]
        for number in range(rounds + 1):
            _round(store, number, range(1, train + 1), texts, rng)
            _evaluate(store, number + 1, range(train + 1, questions + 1), texts, rng)
            if number:
                record_decision(
                    store, number, "rejected" if number == rounds else "accepted", "gained 1, lost 9", number
                )
            else:
                record_decision(store, 0, "accepted", "the cold start is where the rounds begin")
            record_phase_memory(store, number, "update", PhaseMemory(3 << 29, 0, 5 << 28, None, None))
            end_phase(store, number, "gate", "done", 0.5)
        _best_of(store, rounds, train + 1)
    store.close()
    (folder / "policies" / "current").mkdir(parents=True)
    shutil.copy(BASE_MODEL / "tokenizer.json", folder / "policies" / "current")
    return folder


def _begin(store: Store) -> None:
    config = parse_config({"policy": {"model": "some/model"}, "questions": {"source": "easy_vqa"}}, "test")
    store.connection.execute(
        "INSERT INTO run (id, seed, configuration, packages, created) VALUES (1, 0, ?, '{}', ?)",
        (as_json(config.model_dump(mode="json")), now()),
    )
    add_policy(store, Policy(0, None, "base", "0" * 64, "base", {}))


def _question(number: int, split: str) -> NewQuestion:
    text = HOSTILE[number] if number < len(HOSTILE) else f"what colour is number {number}?"
    first = f"answer {number}" if split == "train" else RECURRING[number % len(RECURRING)]
    answers = [first, *HOSTILE[:2]] if number % 3 == 0 else [first]
    drawn = io.BytesIO()
    Image.new("RGB", (40, 30), (number % 256, number // 256 % 256, 90)).save(drawn, "PNG")
    kind = HOSTILE[0] if number == 1 else "colour"
    return NewQuestion(text, answers, [drawn.getvalue()] if number % 4 else [], split, "made", "exact", kind=kind)


def _round(store: Store, number: int, questions: range, texts: list[str], rng: random.Random) -> None:
    start_round(store, number, "sample" if number else "distil", number, questions)
    if number:
        first = (store.value("SELECT max(id) FROM sample") or 0) + 1
        keys = [(question, index) for question in questions for index in range(SAMPLES)]
        add_samples(
            store,
            (
                NewSample(number, q, "policy", number, "cot", i, texts[(q + i) % len(texts)], [1, 2, 300], "stop", -1.5)
                for q, i in keys
            ),
        )
        add_verdicts(
            store,
            (
                NewVerdict(
                    first + place, "exact", "1", HOSTILE[place % len(HOSTILE)][:300], 0.0, outcome, '["<b>flag</b>"]'
                )
                for place, outcome in enumerate(_outcomes(rng, len(keys), min(0.3 + 0.2 * number, 0.9)))
            ),
        )
    add_policy(store, Policy(number + 1, number, "dpo", f"{number + 1:064d}", f"policies/{number + 1:04d}", {}))
    store.connection.execute("UPDATE round SET candidate_policy = ? WHERE number = ?", (number + 1, number))
    store.connection.execute(
        "INSERT INTO training (round, candidate, method, recipe, items, steps, loss, seconds, metrics)"
        " VALUES (?, ?, 'dpo', '{}', 10, 5, ?, 3.0, ?)",
        (number, number + 1, 0.7 - 0.1 * number, as_json({"dpo": {"rewards/margins": 0.1 * number, "settings": {}}})),
    )
    store.connection.execute(
        "INSERT INTO teacher_call (hash, purpose, round, question, model, status, created, cost_usd)"
        " VALUES (?, 'fallback', ?, 1, ?, 'answered', ?, 0.25)",
        (f"call {number}", number, HOSTILE[0], now()),
    )


def _evaluate(store: Store, policy: int, questions: range, texts: list[str], rng: random.Random) -> None:
    for style in STYLES:
        store.connection.executemany(
            "INSERT INTO evaluation (policy, split, style, question, text, tokens, finish_reason, judge, judge_version,"
            " extracted, score, outcome, faithful) VALUES (?, 'test', ?, ?, ?, 7, 'stop', 'exact', '1', ?, 1.0, ?, 1)",
            [
                (policy, style, question, texts[question % len(texts)], _given(policy, question), outcome)
                for question, outcome in zip(questions, _outcomes(rng, len(questions), 0.6), strict=True)
            ],
        )


def _given(policy: int, question: int) -> str:
    return RECURRING[0] if question % 6 < policy else RECURRING[question % len(RECURRING)]


def _best_of(store: Store, policy: int, question: int) -> None:
    """One best-of chain whose tokens a verifier scored."""
    tokenizer = Tokenizer.from_file(str(BASE_MODEL / "tokenizer.json"))
    ids = tokenizer.encode("The image shows a red circle.").ids
    scores = array.array("f", [(-1) ** place * 0.7 * place for place in range(len(ids))])
    row = store.connection.execute(
        'INSERT INTO evaluation_sample (policy, split, style, question, "index", text, token_ids, finish_reason, judge,'
        " judge_version, score, outcome) VALUES (?, 'test', 'cot', ?, 0, ?, ?, 'stop', 'exact', '1', 1.0, 'correct')",
        (policy, question, "The image shows a red circle.", pack_token_ids(ids)),
    )
    store.connection.execute(
        "INSERT INTO verifier_score VALUES (?, 1, ?, ?)",
        (row.lastrowid, sum(scores), zlib.compress(scores.tobytes())),
    )


def _outcomes(rng: random.Random, count: int, right: float) -> list[str]:
    weights = [right, 0.9 - right, 0.06, 0.04]
    return rng.choices(("correct", "wrong", "unparsable", "truncated"), weights, k=count)

"""Records for `show`: lists and single ones as plain dictionaries, archived samples included."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

from loop.errors import InputError
from loop.reading.accuracy_log import accuracy, log_rows, reported_split, trained_style
from loop.reading.answer_balance import answer_balance
from loop.reading.lineage import policy_records
from store import Store, StoreError
from store.gate import best_policy
from store.maintenance.archive import IN_STORE, find_sample, round_samples
from store.packing import unpack_scores, unpack_token_ids
from store.rejudged import rejudged_of_sample, rewards_of_sample

Record = dict[str, Any]


@dataclass(frozen=True)
class Filters:
    """Filters for records; None and False select all."""

    round: int | None = None
    outcome: str | None = None
    question: int | None = None
    policy: int | None = None
    rule: str | None = None
    suspect: bool = False
    unusable: bool = False
    changed_since: int | None = None


LIST_FILTERS = {
    "question": {"round", "outcome", "policy", "suspect", "unusable", "changed_since"},
    "sample": {"round", "outcome", "question", "policy"},
    "pair": {"round", "question", "policy", "rule"},
    "round": set[str](),
    "policy": set[str](),
}
RECORD_FILTERS = {"question": {"policy", "changed_since"}}


def list_records(store: Store, kind: str, filters: Filters, limit: int) -> tuple[list[Record], bool]:
    """At most `limit` records that meet the filters, and whether there are more."""
    _refuse_unused_filters(kind, filters, LIST_FILTERS[kind])
    found = list(islice(LISTS[kind](store, filters), limit + 1))
    return found[:limit], len(found) > limit


def find_record(store: Store, kind: str, number: int, filters: Filters) -> Record:
    """One record by its id, with what belongs to it. Raises InputError if there is none."""
    _refuse_unused_filters(f"{kind} {number}", filters, RECORD_FILTERS.get(kind, set()))
    record = RECORDS[kind](store, number, filters)
    if record is None:
        raise InputError(
            f"{store.path.parent} has no {kind} {number}; 'show {store.path.parent} {kind}' lists what there is"
        )
    return record


def _refuse_unused_filters(kind: str, filters: Filters, known: set[str]) -> None:
    for field in fields(filters):
        if getattr(filters, field.name) not in (None, False) and field.name not in known:
            option = field.name.replace("_", "-")
            raise InputError(f"--{option} does not apply to 'show DIR {kind}'; leave it out")


def _list_questions(store: Store, filters: Filters) -> Iterator[Record]:
    if filters.changed_since is not None:
        yield from changed_questions(store, filters)
        return
    if filters.policy is not None:
        raise InputError("--policy of questions goes with --changed-since")
    if filters.outcome is not None and filters.round is None:
        raise InputError(
            "--outcome of questions is the outcome of their vote in a round; add --round (or --changed-since)"
        )
    wanted = [f"question.{column} IS NOT NULL" for column in ("suspect", "unusable") if getattr(filters, column)]
    chosen = " AND ".join(wanted) or "1"
    if filters.round is None:
        order = "suspect DESC, id" if filters.suspect else "id"
        sql = f"SELECT {QUESTION} FROM question WHERE {chosen} ORDER BY {order}"
        yield from (_decoded(row) for row in store.stream(sql))
        return
    outcome = "vote.outcome = ?2" if filters.outcome is not None else "?2 IS NULL"
    sql = (
        f"SELECT {QUESTION}, history.samples, history.correct, history.pass_rate, vote.answer AS majority,"
        " vote.share, vote.outcome FROM question_history AS history JOIN question ON question.id = history.question"
        " LEFT JOIN vote ON vote.round = history.round AND vote.question = question.id"
        f" WHERE history.round = ?1 AND {chosen} AND {outcome} ORDER BY history.pass_rate, question.id"
    )
    yield from (_decoded(row) for row in store.stream(sql, filters.round, filters.outcome))


QUESTION = """question.id, question.split, question.kind, question.text, question.answers, question.choices,
question.judge, question.source, question.external_id, question.suspect, question.unusable"""

CHANGED = f"""
SELECT {QUESTION}, old.outcome AS outcome_before, new.outcome, old.extracted AS answer_before,
       new.extracted AS answer, old.text AS chain_before, new.text AS chain
FROM evaluation AS new
JOIN evaluation AS old ON old.policy = ?2 AND old.split = new.split AND old.style = new.style
  AND old.question = new.question
JOIN question ON question.id = new.question
WHERE new.policy = ?1 AND new.style = ?3
  AND (new.outcome = 'correct') <> (old.outcome = 'correct') AND (?4 IS NULL OR new.outcome = ?4)
ORDER BY new.outcome = 'correct', new.split DESC, question.id"""


def changed_questions(store: Store, filters: Filters) -> Iterator[Record]:
    """Held-out questions whose outcome changed between two policies, those that became wrong first."""
    _refuse_unused_filters("question --changed-since", filters, {"outcome", "policy", "changed_since"})
    before, after, style = filters.changed_since, _later_policy(store, filters), trained_style(store)
    for number in (before, after):
        if not store.row("SELECT 1 FROM evaluation WHERE policy = ? AND style = ? LIMIT 1", number, style):
            raise InputError(f"policy {number} has answered no held-out question in style {style!r}")
    for row in store.stream(CHANGED, after, before, style, filters.outcome):
        yield {**_decoded(row), "policy_before": before, "policy": after}


def _later_policy(store: Store, filters: Filters) -> int:
    return best_policy(store) if filters.policy is None else filters.policy


def _list_samples(store: Store, filters: Filters) -> Iterator[Record]:
    rounds = store.rows("SELECT number FROM round WHERE ?1 IS NULL OR number = ?1 ORDER BY number", filters.round)
    archived = {row["round"] for row in store.rows("SELECT round FROM archive")}
    given = (("question", filters.question), ("policy", filters.policy), ("outcome", filters.outcome))
    wanted = {key: value for key, value in given if value is not None}
    conditions = "".join(f" AND {key} = ?" for key in wanted)
    for row in _numbers(rounds):
        found: Iterator[Any]
        if row in archived:
            found = (each for each in round_samples(store, row) if all(each[k] == v for k, v in wanted.items()))
        else:
            sql = f"{IN_STORE} WHERE sample.round = ?{conditions} ORDER BY sample.id"
            found = store.stream(sql, row, *wanted.values())
        yield from (_sample(each) for each in found)


def _numbers(rounds: Sequence[Any]) -> list[int]:
    """The numbers of these rounds."""
    return [row["number"] for row in rounds]


def _sample(row: Any) -> Record:
    return {key: value for key, value in dict(row).items() if key != "token_ids"}


def _list_pairs(store: Store, filters: Filters) -> Iterator[Record]:
    by_policy = ("chosen_policy", filters.policy)
    given = (("round", filters.round), ("question", filters.question), by_policy, ("rule", filters.rule))
    wanted = {key: value for key, value in given if value is not None}
    conditions = " AND ".join(f"{key} = ?" for key in wanted) or "1"
    sql = f"SELECT * FROM pair_detail WHERE {conditions} ORDER BY pair"
    yield from (_decoded(row) for row in store.stream(sql, *wanted.values()))


def _list_rounds(store: Store, _: Filters) -> Iterator[Record]:
    yield from (dict(row) for row in store.stream("SELECT * FROM round ORDER BY number"))


def _list_policies(store: Store, _: Filters) -> Iterator[Record]:
    yield from policy_records(store)


LISTS: dict[str, Callable[[Store, Filters], Iterator[Record]]] = {
    "question": _list_questions,
    "sample": _list_samples,
    "pair": _list_pairs,
    "round": _list_rounds,
    "policy": _list_policies,
}


def _question(store: Store, number: int, filters: Filters) -> Record | None:
    row = store.row(f"SELECT {QUESTION}, hash, batch FROM question WHERE id = ?", number)
    if row is None:
        return None
    policies = _compared_policies(store, filters)
    chosen = f"policy IN ({','.join(map(str, policies))})" if policies else "1"
    before = policies[0] if policies else -1
    answers = f"SELECT * FROM evaluation WHERE question = ? AND {chosen} ORDER BY style, split, policy <> ?, policy"
    return {
        **_decoded(row),
        "images": _images(store, number),
        "rounds": [
            dict(each)
            for each in store.rows(
                "SELECT history.round, serving_policy, history.samples, correct, vote.answer AS majority, vote.share,"
                " vote.outcome, fallback.outcome AS fallback FROM question_history AS history"
                " LEFT JOIN vote USING (round, question) LEFT JOIN fallback USING (round, question)"
                " WHERE question = ? ORDER BY round",
                number,
            )
        ],
        "answers_held_out": [_decoded(each) for each in store.rows(answers, number, before)],
        "verified": list(_verified(store, number, chosen)),
    }


def _compared_policies(store: Store, filters: Filters) -> list[int]:
    """The policies whose answers are selected; none means all."""
    if filters.changed_since is not None:
        return [filters.changed_since, _later_policy(store, filters)]
    return [] if filters.policy is None else [filters.policy]


VERIFIED = """
SELECT evaluation_sample.*, verifier_score.reference, verifier_score.score AS verifier_score,
       verifier_score.token_scores
FROM evaluation_sample LEFT JOIN verifier_score ON verifier_score.sample = evaluation_sample.id
WHERE question = ?"""


def _verified(store: Store, question: int, chosen: str) -> Iterator[Record]:
    """The sampled answers of `evaluate --best-of`, with the verifier's score of each token, if there is one."""
    for row in store.rows(f'{VERIFIED} AND {chosen} ORDER BY policy, style, "index", reference', question):
        record = _decoded(row)
        packed, record["token_ids"] = record.pop("token_scores"), unpack_token_ids(row["token_ids"])
        if packed is not None:
            record["token_scores"] = unpack_scores(packed)
        yield record


def _one_sample(store: Store, number: int, _: Filters) -> Record | None:
    try:
        found = find_sample(store, number)
    except StoreError as error:
        if "has no sample" in str(error):
            return None
        raise
    policy = store.row("SELECT sha256, path FROM policy WHERE number = ?", found["policy"])
    pairs = store.rows("SELECT id, chosen, rule FROM pair WHERE chosen = ?1 OR rejected = ?1 ORDER BY id", number)
    return {
        **_sample(found),
        "token_ids": unpack_token_ids(found["token_ids"]),
        "weights": None if policy is None else policy["sha256"],
        "pairs": [{"pair": row["id"], "rule": row["rule"], "chosen": row["chosen"] == number} for row in pairs],
        "rejudged": [_decoded(row) for row in rejudged_of_sample(store, number)],
        "rewards": rewards_of_sample(store, number),
        "of_question": _question_with_images(store, found["question"]),
    }


def _one_pair(store: Store, number: int, _: Filters) -> Record | None:
    row = store.row("SELECT * FROM pair_detail WHERE pair = ?", number)
    return None if row is None else {**_decoded(row), "images": _images(store, row["question"])}


def _one_round(store: Store, number: int, _: Filters) -> Record | None:
    row = store.row("SELECT started, finished FROM round WHERE number = ?", number)
    if row is None:
        return None
    answers = answer_balance(store, number, trained_style(store), reported_split(store))
    return {**log_rows(store, after=number - 1)[0], **dict(row), "answers": answers}


CHILDREN = "SELECT number FROM policy WHERE ? IN (parent, other_parent) ORDER BY number"


def _one_policy(store: Store, number: int, _: Filters) -> Record | None:
    found = next(policy_records(store, number), None)
    if found is None:
        return None
    training = store.row("SELECT * FROM training WHERE candidate = ?", number)
    asked = "SELECT DISTINCT split, style FROM evaluation WHERE policy = ? ORDER BY split DESC, style"
    return {
        **found,
        "training": None if training is None else _decoded(training),
        "accuracies": [
            {**dict(each), **(accuracy(store, number, each["style"], each["split"]) or {})}
            for each in store.rows(asked, number)
        ],
        "children": _numbers(store.rows(CHILDREN, number)),
    }


RECORDS: dict[str, Callable[[Store, int, Filters], Record | None]] = {
    "question": _question,
    "sample": _one_sample,
    "pair": _one_pair,
    "round": _one_round,
    "policy": _one_policy,
}


def _question_with_images(store: Store, number: int) -> Record:
    row = store.row(f"SELECT {QUESTION} FROM question WHERE id = ?", number)
    assert row is not None
    return {**_decoded(row), "images": _images(store, number)}


def _images(store: Store, question: int) -> list[Record]:
    sql = (
        "SELECT sha256, format, width, height FROM question_image JOIN image ON image.sha256 = question_image.image"
        " WHERE question = ? ORDER BY position"
    )
    return [dict(row) for row in store.rows(sql, question)]


def _decoded(row: Any) -> Record:
    """A row with its JSON columns decoded."""
    record = dict(row)
    for key in ("answers", "choices", "flags", "images", "recipe", "metrics"):
        if isinstance(record.get(key), str):
            record[key] = json.loads(record[key])
    return record

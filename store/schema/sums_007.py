"""The sums of migration 7, shared with `store.summary` and the check. Like the migration, they never change.

Evaluations and comparisons are summed when a round ends; triggers drop the sums of a policy whose evaluations change,
so that an existing sum is right and a missing one is counted again.
"""

from store.schema.views_005 import COLUMNS

LATEST = """verdict.sample = sample.id AND NOT EXISTS (
    SELECT 1 FROM verdict AS later WHERE later.sample = verdict.sample
    AND (later.judge_version > verdict.judge_version
         OR later.judge_version = verdict.judge_version AND later.judge < verdict.judge))"""
"""The same choice as `views_004.verdict_of`, without sorting a sample's verdicts."""


def _count(condition: str) -> str:
    return f"count(CASE WHEN {condition} THEN 1 END)"


def round_sums(rounds: str) -> str:
    """The columns of `round_summary` for the policy's samples where `sample.round {rounds}`, for example `= ?`.

    Counted by question first, in the order of the sample's key: nothing is sorted.
    """
    return f"""
SELECT round, sum(samples) AS samples, count(*) AS questions, sum(correct) AS correct, sum(wrong) AS wrong,
       sum(unparsable) AS unparsable, sum(truncated) AS truncated, sum(judge_error) AS judge_error,
       sum(tokens) AS tokens, sum(flagged) AS flagged, sum(samples * (answers <> '[]')) AS labelled,
       sum(correct * (answers <> '[]')) AS labelled_correct, sum(answers <> '[]') AS labelled_questions,
       sum(answers <> '[]' AND correct > 0) AS solved
FROM (SELECT sample.round, sample.question, count(*) AS samples, {_count("outcome = 'correct'")} AS correct,
             {_count("outcome = 'wrong'")} AS wrong, {_count("outcome = 'unparsable'")} AS unparsable,
             {_count("outcome = 'truncated'")} AS truncated, {_count("outcome = 'judge_error'")} AS judge_error,
             sum(tokens) AS tokens, {_count("flags <> '[]'")} AS flagged
      FROM sample LEFT JOIN verdict ON {LATEST}
      WHERE sample.author = 'policy' AND sample.round {rounds} GROUP BY sample.round, sample.question) AS asked
JOIN question ON question.id = asked.question GROUP BY round"""


EVALUATION_SUMS = """
SELECT policy, evaluation.split, style, coalesce(question.kind, '') AS kind, count(*) AS questions,
       sum(outcome = 'correct') AS correct, sum(outcome = 'unparsable') AS unparsable,
       sum(outcome = 'truncated') AS truncated, sum(tokens) AS tokens,
       coalesce(sum(faithful), 0) AS faithful, count(faithful) AS checked
FROM evaluation JOIN question ON question.id = evaluation.question"""
EVALUATION_GROUPS = "GROUP BY policy, evaluation.split, style, coalesce(question.kind, '')"

COMPARISONS = """
SELECT new.policy, old.policy AS other, split, style, count(*) AS questions,
       coalesce(sum(new.outcome = 'correct' AND old.outcome != 'correct'), 0) AS gained,
       coalesce(sum(new.outcome != 'correct' AND old.outcome = 'correct'), 0) AS lost
FROM evaluation AS new JOIN evaluation AS old USING (split, style, question)"""

ADD_EVALUATION_SUMS = (
    f"INSERT INTO evaluation_summary {EVALUATION_SUMS} WHERE policy IN"
    f" (SELECT number FROM policy EXCEPT SELECT policy FROM evaluation_summary) {EVALUATION_GROUPS}"
)
ADD_COMPARISONS = (
    f"INSERT OR IGNORE INTO comparison {COMPARISONS} JOIN round ON new.policy = round.candidate_policy"
    " AND old.policy IN (round.serving_policy, round.compared_with)"
    " WHERE round.phase = 'done' AND NOT EXISTS"
    " (SELECT 1 FROM comparison WHERE comparison.policy = new.policy AND comparison.other = old.policy)"
    " GROUP BY new.policy, old.policy, split, style"
)


def _once_judged(column: str) -> str:
    if column in ("round", "samples", "questions", "tokens"):
        return f"figures.{column}"
    return f"iif(phase IN ('distil', 'sample', 'judge'), NULL, figures.{column})"


def _dropped_at(event: str, policies: str) -> str:
    return f"""CREATE TRIGGER evaluation_{event.lower()} AFTER {event} ON evaluation BEGIN
        DELETE FROM evaluation_summary WHERE policy IN ({policies});
        DELETE FROM comparison WHERE policy IN ({policies});
        DELETE FROM comparison WHERE other IN ({policies});
    END"""


STATEMENTS_007 = (
    # kind: '' if a question has none.
    """CREATE TABLE evaluation_summary (
        policy INTEGER NOT NULL REFERENCES policy (number), split TEXT NOT NULL, style TEXT NOT NULL,
        kind TEXT NOT NULL, questions INTEGER NOT NULL, correct INTEGER NOT NULL, unparsable INTEGER NOT NULL,
        truncated INTEGER NOT NULL, tokens INTEGER NOT NULL, faithful INTEGER NOT NULL, checked INTEGER NOT NULL,
        PRIMARY KEY (policy, split, style, kind)) WITHOUT ROWID""",
    """CREATE TABLE comparison (
        policy INTEGER NOT NULL REFERENCES policy (number), other INTEGER NOT NULL REFERENCES policy (number),
        split TEXT NOT NULL, style TEXT NOT NULL, questions INTEGER NOT NULL, gained INTEGER NOT NULL,
        lost INTEGER NOT NULL, PRIMARY KEY (policy, other, split, style)) WITHOUT ROWID""",
    "CREATE INDEX comparison_other ON comparison (other)",
    ADD_EVALUATION_SUMS,
    ADD_COMPARISONS,
    _dropped_at("INSERT", "NEW.policy"),
    _dropped_at("DELETE", "OLD.policy"),
    _dropped_at("UPDATE", "OLD.policy, NEW.policy"),
    "DROP VIEW round_figures",
    # Figures from verdicts are NULL until every sample has one.
    f"""CREATE VIEW round_figures AS
    SELECT {", ".join(COLUMNS)} FROM round_summary
    UNION ALL
    SELECT {", ".join(map(_once_judged, COLUMNS))}
    FROM ({round_sums("IN (SELECT number FROM round EXCEPT SELECT round FROM round_summary)")}) AS figures
    JOIN round ON round.number = figures.round""",
)

"""The views of migration 5, and the sum that it shares with `store.summary`. Like the migration, they never change."""

from store.schema.views_004 import verdict_of

COLUMNS = (
    *("round", "samples", "questions", "correct", "wrong", "unparsable", "truncated", "judge_error", "tokens"),
    *("flagged", "labelled", "labelled_correct", "labelled_questions", "solved"),
)
SUMMARY = f"""
SELECT sample.round, count(*) AS samples, count(DISTINCT sample.question) AS questions,
       coalesce(sum(outcome = 'correct'), 0) AS correct, coalesce(sum(outcome = 'wrong'), 0) AS wrong,
       coalesce(sum(outcome = 'unparsable'), 0) AS unparsable,
       coalesce(sum(outcome = 'truncated'), 0) AS truncated,
       coalesce(sum(outcome = 'judge_error'), 0) AS judge_error, sum(tokens) AS tokens,
       coalesce(sum(flags <> '[]'), 0) AS flagged,
       sum(answers <> '[]') AS labelled,
       coalesce(sum(answers <> '[]' AND outcome = 'correct'), 0) AS labelled_correct,
       count(DISTINCT CASE WHEN answers <> '[]' THEN sample.question END) AS labelled_questions,
       count(DISTINCT CASE WHEN answers <> '[]' AND outcome = 'correct' THEN sample.question END) AS solved
FROM sample JOIN question ON question.id = sample.question LEFT JOIN verdict ON {verdict_of("sample")}"""
"""Figures of a round's own samples. `labelled`: of questions that have an accepted answer; `solved`: pass@k."""

REPORTED = "coalesce((SELECT json_extract(configuration, '$.evaluation.split') FROM run), 'test')"


def _accuracy(policy: str, style: str, figure: str = "outcome = 'correct'") -> str:
    return (
        f"(SELECT avg({figure}) FROM evaluation WHERE policy = {policy} AND style = '{style}' AND split = {REPORTED})"
    )


VIEWS_005 = (
    f"""CREATE VIEW round_figures AS
    SELECT {", ".join(COLUMNS)} FROM round_summary
    UNION ALL
    SELECT * FROM ({SUMMARY}
        WHERE sample.author = 'policy'
          AND sample.round IN (SELECT number FROM round EXCEPT SELECT round FROM round_summary)
        GROUP BY sample.round)""",
    f"""CREATE VIEW round_log AS
    SELECT round.number AS round, round.phase, round.serving_policy, round.candidate_policy, round.decision,
           round.reason, round.compared_with, figures.questions, figures.samples,
           1.0 * figures.labelled_correct / nullif(figures.labelled, 0) AS pass_rate,
           1.0 * figures.solved / nullif(figures.labelled_questions, 0) AS pass_at_k,
           1.0 * figures.unparsable / figures.samples AS unparsable,
           1.0 * figures.truncated / figures.samples AS truncated,
           1.0 * figures.flagged / figures.samples AS flagged, figures.tokens,
           (SELECT count(*) FROM teacher_call WHERE teacher_call.round = round.number) AS teacher_asked,
           (SELECT sum(cost_usd) FROM teacher_call WHERE teacher_call.round = round.number) AS teacher_usd,
           (SELECT count(*) FROM pair WHERE pair.round = round.number) AS pairs,
           training.method, training.items AS training_items, training.loss AS training_loss,
           {_accuracy("round.candidate_policy", "cot")} AS cot_accuracy,
           {_accuracy("round.candidate_policy", "direct")} AS direct_accuracy,
           {_accuracy("round.candidate_policy", "cot", "faithful")} AS faithful,
           round.started, round.finished,
           (SELECT sum(seconds) FROM phase_time WHERE phase_time.round = round.number) AS seconds
    FROM round LEFT JOIN round_figures AS figures ON figures.round = round.number
    LEFT JOIN training ON training.round = round.number AND training.candidate = round.candidate_policy
    ORDER BY round.number""",
    """CREATE VIEW teacher_cost AS
    SELECT round, purpose, model, count(*) AS calls,
           sum(EXISTS (SELECT 1 FROM sample JOIN verdict ON verdict.sample = sample.id
                       WHERE sample.teacher_call = teacher_call.hash AND verdict.outcome = 'correct')) AS kept,
           sum(prompt_tokens) AS prompt_tokens, sum(cached_tokens) AS cached_tokens,
           sum(completion_tokens) AS completion_tokens, sum(cost_usd) AS cost_usd
    FROM teacher_call GROUP BY round, purpose, model""",
    f"""CREATE VIEW policy_lineage AS
    WITH RECURSIVE line (number, generation, ancestors) AS (
        SELECT number, 0, CAST(number AS TEXT) FROM policy WHERE parent IS NULL
        UNION ALL
        SELECT policy.number, generation + 1, ancestors || ' > ' || policy.number
        FROM policy JOIN line ON policy.parent = line.number)
    SELECT policy.number AS policy, policy.parent, line.generation, line.ancestors, policy.made_by,
           round.number AS round, round.decision, policy.sha256, policy.path, policy.created, policy.deleted,
           {_accuracy("policy.number", "cot")} AS cot_accuracy,
           {_accuracy("policy.number", "direct")} AS direct_accuracy
    FROM policy JOIN line ON line.number = policy.number
    LEFT JOIN round ON round.candidate_policy = policy.number
    ORDER BY policy.number""",
)
REPLACED = ("round_log", "round_figures", "teacher_cost", "policy_lineage")

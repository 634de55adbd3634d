"""The views of migration 4, and the sum that it shares with `store.summary`. Like the migration, they never change."""


def verdict_of(sample: str, verdict: str = "verdict") -> str:
    """The condition of a JOIN that chooses a sample's verdict of the highest judge version."""
    return f"""{verdict}.sample = {sample}.id AND ({verdict}.judge, {verdict}.judge_version) = (
        SELECT one.judge, one.judge_version FROM verdict AS one WHERE one.sample = {sample}.id
        ORDER BY one.judge_version DESC, one.judge LIMIT 1)"""


SUMMARY = f"""
SELECT sample.round, count(*) AS samples, count(DISTINCT sample.question) AS questions,
       coalesce(sum(outcome = 'correct'), 0) AS correct, coalesce(sum(outcome = 'wrong'), 0) AS wrong,
       coalesce(sum(outcome = 'unparsable'), 0) AS unparsable,
       coalesce(sum(outcome = 'truncated'), 0) AS truncated,
       coalesce(sum(outcome = 'judge_error'), 0) AS judge_error, sum(tokens) AS tokens
FROM sample LEFT JOIN verdict ON {verdict_of("sample")}"""
"""Figures of a round's samples; a sample judged twice counts once."""

VIEWS_004 = (
    f"""CREATE VIEW round_figures AS
    SELECT * FROM round_summary
    UNION ALL
    SELECT * FROM ({SUMMARY}
        WHERE sample.author = 'policy'
          AND sample.round IN (SELECT number FROM round EXCEPT SELECT round FROM round_summary)
        GROUP BY sample.round)""",
    """CREATE VIEW round_log AS
    SELECT round.number AS round, round.phase, round.serving_policy, round.candidate_policy, round.decision,
           round.reason, figures.questions, figures.samples,
           1.0 * figures.correct / figures.samples AS pass_rate,
           1.0 * figures.unparsable / figures.samples AS unparsable,
           1.0 * figures.truncated / figures.samples AS truncated, figures.tokens,
           (SELECT count(*) FROM teacher_call WHERE teacher_call.round = round.number) AS teacher_asked,
           (SELECT count(*) FROM pair WHERE pair.round = round.number) AS pairs,
           training.items AS training_items, training.loss AS training_loss,
           (SELECT avg(outcome = 'correct') FROM evaluation
            WHERE policy = round.candidate_policy AND style = 'cot') AS cot_accuracy,
           (SELECT avg(outcome = 'correct') FROM evaluation
            WHERE policy = round.candidate_policy AND style = 'direct') AS direct_accuracy,
           round.started, round.finished,
           (SELECT sum(seconds) FROM phase_time WHERE phase_time.round = round.number) AS seconds
    FROM round LEFT JOIN round_figures AS figures ON figures.round = round.number
    LEFT JOIN training ON training.round = round.number AND training.candidate = round.candidate_policy
    ORDER BY round.number""",
    f"""CREATE VIEW pair_detail AS
    SELECT pair.id AS pair, pair.round, pair.rule, pair.source, pair.weight,
           question.id AS question, question.text AS question_text, question.answers,
           (SELECT json_group_array(image) FROM (SELECT image FROM question_image
            WHERE question_image.question = question.id ORDER BY position)) AS images,
           chosen.style,
           chosen.id AS chosen_sample, chosen.text AS chosen_text, chosen.author AS chosen_author,
           chosen.policy AS chosen_policy, chosen_policy.sha256 AS chosen_weights, chosen.seed AS chosen_seed,
           chosen_verdict.outcome AS chosen_outcome, chosen_verdict.extracted AS chosen_answer,
           chosen_verdict.judge AS chosen_judge, chosen_verdict.judge_version AS chosen_judge_version,
           rejected.id AS rejected_sample, rejected.text AS rejected_text, rejected.author AS rejected_author,
           rejected.policy AS rejected_policy, rejected_policy.sha256 AS rejected_weights,
           rejected.seed AS rejected_seed, rejected_verdict.outcome AS rejected_outcome,
           rejected_verdict.extracted AS rejected_answer, rejected_verdict.judge AS rejected_judge,
           rejected_verdict.judge_version AS rejected_judge_version,
           imported_pair.file AS imported_from, imported_pair.line AS imported_line
    FROM pair
    JOIN sample AS chosen ON chosen.id = pair.chosen
    JOIN sample AS rejected ON rejected.id = pair.rejected
    JOIN question ON question.id = chosen.question
    LEFT JOIN policy AS chosen_policy ON chosen_policy.number = chosen.policy
    LEFT JOIN policy AS rejected_policy ON rejected_policy.number = rejected.policy
    LEFT JOIN verdict AS chosen_verdict ON {verdict_of("chosen", "chosen_verdict")}
    LEFT JOIN verdict AS rejected_verdict ON {verdict_of("rejected", "rejected_verdict")}
    LEFT JOIN imported_pair ON imported_pair.pair = pair.id""",
    f"""CREATE VIEW question_history AS
    SELECT question, question_text, answers, round, serving_policy, samples, correct,
           1.0 * correct / nullif(samples, 0) AS pass_rate, teacher_asked
    FROM (SELECT question.id AS question, question.text AS question_text, question.answers,
                 round.number AS round, round.serving_policy,
                 coalesce(archived.samples, 0) + (SELECT count(*) FROM sample
                     WHERE sample.round = asked.round AND sample.question = asked.question
                       AND sample.author = 'policy') AS samples,
                 coalesce(archived.correct, 0) + (SELECT count(*) FROM sample
                     JOIN verdict ON {verdict_of("sample")}
                     WHERE sample.round = asked.round AND sample.question = asked.question
                       AND sample.author = 'policy' AND verdict.outcome = 'correct') AS correct,
                 (SELECT count(*) FROM teacher_call WHERE teacher_call.question = asked.question
                     AND teacher_call.round = asked.round) AS teacher_asked
          FROM round_question AS asked
          JOIN question ON question.id = asked.question
          JOIN round ON round.number = asked.round
          LEFT JOIN archived_question AS archived
                 ON archived.round = asked.round AND archived.question = asked.question)""",
    """CREATE VIEW teacher_cost AS
    SELECT round, purpose, model, count(*) AS calls,
           sum(EXISTS (SELECT 1 FROM sample JOIN verdict ON verdict.sample = sample.id
                       WHERE sample.teacher_call = teacher_call.hash AND verdict.outcome = 'correct')) AS kept,
           sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens
    FROM teacher_call GROUP BY round, purpose, model""",
    """CREATE VIEW policy_lineage AS
    WITH RECURSIVE line (number, generation, ancestors) AS (
        SELECT number, 0, CAST(number AS TEXT) FROM policy WHERE parent IS NULL
        UNION ALL
        SELECT policy.number, generation + 1, ancestors || ' > ' || policy.number
        FROM policy JOIN line ON policy.parent = line.number)
    SELECT policy.number AS policy, policy.parent, line.generation, line.ancestors, policy.made_by,
           round.number AS round, round.decision, policy.sha256, policy.path, policy.created, policy.deleted,
           (SELECT avg(outcome = 'correct') FROM evaluation
            WHERE policy = policy.number AND style = 'cot') AS cot_accuracy,
           (SELECT avg(outcome = 'correct') FROM evaluation
            WHERE policy = policy.number AND style = 'direct') AS direct_accuracy
    FROM policy JOIN line ON line.number = policy.number
    LEFT JOIN round ON round.candidate_policy = policy.number
    ORDER BY policy.number""",
)

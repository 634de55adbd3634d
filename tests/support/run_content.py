"""The content that a run must have, whatever happened to it."""

SAMPLE = """(SELECT json_array(round, question, author, policy, style, "index", text) FROM sample WHERE id = {})"""
CONTENT = {
    "question": "SELECT id, hash, split, unusable FROM question ORDER BY id",
    "round": """SELECT number, phase, serving_policy, candidate_policy, decision, reason, compared_with, best_policy,
                finished IS NOT NULL FROM round ORDER BY number""",
    "gate_trial": """SELECT round, policy, compared_with, questions, difference, error, accepted, best, reason
                     FROM gate_trial ORDER BY round, policy""",
    "round_question": "SELECT * FROM round_question ORDER BY round, position",
    "round_summary": "SELECT * FROM round_summary ORDER BY round",
    "evaluation_summary": "SELECT * FROM evaluation_summary ORDER BY policy, split, style, kind",
    "comparison": "SELECT * FROM comparison ORDER BY policy, other, split, style",
    "phase_time": "SELECT round, phase FROM phase_time ORDER BY 1, 2",
    "policy": """SELECT number, parent, other_parent, alpha, made_by, sha256, path, probe, deleted IS NULL
                 FROM policy ORDER BY number""",
    "training": "SELECT round, candidate, method, items, steps, loss FROM training ORDER BY round",
    "training_step": """SELECT round, step, training_step.method, training_step.loss, learning_rate, margin, accuracy
                        FROM training_step JOIN training ON training.id = training ORDER BY 1, 2""",
    "sample": """SELECT round, question, author, policy, style, "index", seed, temperature, text, hex(token_ids),
                 tokens, logprob, finish_reason, teacher_call FROM sample ORDER BY 1, 2, 3, 4, 5, 6""",
    "verdict": f"""SELECT {SAMPLE.format("verdict.sample")}, judge, judge_version, extracted, score, outcome
                   FROM verdict ORDER BY 1, 2, 3""",
    "pair": f"""SELECT round, {SAMPLE.format("chosen")}, {SAMPLE.format("rejected")}, rule, weight
                FROM pair ORDER BY 1, 2, 3""",
    "teacher_call": """SELECT hash, purpose, round, question, status, text, prompt_tokens, completion_tokens
                       FROM teacher_call ORDER BY hash""",
    "evaluation": """SELECT policy, split, style, question, text, tokens, finish_reason, judge, extracted, score,
                     outcome FROM evaluation ORDER BY 1, 2, 3, 4""",
    "judge_call": "SELECT judge, hash, question, text, finish_reason FROM judge_call ORDER BY 1, 2",
    "served": "SELECT DISTINCT policy, sha256 FROM swap ORDER BY 1",
    "faults": "SELECT * FROM pragma_foreign_key_check UNION ALL SELECT * FROM pragma_integrity_check, (SELECT 1),"
    " (SELECT 1), (SELECT 1)",
}
"""Everything that a run must leave the same, whatever happened to it; ids are replaced by what they stand for."""

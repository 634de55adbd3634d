"""The schema, as numbered migrations: a new one is added at the end, an old one never changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from store.schema.sums_007 import STATEMENTS_007
from store.schema.views_004 import SUMMARY, VIEWS_004
from store.schema.views_005 import COLUMNS, REPLACED, VIEWS_005
from store.schema.views_005 import SUMMARY as SUMMARY_005

if TYPE_CHECKING:
    from sqlite_utils import Database

Migration = Callable[["Database"], None]


class MigrationSteps:
    """The migrations in order, known by name without loading sqlite-utils: reading a store needs no more."""

    def __init__(self) -> None:
        self._steps: list[Migration] = []

    def __call__(self) -> Callable[[Migration], Migration]:
        """Decorator: the next migration."""

        def add(step: Migration) -> Migration:
            self._steps.append(step)
            return step

        return add

    @property
    def names(self) -> list[str]:
        """Names in order."""
        return [step.__name__ for step in self._steps]

    def apply(self, db: Database, stop_before: str | None = None) -> None:
        """Apply what is missing, each in a transaction of its own, up to the one named by `stop_before`."""
        from sqlite_utils.migrations import Migrations

        migrations = Migrations("ratchet")
        for step in self._steps:
            migrations()(step)
        migrations.apply(db, stop_before=stop_before)


MIGRATIONS = MigrationSteps()


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"CHECK ({column} IN ({', '.join(repr(value) for value in values)}))"


@MIGRATIONS()
def m001_first_schema(db: Database) -> None:
    """The tables of docs/architecture.md."""
    phases = ("distil", "sample", "judge", "fallback", "pair", "update", "swap", "evaluate", "gate", "done")
    decisions = ("accepted", "rejected", "no_update")
    outcomes = ("correct", "wrong", "unparsable", "truncated", "judge_error")
    for statement in (
        """CREATE TABLE run (
            id INTEGER PRIMARY KEY CHECK (id = 1), seed INTEGER NOT NULL,
            configuration TEXT NOT NULL, packages TEXT NOT NULL, created TEXT NOT NULL)""",
        """CREATE TABLE session (
            id INTEGER PRIMARY KEY, pid INTEGER NOT NULL, started TEXT NOT NULL, ended TEXT,
            end_reason TEXT, engine_starts INTEGER NOT NULL DEFAULT 0, peak_memory_bytes INTEGER)""",
        """CREATE TABLE image (
            sha256 TEXT PRIMARY KEY, bytes BLOB NOT NULL, format TEXT NOT NULL,
            width INTEGER NOT NULL, height INTEGER NOT NULL)""",
        """CREATE TABLE question (
            id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, external_id TEXT, text TEXT NOT NULL,
            answers TEXT NOT NULL, judge TEXT NOT NULL, split TEXT NOT NULL, source TEXT NOT NULL,
            batch INTEGER NOT NULL)""",
        "CREATE INDEX question_split ON question (split, id)",
        """CREATE TABLE question_image (
            question INTEGER NOT NULL REFERENCES question (id), position INTEGER NOT NULL,
            image TEXT NOT NULL REFERENCES image (sha256), PRIMARY KEY (question, position)) WITHOUT ROWID""",
        """CREATE TABLE policy (
            number INTEGER PRIMARY KEY, parent INTEGER REFERENCES policy (number), made_by TEXT NOT NULL,
            sha256 TEXT NOT NULL, path TEXT NOT NULL, probe TEXT NOT NULL, created TEXT NOT NULL)""",
        f"""CREATE TABLE round (
            number INTEGER PRIMARY KEY, phase TEXT NOT NULL {_one_of("phase", phases)},
            serving_policy INTEGER NOT NULL REFERENCES policy (number),
            candidate_policy INTEGER REFERENCES policy (number),
            decision TEXT {_one_of("decision", decisions)}, reason TEXT,
            started TEXT NOT NULL, finished TEXT)""",
        """CREATE TABLE phase_time (
            round INTEGER NOT NULL REFERENCES round (number), phase TEXT NOT NULL,
            seconds REAL NOT NULL, PRIMARY KEY (round, phase)) WITHOUT ROWID""",
        """CREATE TABLE round_question (
            round INTEGER NOT NULL REFERENCES round (number), position INTEGER NOT NULL,
            question INTEGER NOT NULL REFERENCES question (id),
            PRIMARY KEY (round, position), UNIQUE (round, question))""",
        """CREATE TABLE teacher_call (
            hash TEXT PRIMARY KEY, purpose TEXT NOT NULL, round INTEGER NOT NULL,
            question INTEGER NOT NULL REFERENCES question (id), model TEXT NOT NULL, status TEXT NOT NULL,
            text TEXT, finish_reason TEXT, prompt_tokens INTEGER NOT NULL DEFAULT 0,
            completion_tokens INTEGER NOT NULL DEFAULT 0, created TEXT NOT NULL)""",
        "CREATE INDEX teacher_call_round ON teacher_call (round, purpose)",
        """CREATE TABLE sample (
            id INTEGER PRIMARY KEY, round INTEGER NOT NULL REFERENCES round (number),
            question INTEGER NOT NULL REFERENCES question (id),
            author TEXT NOT NULL CHECK (author IN ('policy', 'teacher')),
            policy INTEGER REFERENCES policy (number), style TEXT NOT NULL, "index" INTEGER NOT NULL,
            seed INTEGER, temperature REAL, text TEXT NOT NULL, token_ids BLOB NOT NULL,
            tokens INTEGER NOT NULL, logprob REAL, finish_reason TEXT NOT NULL,
            teacher_call TEXT REFERENCES teacher_call (hash),
            UNIQUE (round, question, author, policy, style, "index"))""",
        # NULLs never collide in a UNIQUE constraint; a teacher's sample has no policy.
        "CREATE UNIQUE INDEX sample_of_call ON sample (teacher_call) WHERE teacher_call IS NOT NULL",
        f"""CREATE TABLE verdict (
            id INTEGER PRIMARY KEY, sample INTEGER NOT NULL REFERENCES sample (id),
            judge TEXT NOT NULL, judge_version TEXT NOT NULL, extracted TEXT, score REAL NOT NULL,
            outcome TEXT NOT NULL {_one_of("outcome", outcomes)},
            UNIQUE (sample, judge, judge_version))""",
        """CREATE TABLE pair (
            id INTEGER PRIMARY KEY, round INTEGER NOT NULL REFERENCES round (number),
            chosen INTEGER NOT NULL REFERENCES sample (id),
            rejected INTEGER NOT NULL REFERENCES sample (id), rule TEXT NOT NULL,
            weight REAL NOT NULL, UNIQUE (round, chosen, rejected))""",
        """CREATE TABLE training (
            id INTEGER PRIMARY KEY, round INTEGER NOT NULL REFERENCES round (number),
            candidate INTEGER NOT NULL REFERENCES policy (number), method TEXT NOT NULL,
            recipe TEXT NOT NULL, items INTEGER NOT NULL, steps INTEGER NOT NULL, loss REAL NOT NULL,
            seconds REAL NOT NULL, metrics TEXT NOT NULL, UNIQUE (round, candidate))""",
        """CREATE TABLE swap (
            id INTEGER PRIMARY KEY, session INTEGER NOT NULL REFERENCES session (id),
            round INTEGER, policy INTEGER NOT NULL REFERENCES policy (number), sha256 TEXT NOT NULL,
            probe_difference REAL NOT NULL, seconds REAL NOT NULL, created TEXT NOT NULL)""",
        f"""CREATE TABLE evaluation (
            id INTEGER PRIMARY KEY, policy INTEGER NOT NULL REFERENCES policy (number),
            split TEXT NOT NULL, style TEXT NOT NULL, question INTEGER NOT NULL REFERENCES question (id),
            text TEXT NOT NULL, tokens INTEGER NOT NULL, finish_reason TEXT NOT NULL,
            judge TEXT NOT NULL, judge_version TEXT NOT NULL, extracted TEXT, score REAL NOT NULL,
            outcome TEXT NOT NULL {_one_of("outcome", outcomes)},
            UNIQUE (policy, split, style, question))""",
    ):
        db.execute(statement)


@MIGRATIONS()
def m002_judges(db: Database) -> None:
    """Flags beside verdicts, options beside answers, and the vote of each question's samples."""
    outcomes = ("correct", "wrong", "unparsable", "truncated", "judge_error")
    for statement in (
        "ALTER TABLE verdict ADD COLUMN flags TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE evaluation ADD COLUMN flags TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE question ADD COLUMN choices TEXT NOT NULL DEFAULT '[]'",
        f"""CREATE TABLE vote (
            round INTEGER NOT NULL REFERENCES round (number),
            question INTEGER NOT NULL REFERENCES question (id), answer TEXT,
            samples INTEGER NOT NULL, share REAL NOT NULL, margin REAL NOT NULL,
            outcome TEXT {_one_of("outcome", outcomes)},
            PRIMARY KEY (round, question)) WITHOUT ROWID""",
    ):
        db.execute(statement)


@MIGRATIONS()
def m003_teacher(db: Database) -> None:
    """Cost and origin of teacher calls, prompts by hash, batches, and questions that fell back."""
    for statement in (
        """CREATE TABLE prompt (
            hash TEXT PRIMARY KEY, name TEXT NOT NULL, text TEXT NOT NULL, created TEXT NOT NULL)""",
        """CREATE TABLE teacher_batch (
            key TEXT PRIMARY KEY, round INTEGER NOT NULL, purpose TEXT NOT NULL, id TEXT,
            created TEXT NOT NULL, finished TEXT)""",
        "ALTER TABLE teacher_call ADD COLUMN prompt TEXT REFERENCES prompt (hash)",
        "ALTER TABLE teacher_call ADD COLUMN detail TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE teacher_call ADD COLUMN cached_tokens INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE teacher_call ADD COLUMN usage TEXT NOT NULL DEFAULT 'reported'",
        "ALTER TABLE teacher_call ADD COLUMN cost_usd REAL",
        "ALTER TABLE teacher_call ADD COLUMN attempts INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE teacher_call ADD COLUMN batch TEXT REFERENCES teacher_batch (key)",
        # The verdict on an answer belongs to its sample; the call only says whether there is an answer.
        "UPDATE teacher_call SET status = 'answered' WHERE status = 'kept' OR status LIKE 'dropped%'",
        "UPDATE teacher_call SET status = 'rejected' WHERE status LIKE 'refused%'",
        # Two questions may share one request (for example, if only their judges differ): one sample each.
        "DROP INDEX sample_of_call",
        """CREATE UNIQUE INDEX sample_of_call ON sample (teacher_call, question)
            WHERE teacher_call IS NOT NULL""",
        # The round in which the teacher failed twice: probably a wrong annotation.
        "ALTER TABLE question ADD COLUMN suspect INTEGER REFERENCES round (number)",
        f"""CREATE TABLE fallback (
            round INTEGER NOT NULL REFERENCES round (number),
            question INTEGER NOT NULL REFERENCES question (id),
            failed INTEGER NOT NULL REFERENCES sample (id),
            outcome TEXT {_one_of("outcome", ("solved", "corrected", "suspect", "unanswered"))},
            sample INTEGER REFERENCES sample (id), PRIMARY KEY (round, question)) WITHOUT ROWID""",
    ):
        db.execute(statement)


@MIGRATIONS()
def m004_whole_store(db: Database) -> None:
    """Imported pairs, archived rounds, deleted weights, figures of finished rounds, indices, views."""
    _change_table(db, "sample", "author IN ('policy', 'teacher')", "author IN ('policy', 'teacher', 'imported')")
    _without_row_ids(db)
    phases = ("distil", "sample", "judge", "fallback", "pair", "update", "swap", "evaluate", "gate", "done")
    _change_table(db, "phase_time", "phase TEXT NOT NULL", f"phase TEXT NOT NULL {_one_of('phase', phases)}")
    for statement in (
        # Seconds since 1970: a whole number takes four bytes, ISO text twenty-four.
        "ALTER TABLE sample ADD COLUMN created INTEGER",
        "ALTER TABLE evaluation ADD COLUMN created INTEGER",
        "ALTER TABLE policy ADD COLUMN deleted TEXT",
        f"""ALTER TABLE pair ADD COLUMN source TEXT NOT NULL DEFAULT 'sampled'
            {_one_of("source", ("sampled", "imported"))}""",
        """CREATE TABLE imported_pair (
            id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE,
            question INTEGER NOT NULL REFERENCES question (id), style TEXT NOT NULL,
            chosen TEXT NOT NULL, rejected TEXT NOT NULL, file TEXT NOT NULL, file_sha256 TEXT NOT NULL,
            line INTEGER NOT NULL, imported TEXT NOT NULL, pair INTEGER UNIQUE REFERENCES pair (id))""",
        "CREATE INDEX imported_pair_waiting ON imported_pair (id) WHERE pair IS NULL",
        "CREATE INDEX imported_pair_question ON imported_pair (question)",
        """CREATE TABLE round_summary (
            round INTEGER PRIMARY KEY REFERENCES round (number), samples INTEGER NOT NULL,
            questions INTEGER NOT NULL, correct INTEGER NOT NULL, wrong INTEGER NOT NULL,
            unparsable INTEGER NOT NULL, truncated INTEGER NOT NULL, judge_error INTEGER NOT NULL,
            tokens INTEGER NOT NULL)""",
        """CREATE TABLE archive (
            round INTEGER PRIMARY KEY REFERENCES round (number), file TEXT NOT NULL, sha256 TEXT NOT NULL,
            samples INTEGER NOT NULL, first_sample INTEGER NOT NULL, last_sample INTEGER NOT NULL,
            created TEXT NOT NULL)""",
        """CREATE TABLE archived_question (
            round INTEGER NOT NULL REFERENCES archive (round), question INTEGER NOT NULL REFERENCES question (id),
            samples INTEGER NOT NULL, correct INTEGER NOT NULL, PRIMARY KEY (round, question)) WITHOUT ROWID""",
        "CREATE INDEX sample_round ON sample (round)",
        "CREATE INDEX sample_by_teacher ON sample (question) WHERE author = 'teacher'",
        "CREATE INDEX round_question_question ON round_question (question)",
        "CREATE INDEX evaluation_outcome ON evaluation (policy, style, outcome)",
        "CREATE INDEX question_image_image ON question_image (image)",
        "CREATE INDEX question_batch ON question (batch)",
        "CREATE INDEX question_text ON question (text)",
        "CREATE INDEX teacher_call_question ON teacher_call (question)",
        "CREATE INDEX swap_round ON swap (round)",
        f"INSERT INTO round_summary {SUMMARY} WHERE sample.author = 'policy' AND sample.round IN"
        " (SELECT number FROM round WHERE phase = 'done') GROUP BY sample.round",
        *VIEWS_004,
    ):
        db.execute(statement)
    _index_references(db, "sample")


@MIGRATIONS()
def m005_recipes(db: Database) -> None:
    """Kinds of questions, faithfulness of chains, the policy that a candidate was compared with, best-of-K samples."""
    outcomes = ("correct", "wrong", "unparsable", "truncated", "judge_error")
    for statement in (
        f"""CREATE TABLE evaluation_sample (
            id INTEGER PRIMARY KEY, policy INTEGER NOT NULL REFERENCES policy (number),
            split TEXT NOT NULL, style TEXT NOT NULL, question INTEGER NOT NULL REFERENCES question (id),
            "index" INTEGER NOT NULL, text TEXT NOT NULL, token_ids BLOB NOT NULL, finish_reason TEXT NOT NULL,
            judge TEXT NOT NULL, judge_version TEXT NOT NULL, extracted TEXT, score REAL NOT NULL,
            outcome TEXT NOT NULL {_one_of("outcome", outcomes)}, flags TEXT NOT NULL DEFAULT '[]',
            UNIQUE (policy, split, style, question, "index"))""",
        # token_scores: little-endian 32-bit floats, one per token, deflated; score is their sum, in nats.
        """CREATE TABLE verifier_score (
            sample INTEGER NOT NULL REFERENCES evaluation_sample (id),
            reference INTEGER NOT NULL REFERENCES policy (number), score REAL NOT NULL,
            token_scores BLOB NOT NULL, PRIMARY KEY (sample, reference)) WITHOUT ROWID""",
        "ALTER TABLE question ADD COLUMN kind TEXT",
        "ALTER TABLE evaluation ADD COLUMN faithful INTEGER CHECK (faithful IN (0, 1))",
        "ALTER TABLE round ADD COLUMN compared_with INTEGER REFERENCES policy (number)",
        *(f"DROP VIEW {view}" for view in REPLACED),
        *(
            f"ALTER TABLE round_summary ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0"
            for column in ("flagged", "labelled", "labelled_correct", "labelled_questions", "solved")
        ),
        # Rounds archived before had an answer to every question, and no flags.
        "UPDATE round_summary SET labelled = samples, labelled_correct = correct, labelled_questions = questions",
        """UPDATE round_summary SET solved = (SELECT count(DISTINCT question) FROM (
            SELECT question FROM archived_question WHERE archived_question.round = round_summary.round AND correct > 0
            UNION SELECT question FROM sample JOIN verdict ON verdict.sample = sample.id
            WHERE sample.round = round_summary.round AND author = 'policy' AND outcome = 'correct'))
            WHERE round IN (SELECT round FROM archive)""",
        "DELETE FROM round_summary WHERE round NOT IN (SELECT round FROM archive)",
        f"INSERT INTO round_summary ({', '.join(COLUMNS)}) {SUMMARY_005} WHERE sample.author = 'policy'"
        " AND sample.round IN (SELECT number FROM round WHERE phase = 'done' EXCEPT SELECT round FROM archive)"
        " GROUP BY sample.round",
        *VIEWS_005,
    ):
        db.execute(statement)


@MIGRATIONS()
def m006_training_curves(db: Database) -> None:
    """The trainer's figures at each step of an update, counted over its stages. NULL: no figure, or not a number."""
    db.execute(
        """CREATE TABLE training_step (
            training INTEGER NOT NULL REFERENCES training (id), step INTEGER NOT NULL, method TEXT NOT NULL,
            loss REAL, learning_rate REAL, margin REAL, accuracy REAL,
            PRIMARY KEY (training, step)) WITHOUT ROWID"""
    )


@MIGRATIONS()
def m007_sums(db: Database) -> None:
    """Evaluations and comparisons of finished rounds, summed; the figures of a round in progress without a sort."""
    for statement in STATEMENTS_007:
        db.execute(statement)


@MIGRATIONS()
def m008_session_commands(db: Database) -> None:
    """The command of a session: `evaluate` works on a run, too, and its end says nothing about the run."""
    db.execute("ALTER TABLE session ADD COLUMN command TEXT NOT NULL DEFAULT 'run'")


@MIGRATIONS()
def m009_gate_trials(db: Database) -> None:
    """Shrunk policies, every trial of the gate, the best policy after each round, chains with a swapped answer.

    And the numerics of each session.
    """
    authors = "author IN ('policy', 'teacher', 'imported'{})"
    _change_table(db, "sample", authors.format(""), authors.format(", 'swapped'"))
    for statement in (
        "ALTER TABLE policy ADD COLUMN other_parent INTEGER REFERENCES policy (number)",
        "ALTER TABLE policy ADD COLUMN alpha REAL",
        "ALTER TABLE round ADD COLUMN best_policy INTEGER REFERENCES policy (number)",
        "ALTER TABLE session ADD COLUMN numerics TEXT NOT NULL DEFAULT '{}'",
        """CREATE TABLE gate_trial (
            round INTEGER NOT NULL REFERENCES round (number), policy INTEGER NOT NULL REFERENCES policy (number),
            compared_with INTEGER NOT NULL REFERENCES policy (number), questions INTEGER NOT NULL,
            difference REAL NOT NULL, error REAL NOT NULL, accepted INTEGER NOT NULL CHECK (accepted IN (0, 1)),
            best INTEGER NOT NULL CHECK (best IN (0, 1)), reason TEXT NOT NULL, created TEXT NOT NULL,
            PRIMARY KEY (round, policy)) WITHOUT ROWID""",
    ):
        db.execute(statement)


@MIGRATIONS()
def m010_units(db: Database) -> None:
    """Questions that are one unit: the same two candidates in both orders."""
    db.execute("ALTER TABLE question ADD COLUMN unit TEXT")
    db.execute("CREATE INDEX question_unit ON question (unit) WHERE unit IS NOT NULL")


@MIGRATIONS()
def m011_judge_calls(db: Database) -> None:
    """Outputs of trained judges, one per request: no request is made twice."""
    db.execute(
        """CREATE TABLE judge_call (
            judge TEXT NOT NULL, hash TEXT NOT NULL, question INTEGER NOT NULL REFERENCES question (id),
            text TEXT NOT NULL, finish_reason TEXT NOT NULL, created INTEGER NOT NULL,
            PRIMARY KEY (judge, hash)) WITHOUT ROWID"""
    )
    db.execute("CREATE INDEX judge_call_question ON judge_call (question)")


@MIGRATIONS()
def m012_unusable_questions(db: Database) -> None:
    """Why a question is not used any more: too long, refused by the sampler, or taken out. NULL: it is used."""
    db.execute("ALTER TABLE question ADD COLUMN unusable TEXT")
    db.execute("CREATE INDEX question_unusable ON question (id) WHERE unusable IS NOT NULL")


@MIGRATIONS()
def m014_phase_memory(db: Database) -> None:
    """Memory of each phase, planned and measured, in bytes; NULL: not planned, or not measured."""
    db.execute(
        """CREATE TABLE phase_memory (
            round INTEGER NOT NULL REFERENCES round (number), phase TEXT NOT NULL, planned_host INTEGER,
            before_host INTEGER, peak_host INTEGER, planned_card INTEGER, peak_card INTEGER,
            PRIMARY KEY (round, phase)) WITHOUT ROWID"""
    )


@MIGRATIONS()
def m015_engines(db: Database) -> None:
    """The engines of a session that has several: host, weights served, figures."""
    db.execute("""
        CREATE TABLE engine (
            session INTEGER NOT NULL REFERENCES session(id),
            number INTEGER NOT NULL,
            host TEXT NOT NULL,
            pid INTEGER NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('serving', 'starting', 'shut out')),
            sha256 TEXT,
            chains INTEGER NOT NULL,
            tokens INTEGER NOT NULL,
            tokens_per_s REAL NOT NULL,
            restarts INTEGER NOT NULL,
            note TEXT NOT NULL,
            updated TEXT NOT NULL,
            PRIMARY KEY (session, number)
        ) WITHOUT ROWID""")


@MIGRATIONS()
def m017_rejudged(db: Database) -> None:
    """Verdicts of other judges on samples and evaluations that have theirs, and rewards that another trainer gave."""
    columns = f"""judge TEXT NOT NULL, judge_version TEXT NOT NULL, extracted TEXT, score REAL NOT NULL,
        outcome TEXT NOT NULL {_one_of("outcome", ("correct", "wrong", "unparsable", "truncated", "judge_error"))},
        flags TEXT NOT NULL, created INTEGER NOT NULL"""
    for statement in (
        f"""CREATE TABLE rejudged (
            sample INTEGER NOT NULL REFERENCES sample (id), {columns},
            PRIMARY KEY (sample, judge, judge_version)) WITHOUT ROWID""",
        f"""CREATE TABLE rejudged_evaluation (
            evaluation INTEGER NOT NULL REFERENCES evaluation (id), {columns},
            PRIMARY KEY (evaluation, judge, judge_version)) WITHOUT ROWID""",
        """CREATE TABLE reward (
            sample INTEGER NOT NULL REFERENCES sample (id), name TEXT NOT NULL, value REAL NOT NULL,
            PRIMARY KEY (sample, name)) WITHOUT ROWID""",
    ):
        db.execute(statement)


def _without_row_ids(db: Database) -> None:
    """Key the verdicts by sample, judge and version only, which saves 24 bytes per verdict."""
    sql = str(db.execute("SELECT sql FROM sqlite_master WHERE name = 'verdict'").fetchone()[0])
    for old, new in (
        ("CREATE TABLE verdict", "CREATE TABLE verdict_by_key"),
        ("id INTEGER PRIMARY KEY, ", ""),
        ("UNIQUE (sample, judge, judge_version)", "PRIMARY KEY (sample, judge, judge_version)"),
    ):
        if old not in sql:
            raise ValueError(f"table verdict is not as the first schema made it: {sql}")
        sql = sql.replace(old, new, 1)
    columns = ", ".join(row[1] for row in db.execute("PRAGMA table_info(verdict)") if row[1] != "id")
    db.execute(f"{sql} WITHOUT ROWID")
    db.execute(f"INSERT INTO verdict_by_key ({columns}) SELECT {columns} FROM verdict ORDER BY sample")
    db.execute("DROP TABLE verdict")
    db.execute("ALTER TABLE verdict_by_key RENAME TO verdict")


def _index_references(db: Database, table: str) -> None:
    """An index on every column that refers to the table: SQLite searches it for each deleted row."""
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        indices = [row[1] for row in db.execute(f"PRAGMA index_list({name})").fetchall()]
        first = {db.execute(f"PRAGMA index_info({index})").fetchone()[2] for index in indices}
        for key in db.execute(f"PRAGMA foreign_key_list({name})").fetchall():
            if key[2] == table and key[3] not in first:
                db.execute(f"CREATE INDEX {name}_{key[3]} ON {name} ({key[3]})")


def _change_table(db: Database, table: str, old: str, new: str) -> None:
    """Change a CHECK in a table's definition, whatever columns later versions added.

    Rows are not touched, so it takes no time in a store of any size (SQLite's own way for a change that leaves
    the stored rows valid: https://sqlite.org/lang_altertable.html#otheralter).
    """
    sql = str(db.execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", [table]).fetchone()[0])
    if old not in sql:
        raise ValueError(f"table {table} is not as the first schema made it: {sql}")
    version = int(db.execute("PRAGMA schema_version").fetchone()[0])
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_master SET sql = ? WHERE type = 'table' AND name = ?", [sql.replace(old, new, 1), table])
    db.execute(f"PRAGMA schema_version = {version + 1}")
    db.execute("PRAGMA writable_schema = RESET")

"""Fuzzes the inputs that users and servers give to a run: `python -m benchmarks.fuzz_inputs --count 10000`.

Question files, imported pairs, configuration files, model outputs and a teacher's answers go through the real commands
in this process. Each must end with an exit code of its own and at most one line of error, never with a traceback.
Hypothesis makes the inputs: valid ones with a part or a few bytes replaced.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

import run_loop
from judges import find_judge, give_verdict
from loop.commands.exits import run_command_line
from loop.config.load import parse_config
from loop.config.run_identity import record_run
from loop.questions.ingest import ingest
from loop.questions.registry import SOURCES
from loop.terminal.console import Console
from policies import PolicyError
from policies.encoding import Encoder
from policies.judge_endpoint import JudgeEndpoint
from policies.teacher.client import Teacher
from policies.teacher.errors import TeacherError
from policies.teacher.request import TeacherRequest, TeacherSettings
from store import open_store
from tests.support.fault_server import FaultServer, serve

PROJECT = Path(__file__).resolve().parent.parent
MODEL = PROJECT / "models" / "shapes_2m"
BAD_ENDS = (0, 1, 2)

ODD_TEXTS = (
    *(
        "",
        " ",
        "\x00",
        "\ud800",
        "\u2028",
        "\x85",
        "\ufeff",
        "\x1b[31m",
        "../../etc/passwd",
        "loop.png",
        "pipe",
        "a\x00b",
    ),
    *(
        "### Answer: red",
        "<image>" * 3,
        "[" * 3000,
        "(" * 3000,
        "9" * 400,
        "1e999",
        "-0",
        "nan",
        "\\boxed{",
        "x" * 3000,
    ),
    *("one.png", "none.png", ".", "/", "data:image/png;base64,é", "data:,", "data:image/png;base64,AAAA", "{question}"),
    *(
        "exact",
        "numeric(relative=1e999)",
        "python(f=open)",
        "regex(pattern='(')",
        "choice",
        "llm",
        "vote",
        "test",
        "gate",
    ),
)
JSON_TEXT = st.sampled_from(ODD_TEXTS) | st.text(max_size=8)
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**30, -1, 0, 2**63, 1e308])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | JSON_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JSON_TEXT, inner, max_size=3),
    max_leaves=6,
)
QUESTION: dict[str, Any] = {"question": "what is it?", "answer": "red", "images": ["one.png"]}
MORE = {"answers": ["a"], "choices": ["a", "b"], "judge": "exact", "kind": "k", "id": 1, "split": "train", "group": "g"}
PREFERENCE = {"candidates": ["a", "b"], "better": 1, "candidate_images": [["one.png"], []], "task": "t"}
PAIR: dict[str, Any] = {"prompt": "what?", "chosen": "### Answer: a", "rejected": "### Answer: b"}
PAIR_MORE = {"images": ["one.png"], "question": "q", "style": "cot", "answers": ["a"]}
COMPLETION: dict[str, Any] = {
    "choices": [{"message": {"content": "It is red.\n### Answer: red"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
    "error": {"message": "no", "code": "c"},
}
PREDICTION: dict[str, Any] = {"prediction": "### Answer: red", "answer": "red"}
PREDICTION_MORE = {"answers": ["a"], "choices": ["a", "b"], "finish_reason": "stop", "question": "q"}
CONFIG: dict[str, Any] = {
    "policy": {"model": str(MODEL), "dtype": "float32"},
    "questions": {"source": "jsonl", "path": "questions.jsonl", "judge": "exact", "held_out_share": 0.5},
    "teacher": {"enabled": False, "notes": {}, "prices": {}},
    "sampling": {"questions": 4, "samples": 2, "temperature": [1.0], "max_tokens": 64},
    "evaluation": {"max_tokens": 64},
    "pairs": {"band": [0.0, 1.0]},
    "stages": {"rounds": []},
    "gate": {"shrink": [0.5], "rule": "not_worse"},
    "update": {"losses": {"sigmoid": 1.0}},
    "grpo": {"rewards": {"answer": 1.0}},
    "engine": {"max_model_len": 256},
}
JUDGES = ("exact", "numeric", "choice", "vqa", "anls", "list", "chartqa", "regex(pattern='(a|b)*')", "preference")


@st.composite
def altered(draw: Any, whole: dict[str, Any], more: dict[str, Any] | None = None) -> Any:
    """A copy in which some keys are added, and one place at whatever depth is replaced or left out."""
    made = json.loads(json.dumps({**whole, **{k: v for k, v in (more or {}).items() if draw(st.integers(0, 3)) == 0}}))
    place: Any = made
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return made
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and draw(st.booleans()):
            place = place[key]
            continue
        what = draw(st.sampled_from(["as it is", "other", "other", "left out", "renamed"]))
        if what == "other":
            place[key] = draw(JSON)
        elif what == "left out":
            del place[key]
        elif what == "renamed" and isinstance(place, dict):
            place[draw(JSON_TEXT)] = place.pop(key)
        return made


@st.composite
def lines_of(draw: Any, rows: st.SearchStrategy[Any]) -> bytes:
    """A file of such rows, sometimes with invalid bytes in it."""
    lines = [json.dumps(row, ensure_ascii=draw(st.booleans())) for row in draw(st.lists(rows, max_size=3))]
    content = bytearray("\n".join(lines).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0] * 9 + [1, 3]))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(content)


def toml(table: dict[str, Any]) -> bytes:
    """A configuration as TOML; values that TOML cannot have are written as JSON, and are then refused."""
    lines = []
    for name, values in table.items():
        lines.append(
            f"[{json.dumps(name)}]" if isinstance(values, dict) else f"{json.dumps(name)} = {json.dumps(values)}"
        )
        if isinstance(values, dict):
            lines += [f"{json.dumps(key)} = {_inline(value)}" for key, value in values.items()]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value)


class Fuzz:
    """A folder with a run, and how often each kind of input ended in which way."""

    def __init__(self, folder: Path, server: FaultServer) -> None:
        self.folder, self.server = folder, server
        self.ends: Counter[str] = Counter()
        self.encoder = Encoder(str(MODEL), lambda name: Image.new("RGB", (8, 8)))
        Image.new("RGB", (8, 8)).save(folder / "one.png")
        (folder / "loop.png").symlink_to("loop.png")
        os.mkfifo(folder / "pipe")
        good = [{**QUESTION, "split": split, "images": []} for split in ("train", "test")]
        (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in good))
        self.run_dir = self._begin("run", (folder / "questions.jsonl").read_bytes())
        settings = TeacherSettings(server.url, "m", attempts=1, timeout_s=10.0, concurrency=1, api_key_env="")
        self.teacher = Teacher(settings)
        self.endpoint = JudgeEndpoint(server.url, "m", 10, 10.0)

    def _begin(self, name: str, content: bytes) -> Path:
        run_dir, file = self.folder / name, self.folder / f"{name}.jsonl"
        run_dir.mkdir()
        file.write_bytes(content)
        tables = {**CONFIG, "questions": {**CONFIG["questions"], "path": str(file)}}
        config = parse_config(tables, "fuzz")
        store = open_store(run_dir, create=True)
        try:
            record_run(store, config)
            ingest(store, config, SOURCES["jsonl"], Console(quiet=True), lambda: self.encoder)
        finally:
            store.close()
        return run_dir

    def questions(self, content: bytes) -> None:
        """Start a new run with this file, as `run` does before it loads a model."""
        try:
            content = (self.folder / "questions.jsonl").read_bytes() + content  # a run needs a row of each split
            self._command("questions", lambda: run_command_line(lambda: self._begin("new", content)))
        finally:
            shutil.rmtree(self.folder / "new", ignore_errors=True)

    def added(self, content: bytes) -> None:
        """Add the same file to a run that has questions."""
        (self.folder / "more.jsonl").write_bytes(content)
        self._command("add", lambda: run_loop.main(["add", str(self.run_dir), str(self.folder / "more.jsonl")]))

    def imported(self, content: bytes) -> None:
        """Import pairs into the run."""
        (self.folder / "pairs.jsonl").write_bytes(content)
        words = ["import", str(self.run_dir), "pairs", str(self.folder / "pairs.jsonl")]
        self._command("import", lambda: run_loop.main(words))

    def configured(self, table: dict[str, Any]) -> None:
        """Read a configuration file by `run --dry-run`, which starts nothing."""
        (self.folder / "recipe.toml").write_bytes(toml(table))
        words = ["run", "--config", str(self.folder / "recipe.toml"), "--dry-run"]
        self._command("configuration", lambda: run_loop.main(words))

    def judged(self, judge: str, content: bytes, skip_bad: bool) -> None:
        """Judge a file of predictions with a model's outputs."""

        def work() -> None:
            before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(content))
            try:
                run_loop.main(["judge", "--judge", judge, *(["--skip-bad"] if skip_bad else [])])
            finally:
                sys.stdin = before

        self._command("judge", work)

    def output(self, judge: str, text: str) -> None:
        """Judge one output of a policy, as a round does."""
        verdict = give_verdict(
            find_judge(judge), text, ["1"], finish_reason="stop", needs_marker=True, choices=["1", "2"]
        )
        self.ends[f"output: {verdict.outcome}"] += 1

    def answered(self, body: Any) -> None:
        """Read an answer over HTTP, once as a teacher's and once as that of the endpoint of judge `llm`."""
        self.server.behave = lambda *_: body
        with contextlib.suppress(PolicyError):
            self.endpoint.ask("is it right?").encode()
        try:
            ((_, reply),) = [each for group in self.teacher.ask_all([TeacherRequest("k", "p")]) for each in group]
        except TeacherError:
            self.ends["teacher: an error in words"] += 1
            return
        reply.text.encode()
        give_verdict(find_judge("exact"), reply.text, ["red"], finish_reason=reply.finish_reason, needs_marker=True)
        self.ends[f"teacher: {reply.status}"] += 1

    def _command(self, name: str, work: Callable[[], object]) -> None:
        code, out, err = 0, io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                work()
            except SystemExit as end:
                code = int(end.code or 0)
        said = [line for line in err.getvalue().splitlines() if line.startswith("error: ") or "Traceback" in line]
        assert code in BAD_ENDS, (name, code, err.getvalue())
        assert not any("Traceback" in line for line in said), (name, err.getvalue())
        assert code == 0 or "rror: " in err.getvalue(), (name, code, err.getvalue())
        self.ends[f"{name}: exit {code}"] += 1


PREFERENCE_ROW = {key: value for key, value in {**QUESTION, **PREFERENCE}.items() if key != "answer"}
GOOD_ROWS = st.sampled_from([QUESTION, PREFERENCE_ROW, {**QUESTION, "judge": "choice", "choices": ["red", "blue"]}])
QUESTION_FILES = lines_of(GOOD_ROWS | altered(QUESTION, MORE) | altered(PREFERENCE_ROW, MORE))
OUTPUTS = st.lists(
    JSON_TEXT | st.sampled_from(["### Answer: ", "\\boxed{1}", "<answer>1</answer>", "1", "red, "]), max_size=6
)
INPUTS: dict[str, tuple[float, st.SearchStrategy[Any]]] = {
    "questions": (0.25, st.tuples(QUESTION_FILES)),
    "added": (0.05, st.tuples(QUESTION_FILES)),
    "imported": (0.2, st.tuples(lines_of(st.just(PAIR) | altered(PAIR, PAIR_MORE)))),
    "configured": (0.15, st.tuples(altered(CONFIG) | altered(CONFIG, {"new": {"key": 1}}))),
    "judged": (0.1, st.tuples(st.sampled_from(JUDGES), lines_of(altered(PREDICTION, PREDICTION_MORE)), st.booleans())),
    "output": (0.1, st.tuples(st.sampled_from(JUDGES), OUTPUTS.map("".join))),
    "answered": (0.15, st.tuples(altered(COMPLETION) | st.dictionaries(JSON_TEXT, JSON, max_size=2))),
}
"""Kind of input -> its share of all, and how it is made; the kind is the method of `Fuzz` that takes it."""


def fuzz(count: int, first_seed: int, report: Callable[[str], object] = print) -> Mapping[str, int]:
    """Feed `count` inputs, each kind its share; return how often each kind ended in which way.

    Raises the first error that is not a message of one line, with the smallest input that leads to it.
    """
    with tempfile.TemporaryDirectory() as name, serve() as server:
        made = Fuzz(Path(name), server)
        for kind, (share, inputs) in INPUTS.items():
            started, wanted = time.monotonic(), max(1, round(count * share))
            checks = settings(
                max_examples=wanted,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            )
            checks(seed(first_seed)(given(inputs)(_taker(getattr(made, kind)))))()
            report(f"{kind}: {wanted} inputs, {time.monotonic() - started:.0f} s")
        return dict(sorted(made.ends.items()))


def _taker(take: Callable[..., None]) -> Callable[[tuple[Any, ...]], None]:
    return lambda arguments: take(*arguments)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for end, times in fuzz(options.count, options.seed).items():
        print(f"{times:7,} {end}")


if __name__ == "__main__":
    main()

"""The pages without a browser: what is on them, who may see them, and what reading them costs the store."""

import hashlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import unicodedata
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from loop.errors import InputError
from loop.pages.access import is_loopback
from loop.pages.attempts import choose_attempts, read_attempts, read_question, with_token_scores
from loop.pages.browse import ORDERS, SHOWS, Row, list_questions, page_query, parse_filter, question_sets, sides
from loop.pages.charts import charts
from loop.pages.escape import HIDDEN, plain, visible
from loop.pages.figures import pass_rate_bin, read_figures
from loop.pages.render import shade, status_line
from loop.pages.report import QUESTIONS_PER_PART, _choose_questions, write_report
from loop.pages.serve import application, serve_run
from loop.reading.accuracy_log import log_rows
from loop.reading.run_status import Status
from loop.reading.text import MAX_MARKS
from loop.terminal.console import Console
from store import Store, open_store
from store.maintenance.archive import archive_round
from store.rounds import Policy, add_policy, start_round
from tests.support.command_line import PROJECT, command, run_command, run_program
from tests.support.looked_at_run import HOSTILE, ROUNDS, SAMPLES, make_run
from tests.support.stores import modules_of


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("looked_at"))


@pytest.fixture
def store(run_dir: Path) -> Iterator[Store]:
    opened = open_store(run_dir, read_only=True)
    yield opened
    opened.close()


@pytest.fixture
def client(run_dir: Path) -> TestClient:
    return TestClient(application(run_dir), base_url="http://127.0.0.1:8000")


@pytest.mark.parametrize("text", HOSTILE)
def test_hidden_characters_are_named_and_markup_is_text(text: str) -> None:
    shown = visible(text)
    assert not HIDDEN.search(shown)
    assert not HIDDEN.search(plain(text))
    assert re.findall(r"<(?!/?span\b)", shown) == []


def test_invisible_characters_are_named_and_marks_thinned() -> None:
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp") and chr(code) not in "\t\n":
            assert HIDDEN.fullmatch(chr(code)), hex(code)
    assert len(plain("a" + "\u0301" * 60)) == len(visible("a" + "\u0301" * 60)) == 1 + MAX_MARKS


def test_a_run_of_hidden_characters_is_one_label() -> None:
    assert plain("a" + "\0" * 100_000 + "b\tc\nd\r\ne") == "a[NUL x100000]b\tc\nd\ne"


@pytest.mark.parametrize(
    ("correct", "samples", "expected"), [(0, 8, 0), (1, 8, 1), (2, 8, 1), (3, 8, 2), (7, 8, 4), (8, 8, 5)]
)
def test_a_question_lies_in_the_bin_of_its_share(correct: int, samples: int, expected: int) -> None:
    assert pass_rate_bin(correct, samples) == expected


def test_charts_show_what_the_log_says(store: Store) -> None:
    made = {chart.key: chart for chart in charts(read_figures(store))}
    drawn = {key: chart.options for key, chart in made.items() if chart.options is not None}
    assert drawn.keys() == made.keys()
    rows = log_rows(store)
    line = next(each for each in drawn["accuracy"]["series"] if each["name"] == "with reasoning")
    heights = [point["value"] for point in line["data"]]
    assert heights == [round(100 * row["accuracy"]["cot"]["accuracy"], 2) for row in rows]
    assert [point.get("itemStyle", {}).get("color") for point in line["data"]] == [None] * ROUNDS + ["var(--page)"]
    right = next(each for each in drawn["outcomes"]["series"] if each["name"] == "correct")
    assert right["data"] == [pytest.approx(100 * row["pass_rate"], abs=0.01) for row in rows if row["samples"]]
    for key, chart in made.items():
        assert all(len(row) == len(chart.columns) for row in chart.table)
        assert len(chart.tips) == len(drawn[key]["xAxis"]["data"])


def sorted_by(row: Row, order: str) -> float | None:
    """The figure that puts a row in its place."""
    shares = {"first": row.first.share, "second": row.second.share}
    return {"id": row.id, "change": row.change, **shares}[order]


def test_the_pages_of_a_list_are_the_list_in_any_order(store: Store) -> None:
    for name in question_sets(store):
        for order in ORDERS:
            for descending in ("", "1"):
                found = parse_filter(store, {"set": name, "order": order, "descending": descending})
                whole = list_questions(store, found, limit=1000)
                assert whole.after is None
                page = list_questions(store, found, limit=5)
                pages = [*page.rows]
                while page.after is not None:
                    page = list_questions(store, replace(found, after=page.after), limit=5)
                    pages += page.rows
                assert pages == list(whole.rows)
                assert len(pages) == 12
                seen = [value for row in pages if (value := sorted_by(row, order)) is not None]
                assert seen == sorted(seen, reverse=bool(descending))


def test_filters_keep_what_they_say(store: Store) -> None:
    everything = {row.id: row for name in question_sets(store) for row in _all(store, set=name)}
    lost = _all(store, set="test", first="2", second="3", show="lost")
    assert {row.id for row in lost} == {
        id for id, row in everything.items() if row.change and row.change < 0 and id > 12
    }
    assert [row.id for row in _all(store, set="sampled", q="number 9")] == [10]
    assert _all(store, set="sampled", q="%%") == _all(store, set="sampled", q="nu_ber") == []
    for row in _all(store, set="sampled", show="some"):
        assert 0 < row.second.correct < row.second.total == SAMPLES
    odd = {row.id for row in _all(store, set="sampled", show="unparsable")}
    assert odd == {
        id
        for id in range(1, 13)
        if any(
            each.outcome == "unparsable" for each in read_attempts(store, read_question(store, id), sides(store)[-1])
        )
    }


def _all(store: Store, **asked: str) -> list[Row]:
    return list(list_questions(store, parse_filter(store, asked), limit=1000).rows)


def test_a_page_is_read_through_indices(store: Store) -> None:
    looked_at = 0
    for name in question_sets(store):
        for show in SHOWS:
            for order in ORDERS:
                found = replace(
                    parse_filter(store, {"set": name, "show": show, "order": order}), after="0.5:3", search="a"
                )
                sql, parameters = page_query(store, found, 50)
                plan = [row[3] for row in store.connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
                assert [step for step in plan if step.startswith("SCAN")] == [], (sql, plan)
                if order == "id":
                    assert plan[-1] != "USE TEMP B-TREE FOR ORDER BY", (sql, plan)
                looked_at += 1
    assert looked_at == 2 * len(SHOWS) * len(ORDERS)


def test_an_address_that_means_nothing_is_refused_by_name(store: Store, client: TestClient) -> None:
    for bad in ({"set": "x"}, {"show": "' OR 1"}, {"first": "99"}, {"after": "1; DROP"}, {"order": "text"}):
        with pytest.raises(InputError, match=next(iter(bad))):
            parse_filter(store, bad)
        assert client.get("/questions", params=bad).status_code == 400
    for path in (
        "/questions/999",
        f"/questions/{2**63}",
        f"/questions/{'9' * 5_000}",
        "/images/abc",
        "/static/../serve.py",
        "/static/charts.py",
        "/nothing",
    ):
        assert client.get(path).status_code == 404
    assert client.post("/").status_code == 405


def test_a_question_shows_both_rounds_and_coloured_tokens(client: TestClient, store: Store) -> None:
    page = client.get("/questions/1", params={"set": "sampled", "first": "1", "second": "3"}).text
    assert page.count('<article class="attempt') == 2 * SAMPLES
    held_out = client.get("/questions/13", params={"first": "2", "second": "3"}).text
    assert "best of K, sample 1" in held_out
    found = [with_token_scores(store, each) for each in read_attempts(store, read_question(store, 13), sides(store)[3])]
    best = next(each for each in found if each.pieces)
    assert "".join(piece.text for piece in best.pieces) == best.text
    assert sum(piece.score for piece in best.pieces) == pytest.approx(best.verified, abs=1e-4)
    assert {shade(score) for score in (0.05, 0.2, 1, 9, -9)} == {"", "for-1", "for-2", "for-3", "against-3"}


def test_the_live_page_has_every_best_of_chain(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    changed = open_store(run)
    columns = [row["name"] for row in changed.rows("SELECT name FROM pragma_table_info('evaluation_sample')")]
    names = ", ".join(f'"{name}"' for name in columns if name not in ("id", "index"))
    with changed.transaction():
        for index in range(100, 140):
            changed.connection.execute(
                f'INSERT INTO evaluation_sample ("index", {names}) SELECT ?, {names} FROM evaluation_sample'
                " WHERE question = 13 ORDER BY id LIMIT 1",
                (index,),
            )
    kept = changed.value("SELECT count(*) FROM evaluation_sample WHERE question = 13")
    changed.close()
    page = TestClient(application(run), base_url="http://127.0.0.1:8000").get("/questions/13?first=2&second=3").text
    assert page.count("best of K, sample") == kept > 40


def test_an_infinite_loss_leaves_the_other_figures_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    changed = open_store(run)
    with changed.transaction():
        changed.connection.execute("UPDATE training SET loss = 9e999 WHERE round = 2")
    changed.close()
    page = TestClient(application(run), base_url="http://127.0.0.1:8000").get("/").text
    charted = re.search(r'<script type="application/json" id="charts"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert charted is not None
    json.loads(charted[1], parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("state", "reason", "shown"),
    [
        ("finished", "finished", "Finished"),
        ("stopped", "stopped", "Stopped"),
        (
            "stopped",
            "LoopError",
            "Stopped by LoopError ('run' continues it; run.log has the error)",
        ),
        ("stale", None, "Stale (its process died without a message; 'run' continues it)"),
    ],
)
def test_the_page_says_how_a_run_ended(state: str, reason: str | None, shown: str) -> None:
    status = Status(None, 3, "done", 2, None, None, None, None, None, state, end_reason=reason)
    assert status_line(status) == f"{shown}. Round 3: done. Best policy 2."


def test_search_knows_the_case_of_every_alphabet(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    changed = open_store(run)
    with changed.transaction():
        changed.connection.execute("UPDATE question SET text = 'Où est l’ÉTOILE?' WHERE id = 14")
    found = parse_filter(changed, {"q": "étoile", "set": "test"})
    assert [row.id for row in list_questions(changed, found).rows] == [14]
    changed.close()


def test_right_and_wrong_chains_share_the_room(store: Store) -> None:
    chains = read_attempts(store, read_question(store, 3), sides(store)[2])
    right = [replace(each, outcome="correct") for each in chains]
    wrong = [replace(each, outcome="wrong") for each in chains]
    mixed = choose_attempts([*right, *wrong], 4)
    assert [each.outcome for each in mixed] == ["correct"] * 2 + ["wrong"] * 2
    assert len(choose_attempts(right, 3)) == 3
    assert choose_attempts(wrong[:1] + right, 4) == [wrong[0], *right[:3]]


@pytest.mark.parametrize(
    "path", ["/", "/questions", "/questions?set=sampled", *(f"/questions/{n}" for n in range(1, 25))]
)
def test_no_text_of_others_becomes_markup(client: TestClient, path: str) -> None:
    page = client.get(path).text
    assert "<img src=x" not in page
    assert not re.search(r"<script>window|<b>flag|<b>bold", page)
    assert not HIDDEN.search(page)


def test_archived_samples_are_still_shown(run_dir: Path, tmp_path: Path) -> None:
    copy = make_run(tmp_path / "run")
    store = open_store(copy)
    card = read_question(store, 2)
    before = read_attempts(store, card, sides(store)[2])
    assert archive_round(store, 1) > 0
    assert read_attempts(store, card, sides(store)[2]) == before
    assert read_question(store, 2) == card
    store.close()


def test_a_run_that_has_hardly_begun_can_be_looked_at(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    client = TestClient(application(tmp_path), base_url="http://127.0.0.1")
    assert "No round has started" in client.get("/").text
    assert "No candidate was evaluated yet" in client.get("/").text
    assert "no round has started yet" in client.get("/questions").text
    run_command("report", tmp_path, "-o", tmp_path / "empty.html")
    with store.transaction():
        add_policy(store, Policy(0, None, "base", "x", "base", {}))
    start_round(store, 0, "distil", 0, [])
    store.close()
    assert "Round start: distil" in TestClient(application(tmp_path), base_url="http://127.0.0.1").get("/").text
    assert client.get("/questions").status_code == 200
    run_command("report", tmp_path, "-o", tmp_path / "begun.html")


def test_serving_follows_the_run_and_says_when_nothing_is_new(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    client = TestClient(application(run), base_url="http://127.0.0.1")
    first = client.get("/")
    assert client.get("/", headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    store = open_store(run)
    start_round(store, ROUNDS + 1, "sample", ROUNDS, range(1, 5))
    deadline = time.monotonic() + 30
    while f"Round {ROUNDS + 1}: sample" not in client.get("/").text:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    store.close()
    (run / "store.db").rename(run / "away.db")
    assert client.get("/questions").status_code == 503


def test_every_view_goes_through_a_kill_and_a_resume(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_program("killed_run", tmp_path, "round 2: judge begins", check=-signal.SIGKILL)
    client = TestClient(application(run), base_url="http://127.0.0.1:8000")
    assert "Stale (its process died without a message" in client.get("/").text
    assert "Round 2: judge" in client.get("/").text
    assert "stale" in run_command("status", run, check=5).stdout
    followed = run_command("log", run, "--follow", "--json")
    assert [json.loads(line)["round"] for line in followed.stdout.splitlines()] == [0, 1]
    assert "the run is stale" in followed.stderr
    run_program("killed_run", tmp_path, "nowhere")
    fresh = TestClient(application(run), base_url="http://127.0.0.1:8000")
    assert "Finished. Round 2: done" in fresh.get("/").text
    assert client.get("/questions?set=sampled").status_code == 200
    assert "finished" in run_command("status", run, check=3).stdout
    followed = run_command("log", run, "--follow", "--json")
    assert [json.loads(line)["round"] for line in followed.stdout.splitlines()] == [0, 1, 2]
    assert followed.stderr == ""


def test_serving_an_older_store_names_the_upgrade_command(tmp_path: Path) -> None:
    shutil.copy(PROJECT / "tests" / "fixtures" / "store_m001.db", tmp_path / "store.db")
    refused = run_command("serve", tmp_path, "--port", 0, check=1)
    assert f"'log {tmp_path}' brings it up to date" in refused.stderr
    run_command("log", tmp_path)
    assert (
        "Finished. Round 2: done" in TestClient(application(tmp_path), base_url="http://127.0.0.1:8000").get("/").text
    )


def test_pages_read_and_never_write(run_dir: Path, client: TestClient) -> None:
    content = hashlib.sha256((run_dir / "store.db").read_bytes()).hexdigest()
    for path in ("/", "/questions", "/questions/1", "/questions/14?first=base"):
        assert client.get(path).status_code == 200
    assert hashlib.sha256((run_dir / "store.db").read_bytes()).hexdigest() == content


def test_images_come_as_images_and_nothing_else_is_believed(client: TestClient, store: Store) -> None:
    digest = store.value("SELECT sha256 FROM image")
    answer = client.get(f"/images/{digest}")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_names_that_are_not_this_machines_are_refused(run_dir: Path) -> None:
    client = TestClient(application(run_dir), base_url="http://127.0.0.1:8000")
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "", "user@evil.example"):
        assert client.get("/", headers={"Host": host}).status_code == 421, host
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "192.168.1.5:8000", socket.gethostname()):
        assert client.get("/", headers={"Host": host}).status_code == 200, host


def test_a_token_lets_in_and_nothing_else_does(run_dir: Path) -> None:
    token = "a token that nobody guesses"  # noqa: S105
    client = TestClient(application(run_dir, "0.0.0.0", token), base_url="http://127.0.0.1", follow_redirects=False)  # noqa: S104
    assert client.get("/static/style.css").status_code == 401
    name = f"ratchet-{hashlib.sha256(f'ratchet cookie {token}'.encode()).hexdigest()[:8]}"
    assert client.get("/", params={"token": "x"}).status_code == 403
    assert client.get("/", headers={"Cookie": f"{name}={token}"}).status_code == 401
    assert client.get("/", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    entered = client.get("/questions", params={"token": token, "show": "lost"})
    assert (entered.status_code, entered.headers["location"]) == (303, "/questions?show=lost")
    assert "httponly" in entered.headers["set-cookie"].lower()
    assert entered.headers["set-cookie"].startswith(f"{name}=")
    assert token not in entered.headers["set-cookie"]
    assert client.get("/questions").status_code == 200


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\\\evil.example/x", "///evil.example/x"])
def test_the_token_never_leads_to_another_site(path: str, run_dir: Path) -> None:
    client = TestClient(application(run_dir, "127.0.0.1", "good"), base_url="http://127.0.0.1", follow_redirects=False)
    answer = client.get(f"http://127.0.0.1{path}?token=good")
    assert (answer.status_code, answer.headers["location"]) == (303, "/evil.example/x")


def test_serving_beyond_loopback_needs_a_token(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")] == [  # noqa: S104
        *(True, True, True, False, False)
    ]
    refused = run_command("serve", run_dir, "--host", "0.0.0.0", check=2)  # noqa: S104
    assert refused.stderr == "error: --host 0.0.0.0 can be reached from other machines: add --token\n"
    short = run_command("serve", run_dir, "--token", check=2, RATCHET_TOKEN="short")
    assert "RATCHET_TOKEN is shorter" in short.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="give another port"):
        serve_run(run_dir, "127.0.0.1", taken.getsockname()[1], None, False, lambda _: None)


def test_serve_prints_where_it_is_and_stops_on_ctrl_c(run_dir: Path) -> None:
    server = subprocess.Popen(command("serve", run_dir, "--port", 0, "--token"), stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        (address,) = re.findall(r"http://\S+", server.stdout.readline())
        cookies = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with cookies.open(address, timeout=10) as answer:
            assert b"Held-out accuracy" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(address.split("?")[0], timeout=10)  # noqa: S310
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 130
    finally:
        server.kill()
        server.communicate()


def test_a_report_says_what_it_left_out(run_dir: Path, tmp_path: Path) -> None:
    said = json.loads(run_command("report", run_dir, "-o", tmp_path / "r.html", "--questions", 10, "--json").stdout)
    assert (said["questions"], said["of"], said["bytes"]) == (10, 24, (tmp_path / "r.html").stat().st_size)
    page = (tmp_path / "r.html").read_text()
    assert "10 of 24 questions, drawn evenly," in page
    assert said["of_chains"] == 12 * SAMPLES * ROUNDS + 12 * 2 * (ROUNDS + 1) + 1
    assert 0 < said["chains"] < said["of_chains"]
    left_out = said["of_chains"] - said["chains"]
    assert f"Left out: 14 questions and {left_out} of {said['of_chains']} chains." in page
    assert run_command("report", run_dir, "-o", tmp_path / "none" / "r.html", check=2).stderr.count("\n") == 1


def test_a_report_keeps_as_many_questions_as_its_bytes_allow(run_dir: Path, tmp_path: Path) -> None:
    with closing(open_store(run_dir, read_only=True)) as store:
        empty = write_report(store, tmp_path / "empty.html", 0, Console(quiet=True))
        whole = write_report(store, tmp_path / "whole.html", 100, Console(quiet=True))
        part = write_report(store, tmp_path / "part.html", 100, Console(quiet=True), packed_bytes=20_000)
    assert (whole.questions, whole.of) == (24, 24)
    assert 2 < part.questions < 24
    assert part.bytes < empty.bytes + 20_000 + 1_000 * part.questions
    page = (tmp_path / "part.html").read_text()
    assert f"{part.questions} of 24 questions, drawn evenly," in page
    index = json.loads(page.split('id="questions-index">')[1].split("</script>")[0])
    kept = {name: [row["id"] for row in rows] for name, rows in index["sets"].items()}
    assert all(ids and ids == sorted(ids) for ids in kept.values())


def test_every_set_of_questions_gets_its_part() -> None:
    drawn = _choose_questions({"sampled": list(range(1000)), "test": list(range(2000, 2030))}, 100)
    assert {name: len(ids) for name, ids in drawn.items()} == {"sampled": 70, "test": 30}
    assert drawn == _choose_questions({"sampled": list(range(1000)), "test": list(range(2000, 2030))}, 100)
    assert QUESTIONS_PER_PART < 100


def test_the_chart_library_is_the_one_that_was_looked_at() -> None:
    content = (PROJECT / "loop" / "pages" / "static" / "echarts.min.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() in (PROJECT / "docs" / "views.md").read_text()


def test_pages_load_neither_torch_nor_transformers(run_dir: Path, tmp_path: Path) -> None:
    heavy = {"torch", "transformers", "vllm", "trl", "datasets", "pandas"}
    assert heavy & modules_of("report", run_dir, "-o", tmp_path / "r.html") == set()

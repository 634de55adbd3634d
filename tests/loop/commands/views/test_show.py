"""`show`: every record can be found, filtered and shown, and nothing in it acts on the terminal."""

import array
import io
import json
import random
import re
import shlex
import string
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops
from rich.console import Console
from rich.style import Style
from rich.text import Text

from loop.reading.scored_tokens import scored_pieces
from loop.terminal.draw_image import Picture, protocol, sixel, size
from loop.terminal.record_view import WORDS_COMPARED, mark_differences
from store import open_store
from store.maintenance.archive import archive_round
from store.packing import pack_token_ids
from tests.support.command_line import BASE_MODEL
from tests.support.stores import change, finished_run, run_here, shrink_last_round

HOSTILE = "\x1b[2J\x1b]0;owned\x07<script>\u202eabc\x00\r=1+1 [red]x[/red] " + "long " * 20_000
KINDS = ("question", "sample", "pair", "round", "policy")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return finished_run(tmp_path)


def show(run_dir: Path, *arguments: object, check: int = 0) -> str:
    done = run_here("show", run_dir, *arguments, check=check)
    return done.stdout if check == 0 else done.stderr


def listed(run_dir: Path, *arguments: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in show(run_dir, *arguments, "--json", "--limit", 1000).splitlines()]


def test_every_kind_is_listed_and_every_record_shown(run_dir: Path) -> None:
    keys = {"question": "id", "sample": "id", "pair": "pair", "round": "number", "policy": "policy"}
    for kind in KINDS:
        records = listed(run_dir, kind)
        assert len({record[keys[kind]] for record in records}) == len(records) > 2
        assert len(show(run_dir, kind, "--limit", 3).splitlines()) == 5
        number = records[-1][keys[kind]]
        assert json.loads(show(run_dir, kind, number, "--json"))[keys[kind] if kind != "round" else "round"] == number
        assert str(number) in show(run_dir, kind, number)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_id_is_bad_input(run_dir: Path, kind: str) -> None:
    error = show(run_dir, kind, 987654, check=2)
    assert f"has no {kind} 987654" in error
    assert error.count("\n") == 1


def test_filters_pick_records(run_dir: Path) -> None:
    wrong = listed(run_dir, "sample", "--round", 1, "--outcome", "wrong")
    assert wrong
    assert all((each["round"], each["outcome"]) == (1, "wrong") for each in wrong)
    assert len(wrong) < len(listed(run_dir, "sample", "--round", 1)) == 32
    question = wrong[0]["question"]
    assert {each["question"] for each in listed(run_dir, "sample", "--question", question)} == {question}
    assert {each["policy"] for each in listed(run_dir, "sample", "--policy", 2)} == {2}
    assert [each["pair"] for each in listed(run_dir, "pair", "--round", 1)] == [1, 2]
    assert listed(run_dir, "pair", "--rule", "nobody") == []
    asked = listed(run_dir, "question", "--round", 2)
    assert all(each["samples"] for each in asked)
    assert [each["pass_rate"] for each in asked] == sorted(each["pass_rate"] for each in asked)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pair", "--suspect"), "--suspect"),
        (("round", "--question", 1), "--question"),
        (("sample", 3, "--round", 1), "--round"),
        (("question", "--outcome", "wrong"), "--round"),
        (("question", "--policy", 1), "--changed-since"),
        (("question", "--changed-since", 77), "policy 77"),
        (("pair", "--save-images", "x"), "ID"),
    ],
)
def test_a_filter_that_says_nothing_is_bad_input(run_dir: Path, arguments: tuple[object, ...], said: str) -> None:
    assert said in show(run_dir, *arguments, check=2)


def test_a_shrunk_policy_says_between_which_two_it_lies(run_dir: Path) -> None:
    shrunk = shrink_last_round(run_dir)
    assert "0.5 of the way from policy 2 to policy 3" in show(run_dir, "policy", shrunk)
    assert json.loads(show(run_dir, "policy", 3, "--json"))["children"] == [shrunk]
    assert "of the way" not in show(run_dir, "policy", 3)


def test_the_list_of_policies_has_parents_and_gate_results(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shrunk = shrink_last_round(run_dir)
    records = {record["policy"]: record for record in listed(run_dir, "policy")}
    assert [records[shrunk][key] for key in ("parent", "other_parent", "alpha")] == [2, 3, 0.5]
    assert [records[3][key] for key in ("parent", "other_parent", "alpha")] == [2, None, None]
    assert [(records[number]["round"], records[number]["decision"]) for number in (3, shrunk)] == [
        (2, "rejected"),
        (2, "accepted"),
    ]
    assert records[0]["trials"] == []
    (trial,) = records[3]["trials"]
    assert (trial["round"], trial["compared_with"], trial["difference"], trial["accepted"]) == (2, 2, -0.03, False)
    lines = {line.split()[0]: line for line in show(run_dir, "policy").splitlines()}
    assert re.search(r" 2, 3 +0\.5 ", lines[str(shrunk)])
    assert "-3.00 (1.00)" in lines["3"]
    assert "+1.00 (1.00)" in lines[str(shrunk)]


def test_a_policy_shows_its_trials_before_the_gate(run_dir: Path) -> None:
    assert "before the gate" not in show(run_dir, "policy", 3)
    shrunk = shrink_last_round(run_dir)
    trained, accepted = show(run_dir, "policy", 3), show(run_dir, "policy", shrunk)
    assert re.search(r"2 +2 +500 +-3\.00 \(1\.00\) +rejected +no", trained)
    assert re.search(r"round 2 +fell", trained)
    assert re.search(r"2 +2 +500 +\+1\.00 \(1\.00\) +accepted +yes", accepted)
    assert re.search(r"round 2 +held", accepted)
    assert json.loads(show(run_dir, "policy", shrunk, "--json"))["trials"][0]["best"] is True


def test_the_limit_holds_and_more_is_announced(run_dir: Path) -> None:
    done = run_here("show", run_dir, "sample", "--limit", 5, "--json")
    assert len(done.stdout.splitlines()) == 5
    assert "there are more" in done.stderr
    assert "there are more" not in run_here("show", run_dir, "pair", "--limit", 6, "--json").stderr


def test_suspect_questions_are_listed(run_dir: Path) -> None:
    assert listed(run_dir, "question", "--suspect") == []
    change(run_dir, "UPDATE question SET suspect = 2 WHERE id = 9")
    assert [each["id"] for each in listed(run_dir, "question", "--suspect")] == [9]
    assert "teacher failed twice" in show(run_dir, "question", 9)


def test_changed_questions_are_shown_with_both_chains(run_dir: Path) -> None:
    change(
        run_dir,
        "UPDATE evaluation SET outcome = 'correct', text = 'it is blue' WHERE policy = 1 AND style = 'cot'"
        " AND question IN (1, 2)",
        "UPDATE evaluation SET outcome = 'wrong', text = 'it is red' WHERE policy = 2 AND style = 'cot'"
        " AND question = 1",
        "UPDATE evaluation SET outcome = 'correct' WHERE policy = 2 AND style = 'cot' AND question IN (2, 5)",
        "UPDATE evaluation SET outcome = 'correct' WHERE policy = 3 AND style = 'cot' AND question IN (1, 2)",
        "UPDATE run SET configuration = json_set(configuration, '$.sampling.style', 'cot')",
    )
    between = ("question", "--changed-since", 1, "--policy", 2)
    worse, better = listed(run_dir, *between)
    assert (worse["id"], worse["outcome_before"], worse["outcome"]) == (1, "correct", "wrong")
    assert (better["id"], better["outcome"]) == (5, "correct")
    assert listed(run_dir, *between, "--outcome", "wrong") == [worse]
    assert listed(run_dir, "question", "--changed-since", 1) == []
    shown = show(run_dir, "question", 1, "--changed-since", 1, "--policy", 2)
    assert "it is [-blue-]" in shown
    assert "it is {+red+}" in shown
    assert "policy 3" not in shown


def test_archived_samples_are_found_and_listed(run_dir: Path) -> None:
    before = listed(run_dir, "sample")
    wanted = listed(run_dir, "sample", "--outcome", "wrong", "--round", 1)
    store = open_store(run_dir)
    assert archive_round(store, 1) > 20
    here = {row["id"] for row in store.rows("SELECT id FROM sample")}
    store.close()
    assert listed(run_dir, "sample") == before
    assert listed(run_dir, "sample", "--outcome", "wrong", "--round", 1) == wanted
    gone = next(each["id"] for each in wanted if each["id"] not in here)
    assert json.loads(show(run_dir, "sample", gone, "--json"))["text"] == wanted[0]["text"] or gone != wanted[0]["id"]
    assert f"{gone}  (round 1" in show(run_dir, "sample", gone)


def test_hostile_text_is_shown_as_text_everywhere(run_dir: Path) -> None:
    for table, column in (("question", "text"), ("sample", "text"), ("evaluation", "text"), ("round", "reason")):
        change(run_dir, f"UPDATE {table} SET {column} = ?", parameters=(HOSTILE,))
    change(run_dir, "UPDATE question SET answers = ?", parameters=(json.dumps([HOSTILE]),))
    change(run_dir, "UPDATE verdict SET extracted = ?", parameters=(HOSTILE,))
    for kind in KINDS:
        for arguments in ((kind,), (kind, 1)):
            for form in ((), ("--json",)):
                shown = show(run_dir, *arguments, *form)
                # A list with --json holds what was written; JSON spells control characters out.
                assert not {"\x1b", "\x07", "\x00", "\u202e", "\r"} & set(shown), (arguments, form)
    assert "\\x1b[2J" in show(run_dir, "sample", 1)
    assert "[red]x[/red]" in show(run_dir, "sample", 1)
    assert "characters more" in show(run_dir, "sample", 1)


def test_what_differs_is_marked_and_the_rest_is_as_it_was() -> None:
    old, new = mark_differences("The car is red.\n### Answer: red", "The car is blue.\n### Answer: blue", plain=True)
    assert old.plain == "The car is [-red.-]\n### Answer: [-red-]"
    assert new.plain == "The car is {+blue.+}\n### Answer: {+blue+}"
    coloured = mark_differences("a b c", "a x c")
    assert [text.plain for text in coloured] == ["a b c", "a x c"]
    assert [[(s.start, s.end) for s in text.spans if s.style] for text in coloured] == [[(2, 3)], [(2, 3)]]


def test_texts_too_long_to_compare_are_shown_whole() -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choice(string.ascii_letters) for _ in range(WORDS_COMPARED + 1)) for _ in range(2)]
    assert [text.plain for text in mark_differences(texts[0], texts[1], plain=True)] == texts


@pytest.mark.parametrize(
    ("environment", "colours", "terminal", "how"),
    [
        ({"TERM": "xterm-kitty"}, "truecolor", True, "kitty"),
        ({"KITTY_WINDOW_ID": "1"}, "truecolor", True, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "truecolor", True, "iterm"),
        ({"TERM": "foot"}, "truecolor", True, "sixel"),
        ({"TERM": "xterm-256color", "KONSOLE_VERSION": "230800"}, "truecolor", True, "sixel"),
        ({"TERM": "xterm-256color", "KONSOLE_VERSION": "210400"}, "truecolor", True, "blocks"),
        ({"TERM_PROGRAM": "WezTerm", "TMUX": "inside"}, "256", True, "blocks"),
        ({"TERM": "xterm-256color"}, "256", True, "blocks"),
        ({"TERM": "vt100"}, None, True, None),
        ({"TERM": "xterm-kitty"}, "truecolor", False, None),
    ],
)
def test_the_terminal_says_how_an_image_is_shown(
    environment: dict[str, str], colours: str | None, terminal: bool, how: str | None
) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, color_system=colours, _environ={})  # type: ignore[arg-type]
    assert protocol(console, environment) == how


def drawn(how: str) -> str:
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    content, out = io.BytesIO(), io.StringIO()
    image.save(content, "JPEG")
    Console(file=out, force_terminal=True, color_system="truecolor", width=80, _environ={}).print(
        Picture(content.getvalue(), how)
    )
    return out.getvalue()


def test_images_are_drawn_in_each_protocol() -> None:
    kitty, iterm, blocks = drawn("kitty"), drawn("iterm"), Text.from_ansi(drawn("blocks"))
    assert re.match('\x1bPq"1;1;240;120#', drawn("sixel"))
    assert kitty.startswith("\x1b_Ga=T,f=100,")
    assert kitty.rstrip("\n").endswith("\x1b\\")
    assert iterm.startswith("\x1b]1337;File=inline=1")
    assert blocks.plain.splitlines() == ["▀" * 24] * 6
    styles = [span.style for span in blocks.spans if isinstance(span.style, Style)]
    colours = [colour for style in styles for colour in (style.color, style.bgcolor)]
    triplets = {colour.triplet for colour in colours if colour is not None}
    assert len(styles) == len(blocks.spans)
    assert len([colour for colour in colours if colour is not None]) == 2 * len(styles) > 0
    assert all(each is not None and each.red > 250 and each.green < 5 for each in triplets)


def decoded(data: str) -> Image.Image:
    """Sixel graphics as an image, read as the standard says."""
    width, height, body = re.fullmatch(r'\x1bPq"1;1;(\d+);(\d+)(.*)\x1b\\', data).groups()  # type: ignore[union-attr]
    image = Image.new("RGB", (int(width), int(height)))
    palette = {name: [int(share) for share in rest.split(";")] for name, rest in re.findall(r"#(\d+);2;([\d;]+)", body)}
    body = re.sub(r"#\d+;2;[\d;]+", "", body)
    body = re.sub(r"!(\d+)(.)", lambda run: run[2] * int(run[1]), body)
    for band, lines in enumerate(body.split("-")):
        for name, drawn in re.findall(r"#(\d+)([?-~]*)", lines):
            colour = tuple(round(share * 2.55) for share in palette[name])
            for x, mark in enumerate(drawn):
                for y in range(6):
                    if (ord(mark) - 63) >> y & 1:
                        image.putpixel((x, 6 * band + y), colour)
    return image


def test_sixel_graphics_say_every_pixel() -> None:
    image = Image.linear_gradient("L").resize((31, 20))
    both = Image.merge("RGB", (image, image.rotate(180), Image.new("L", image.size, 80)))
    difference = ImageChops.difference(decoded(sixel(both)), both)
    assert max(difference.tobytes()) < 24


@pytest.mark.parametrize(("shape", "expected"), [((64, 64), (24, 12)), ((200, 8000), (1, 20)), ((8000, 20), (24, 1))])
def test_no_image_takes_more_than_a_screen(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    assert size(Image.new("RGB", shape), 80) == expected


def test_images_can_be_written_to_a_folder(run_dir: Path, tmp_path: Path) -> None:
    digest = json.loads(show(run_dir, "question", 1, "--json"))["images"][0]["sha256"]
    assert digest in show(run_dir, "question", 1, "--save-images", tmp_path / "out")
    files = list((tmp_path / "out").iterdir())
    assert [file.stem for file in files] == [digest]
    with Image.open(files[0]) as image:
        image.verify()


def test_verifier_scores_are_shown_token_by_token(run_dir: Path) -> None:
    change(
        run_dir,
        'INSERT INTO evaluation_sample (id, policy, split, style, question, "index", text, token_ids, finish_reason,'
        " judge, judge_version, extracted, score, outcome)"
        " VALUES (1, 3, 'test', 'cot', 1, 0, 'abc', ?, 'stop', 'exact', '1', 'abc', 1.0, 'correct')",
        parameters=(pack_token_ids([40, 41, 42]),),
    )
    change(
        run_dir,
        "INSERT INTO verifier_score VALUES (1, 1, -1.5, ?)",
        parameters=(zlib.compress(array.array("f", [0.5, -2.25, 0.25]).tobytes()),),
    )
    record = json.loads(show(run_dir, "question", 1, "--json"))["verified"][0]
    assert record["token_scores"] == [0.5, -2.25, 0.25]
    assert record["token_ids"] == [40, 41, 42]
    numbers = show(run_dir, "question", 1)
    assert "verifier -1.50 (policy 3 over policy 1)" in numbers
    assert "<40><41><42>" in numbers
    assert "'<41>' -2.25" in numbers
    change(run_dir, "UPDATE policy SET path = ? WHERE number = 3", parameters=(str(BASE_MODEL),))
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(BASE_MODEL / "tokenizer.json"))
    assert f"{tokenizer.decode([41])!r} -2.25" in show(run_dir, "question", 1)


def test_bytes_of_a_character_are_one_piece_with_its_scores(run_dir: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    change(run_dir, "UPDATE policy SET path = ? WHERE number = 3", parameters=(str(tmp_path),))
    store = open_store(run_dir, read_only=True)
    ids = tokenizer.encode("a€b").ids
    whole = scored_pieces(store, 3, ids, [1.0, 0.5, 0.25, -1.0, 2.0])
    assert [(piece.text, piece.score) for piece in whole] == [("a", 1.0), ("€", -0.25), ("b", 2.0)]
    cut = scored_pieces(store, 3, ids[:3], [1.0, 0.5, 0.25])
    assert [(piece.text, piece.score) for piece in cut] == [("a", 1.0), ("\N{REPLACEMENT CHARACTER}", 0.75)]
    assert scored_pieces(store, 3, ids, [1.0]) == ()


def test_the_commands_that_a_round_suggests_work(run_dir: Path) -> None:
    shown = show(run_dir, "round", 2)
    hints = [line.partition(": show ")[2] for line in shown.splitlines() if ": show " in line]
    assert len(hints) == 3
    for hint in hints:
        run_here("show", *shlex.split(hint))

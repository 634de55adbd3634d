"""Reading the final answer from an output. Matching is another matter (see the rules beside)."""

import re

MARKER = re.compile(r"(?:#{1,6}[ \t]*)?\*{0,2}\banswer\b\*{0,2}[ \t]*:[ \t]*\*{0,2}", re.IGNORECASE)
"""`### Answer:` of LLaVA-Reasoner (arXiv 2410.16198), with or without hashes and bold."""

END_OF_TURN = re.compile(r"(?:<end_of_utterance>|<\|im_end\|>|<\|eot_id\|>|</s>|<\|endoftext\|>)\s*$")


def extract_answer(text: str, *, needs_marker: bool) -> str | None:
    """The text after the *last* answer marker, up to the end of its line, without decoration.

    Without a marker: None if one is needed, else the whole text if it is a single line.
    Stripped: surrounding white space, quotes, asterisks, backticks, one final full stop.
    """
    text = END_OF_TURN.sub("", text)
    end_of_marker = None
    for match in MARKER.finditer(text):
        end_of_marker = match.end()
    if end_of_marker is None:
        if needs_marker or "\n" in text.strip():
            return None
        return _undecorated(text) or None
    line = text[end_of_marker:].strip().partition("\n")[0]
    return _undecorated(line) or None


def _undecorated(answer: str) -> str:
    answer = answer.strip().strip("*`\"'“”‘’ \t")
    if answer.endswith(".") and not answer.endswith(".."):
        answer = answer[:-1]
    return answer.strip().strip("*`\"'“”‘’ \t")

"""A set of digests in a file answers as Python's set, and takes little memory."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from store.digest_set import DigestSet
from tests.support.command_line import PROJECT

MANY = """
from loop.planning.peaks import resident
from store.digest_set import DigestSet

kept = DigestSet()
before = resident()
for n in range(700_000):
    kept.add((n * 0x9E3779B97F4A7C15 % 2**128).to_bytes(16))
print(resident() - before)
"""


@given(st.lists(st.binary(max_size=3)))
def test_it_says_what_is_new_as_a_set_would(digests: list[bytes]) -> None:
    kept, seen = DigestSet(), set[bytes]()
    for digest in digests:
        assert kept.add(digest) == (digest not in seen)
        seen.add(digest)


def test_many_take_the_memory_of_the_cache() -> None:
    done = subprocess.run([sys.executable, "-c", MANY], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 24 << 20  # in Python's set they take 65 MiB

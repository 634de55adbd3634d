"""A set of digests in a file answers as Python's set, and takes little memory."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from store.digest_set import DigestSet


@given(st.lists(st.binary(max_size=3)))
def test_it_says_what_is_new_as_a_set_would(digests: list[bytes]) -> None:
    kept, seen = DigestSet(), set[bytes]()
    for digest in digests:
        assert kept.add(digest) == (digest not in seen)
        seen.add(digest)


def test_python_holds_none_of_them() -> None:
    kept = DigestSet()
    tracemalloc.start()
    for n in range(50_000):
        kept.add(n.to_bytes(16))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100_000
    assert not kept.add((49_999).to_bytes(16))

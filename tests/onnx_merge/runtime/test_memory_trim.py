"""Freed memory goes back to the system where it adds up."""

import pytest

from onnx_merge.runtime import memory_trim
from onnx_merge.tuning.inputs import SAMPLE_MEMORY


class Told:
    """A function that tells of ``free`` bytes."""

    def __init__(self, free):
        self.fordblks = free

    def __call__(self):
        return self


class Library:
    """A C library that holds ``free`` bytes; None for one that does not tell."""

    def __init__(self, free):
        self.trimmed = 0
        if free is not None:
            self.mallinfo2 = Told(free)

    def malloc_trim(self, pad):
        self.trimmed += 1


@pytest.mark.parametrize(
    ("free", "wanted"), [(0, 0), (SAMPLE_MEMORY.unused_bytes - 1, 0), (SAMPLE_MEMORY.unused_bytes, 1), (None, 1)]
)
def test_pages_go_back_where_they_add_up(monkeypatch, free, wanted):
    library = Library(free)
    monkeypatch.setattr(memory_trim, "_libc", lambda: library)
    memory_trim.defragment()
    assert library.trimmed == wanted
    memory_trim.trim()
    assert library.trimmed == wanted + 1


def test_this_systems_library_is_understood():
    library = memory_trim._libc()
    if library is not None:
        assert memory_trim._unused_bytes(library) >= 0
    memory_trim.defragment()

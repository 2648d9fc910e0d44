"""Messages are one line, and what is cut from long ones is cut between words."""

import pytest

from onnx_merge.errors import InputError, one_line


@pytest.mark.parametrize("length", range(20, 28))
def test_long_messages_lose_whole_words_of_their_middle(length):
    words = [f"{k:0{4 + k % 5}d}" for k in range(40)]
    text = one_line(" ".join(words), 10 * length)
    head, tail = (part.split() for part in text.split(" ... "))
    assert len(text) <= 10 * length and head == words[: len(head)] and tail == words[-len(tail) :]
    assert len(tail) > 9, "remedies stand at the end"


def test_a_long_word_is_cut_where_the_line_ends():
    assert one_line("x" * 99, 25) == "x" * 8 + " ... " + "x" * 12


def test_short_messages_are_folded_only():
    assert str(InputError("a  file\n is\tbroken")) == "a file is broken"

"""However a stream is cut, the payloads come out; whatever is announced is checked."""

import tracemalloc
from collections import UserList
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beta_factory.messages import FrameTooLargeError, MalformedMessageError
from beta_factory.runtime import framing
from beta_factory.runtime.framing import HEADER_BYTES, FrameReader, frame, frames
from strategies import examples
from testkit import length

payload_lists = st.lists(st.binary(max_size=40), max_size=12)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut data at these places."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


@given(payload_lists, st.lists(st.integers(0, 10**6), max_size=30))
@example([b""], [])
@example([b"", b"", b""], [1, 5, 9])
@example([b"a"], [1, 2, 3, 4])
@examples(133)
def test_any_cuts_of_any_payloads_give_the_payloads_back(
    payloads: list[bytes], cuts: list[int]
) -> None:
    reader = FrameReader()
    stream = b"".join(map(frame, payloads))
    found = [p for piece in pieces(stream, cuts) for p in reader.feed(piece)]
    assert found == payloads
    assert reader.n_held == 0


@given(payload_lists)
@examples(67)
def test_many_frames_are_each_frame_in_turn(payloads: list[bytes]) -> None:
    assert frames(payloads) == b"".join(map(frame, payloads))


@given(payload_lists)
@examples(133)
def test_byte_by_byte_gives_the_payloads_back(payloads: list[bytes]) -> None:
    reader = FrameReader()
    stream = b"".join(map(frame, payloads))
    found = [p for i in range(len(stream)) for p in reader.feed(stream[i : i + 1])]
    assert found == payloads


@given(payload_lists, st.integers(0, 10**6))
@examples(133)
def test_a_payload_comes_out_with_its_last_byte(
    payloads: list[bytes], cut: int
) -> None:
    stream = b"".join(map(frame, payloads))
    cut %= len(stream) + 1
    reader = FrameReader()
    whole, end = 0, 0
    for payload in payloads:
        end += HEADER_BYTES + len(payload)
        whole += end <= cut
    assert reader.feed(stream[:cut]) == payloads[:whole]
    assert reader.n_held == cut - sum(HEADER_BYTES + len(p) for p in payloads[:whole])


def test_a_frame_is_its_length_in_four_big_endian_bytes_and_the_payload() -> None:
    assert frame(b"") == b"\0\0\0\0"
    assert frame(b"abc") == b"\0\0\0\3abc"
    assert frame(bytes(0x01_02_03))[:4] == b"\0\1\2\3"


@pytest.mark.parametrize("size", [11, 2**16, 2**31, 2**32 - 1])
@pytest.mark.parametrize("before", [b"", frame(b"fine"), frame(b"")])
@pytest.mark.parametrize("step", [1, 3, 100])
def test_too_long_a_frame_is_refused_at_its_header(
    size: int, before: bytes, step: int
) -> None:
    reader = FrameReader(max_frame_bytes=10)
    stream = before + length(size)
    fed = [stream[i : i + step] for i in range(0, len(stream), step)]
    for piece in fed[:-1]:
        reader.feed(piece)
        reader.check()
    reader.feed(fed[-1])
    with pytest.raises(FrameTooLargeError, match=f"at most 10 bytes, was {size}") as e:
        reader.check()
    assert (e.value.size, e.value.limit) == (size, 10)
    assert isinstance(e.value, MalformedMessageError)


def test_a_frame_of_exactly_the_limit_is_taken() -> None:
    reader = FrameReader(max_frame_bytes=10)
    assert reader.feed(frame(b"0123456789")) == [b"0123456789"]


@given(payload_lists, st.integers(11, 2**32 - 1), st.integers(0, 10**6))
@examples(133)
def test_what_is_whole_before_too_long_a_frame_comes_out(
    payloads: list[bytes], size: int, cut: int
) -> None:
    payloads = [payload[:10] for payload in payloads]
    stream = b"".join(map(frame, payloads)) + length(size) + b"rest"
    cut %= len(stream) + 1
    reader = FrameReader(max_frame_bytes=10)
    assert reader.feed(stream[:cut]) + reader.feed(stream[cut:]) == payloads
    with pytest.raises(FrameTooLargeError):
        reader.check()


def test_a_stream_goes_on_where_the_limit_was_raised() -> None:
    reader = FrameReader(max_frame_bytes=3)
    assert reader.feed(frame(b"abc") + frame(b"abcd") + frame(b"e")[:4]) == [b"abc"]
    reader.max_frame_bytes = 4
    assert reader.feed(b"") == [b"abcd"]
    reader.check()
    assert reader.feed(b"e") == [b"e"]


def test_an_announced_length_allocates_nothing() -> None:
    reader = FrameReader()
    announced = length(reader.max_frame_bytes)
    tracemalloc.start()
    try:
        reader.feed(announced)
        reader.feed(bytes(1000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000
    assert reader.n_held == len(announced) + 1000


@given(st.lists(st.binary(max_size=100), max_size=30))
@examples(133)
def test_what_is_held_is_bounded_whatever_comes(chunks: list[bytes]) -> None:
    reader = FrameReader(max_frame_bytes=50)
    for chunk in chunks:
        payloads = reader.feed(chunk)
        assert all(len(payload) <= 50 for payload in payloads)
        try:
            reader.check()
        except FrameTooLargeError:
            held = reader.n_held
            assert reader.feed(bytes(1000)) == []
            assert reader.n_held == held <= len(chunk) + HEADER_BYTES
            return
        assert reader.n_held < HEADER_BYTES + 50


def test_a_big_frame_in_many_small_pieces_is_joined_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joined: list[int] = []

    class Parts(UserList[bytes]):  # a list itself is joined without asking it
        def __iter__(self) -> Iterator[bytes]:
            joined.append(sum(map(len, self.data)))
            return iter(self.data)

    reader = FrameReader()
    monkeypatch.setattr(reader, "_parts", Parts())
    payload = bytes(range(256)) * 4096
    stream = frame(payload)
    small = [stream[i : i + 64] for i in range(0, len(stream), 64)]
    found = [payload for piece in small for payload in reader.feed(piece)]
    assert found == [payload]
    assert sum(joined) == len(stream)


def test_the_default_limit_holds_a_bar_of_many_symbols() -> None:
    assert FrameReader().max_frame_bytes == framing.DEFAULT_MAX_FRAME_BYTES
    assert framing.DEFAULT_MAX_FRAME_BYTES > 20_000 * (8 + 64)

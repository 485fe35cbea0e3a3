"""Frames in memory that is used again, never while somebody holds one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.messages import Goodbye, encode
from beta_factory.runtime.frame_buffers import MAX_BUFFERS, FrameBuffers
from beta_factory.runtime.framing import frame


def message(n: int) -> Goodbye:
    """Return a message whose frame is about n bytes long."""
    return Goodbye(reason="x" * n)


@given(
    st.lists(
        st.tuples(st.integers(0, 3_000), st.integers(0, 8)), min_size=1, max_size=40
    )
)
def test_a_frame_keeps_its_bytes_for_as_long_as_it_is_held(
    steps: list[tuple[int, int]],
) -> None:
    """Each frame is held for some steps; all that are held are looked at each time."""
    buffers = FrameBuffers()
    held: list[tuple[int, bytes, bytes]] = []
    for step, (size, n_steps) in enumerate(steps):
        made = buffers.frame(message(size))
        held.append((step + n_steps, made, frame(encode(message(size)))))
        del made
        for _, kept, expected in held:
            assert kept == expected
        held = [entry for entry in held if entry[0] > step]


def test_a_part_of_a_frame_holds_it_too() -> None:
    buffers = FrameBuffers()
    part = buffers.frame(message(100))[10:20]
    expected = bytes(part)
    for _ in range(3):
        buffers.frame(message(50))
    assert part == expected


def test_memory_is_used_again_once_a_frame_has_gone() -> None:
    buffers = FrameBuffers()
    first = memoryview(buffers.frame(message(500))).obj
    assert memoryview(buffers.frame(message(400))).obj is first
    assert memoryview(buffers.frame(message(600))).obj is first


def test_no_more_than_a_few_buffers_are_kept() -> None:
    buffers = FrameBuffers()
    frames = [buffers.frame(message(100)) for _ in range(3 * MAX_BUFFERS)]
    assert len({id(memoryview(each).obj) for each in frames}) == len(frames)
    owners = [memoryview(each).obj for each in frames[:MAX_BUFFERS]]
    frames.clear()
    assert memoryview(buffers.frame(message(100))).obj is owners[0]


def test_nobody_can_write_into_a_frame() -> None:
    made = memoryview(FrameBuffers().frame(message(10)))
    assert made.readonly
    with pytest.raises(TypeError):
        made[0] = 1

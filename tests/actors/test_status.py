"""What a window's numbers are worth."""

from math import inf, nan

import numpy as np
import pytest

from beta_factory.actors.status import classify, classify_one
from beta_factory.messages import Reason, Status

W, O, Z, I = (  # noqa: E741
    (Status.WARMING, Reason.TOO_FEW_PAIRS),
    (Status.OK, Reason.NONE),
    (Status.ZERO_VARIANCE, Reason.FLAT_BENCHMARK),
    (Status.INSUFFICIENT, Reason.TOO_FEW_PAIRS),
)


@pytest.mark.parametrize(
    ("n", "beta", "was_warm", "expected", "warm_now"),
    [
        (0, nan, False, W, False),
        (4, nan, False, W, False),
        (5, 1.5, False, O, True),
        (5, 0.0, True, O, True),
        (9, -inf, True, O, True),
        (5, nan, False, Z, True),
        (9, nan, True, Z, True),
        (4, nan, True, I, True),
        (0, nan, True, I, True),
    ],
)
def test_a_window_is_worth_what_its_pairs_allow(
    n: int, beta: float, was_warm: bool, expected: tuple[Status, Reason], warm_now: bool
) -> None:
    ever_warm = np.array([False, was_warm, True])
    status, reason = classify(
        np.array([float(n)]), np.array([beta]), 5, ever_warm, np.array([1])
    )
    assert (Status(status[0]), Reason(reason[0])) == expected
    assert classify_one(float(n), beta, 5, was_warm=was_warm) == expected
    assert ever_warm.tolist() == [False, warm_now, True]


def test_rows_are_judged_each_by_itself() -> None:
    ever_warm = np.array([True, False, False, True, True])
    status, reason = classify(
        np.array([4.0, 5.0, 2.0, 6.0]),
        np.array([nan, 1.0, nan, nan]),
        5,
        ever_warm,
        np.array([3, 1, 2, 0]),
    )
    assert list(zip(status.tolist(), reason.tolist(), strict=True)) == [I, O, W, Z]
    assert ever_warm.tolist() == [True, True, False, True, True]


def test_no_rows_need_no_judgement() -> None:
    nothing = np.array([])
    status, reason = classify(
        nothing, nothing, 5, np.array([False]), np.array([], dtype=np.intp)
    )
    assert (status.tolist(), reason.tolist()) == ([], [])

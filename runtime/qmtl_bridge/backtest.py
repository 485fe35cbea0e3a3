"""`Runner.submit` without its surroundings: what a backtest needs, and nothing else.

A bare ``Runner.submit`` looks for a gateway on this machine, and keeps what it loaded
in the working directory, from where the next run takes it in preference to new data.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any, Final

from ...messages import BacktestRejectedError
from .sdk import Runner, Strategy, set_fixed_now, set_no_ray

_OWN_VARIABLES: Final = {
    "QMTL_DISABLE_GATEWAY_PROBE": "1",
    "OTEL_SDK_DISABLED": "true",
}


@contextmanager
def isolated_qmtl(now_s: int | None = None) -> Generator[None]:
    """Keep qmtl from gateways, from Ray, and from what an earlier run has left.

    Inside, its snapshots go to a folder that is deleted at the end. A variable that is
    already set keeps its value, except for the snapshots' folder.

    Parameters
    ----------
    now_s
        What time it is for qmtl's warm-up, in seconds since the epoch; ``None`` = now.
    """
    set_no_ray()
    time_before = set_fixed_now(now_s) if now_s is not None else None
    with TemporaryDirectory(prefix="qmtl-snapshots-") as folder:
        wanted = {
            **{k: os.environ.get(k, v) for k, v in _OWN_VARIABLES.items()},
            "QMTL_SNAPSHOT_DIR": folder,
        }
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            if now_s is not None:
                set_fixed_now(time_before)
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def run_backtest(
    strategy: type[Strategy] | Strategy,
    *,
    now_s: int | None = None,
    **options: Any,  # noqa: ANN401 - qmtl's
) -> Any:  # noqa: ANN401 - qmtl's result
    """Replay a strategy's history through ``Runner.submit``, alone with it.

    Parameters
    ----------
    strategy
        The strategy or its class. Its price inputs have a ``history_provider`` such as
        `FrameHistory`, and a ``period`` that is at least as long as what is replayed:
        qmtl replays the last ``period`` bars of each input.
    now_s
        Where the replay ends, in seconds since the epoch, for data of the past: qmtl
        loads the ``period`` bars up to now, and ``period`` is at most 10,000.
    **options
        As ``Runner.submit`` takes them.

    Returns
    -------
    SubmitResult
        qmtl's.

    Raises
    ------
    BacktestRejectedError
        When the replay failed. qmtl itself puts an error of a node into a field of its
        result and goes on.
    """
    options.setdefault("auto_validate", False)
    if not isinstance(strategy, type) and not strategy.nodes:
        strategy.setup()  # qmtl takes an instance as it is
    with isolated_qmtl(now_s):
        result = Runner.submit(strategy, **options)
    if str(getattr(result, "strategy_id", "")).startswith("failed_"):
        name = (strategy if isinstance(strategy, type) else type(strategy)).__name__
        raise BacktestRejectedError(name, str(result.rejection_reason))
    return result

"""The ten lines of docs/qmtl.md run as they stand."""

import re
from pathlib import Path
from typing import Any

import pytest

from qmtl_market import weekday_market

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.qmtl
def test_ten_lines_hedge_every_bar_after_the_warm_up(real_bridge: Any) -> None:
    text = (ROOT / "docs" / "qmtl.md").read_text(encoding="utf-8")
    found = re.search(r"test_docs\.py.*?```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    market = weekday_market(100, ("AAPL", "MSFT"))
    history = real_bridge.FrameHistory(market.frames)
    namespace: dict[str, Any] = {"history": history, "hedges": []}

    exec(found[1], namespace)
    real_bridge.run_backtest(namespace["Hedge"])

    # 99 returns, and the default model wants 60 of them
    assert len(namespace["hedges"]) == 40
    assert all(slope < 0 < error for _, slope, error in namespace["hedges"])


@pytest.mark.qmtl
def test_every_name_in_the_table_of_pieces_exists(real_bridge: Any) -> None:
    text = (ROOT / "docs" / "qmtl.md").read_text(encoding="utf-8")
    table = text.partition("## Pieces")[2].partition("Payloads and")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    names = re.findall(r"`(\w+)`", " ".join(rows))

    assert len(names) > 15
    assert set(names) <= set(real_bridge.__all__)

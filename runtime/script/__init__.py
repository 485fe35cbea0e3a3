"""Scripted market replays: what happens to a market, and what is expected of us.

A script is read whole by `document`, its events (`events`) turn the messages of its
source (`source`, `turns`) into what would have arrived, `run` drives the real actors
with that, and `expectations` hold what was published against what was expected.
"""

from .document import Script, load_script, parse_script
from .run import Failure, ScriptReport, run_script

__all__ = [
    "Failure",
    "Script",
    "ScriptReport",
    "load_script",
    "parse_script",
    "run_script",
]

"""Field types shared by the messages: what the decoder checks for free.

msgspec enforces these bounds in C while it decodes; a message built in Python is
trusted. The bounds exist so that no peer can make us hold a megabyte of symbol name
or a timestamp that wraps an int64.
"""

from typing import Annotated

from msgspec import Meta

MAX_NAME_LENGTH = 64
"""Longest symbol, benchmark, factor or subscriber name, in characters."""

MAX_PATTERN_LENGTH = 512
"""Longest topic pattern: room for two names, each escaped to three times its length."""

MAX_TEXT_LENGTH = 1024
"""Longest sentence, in characters."""

MAX_TS_NS = 2**63 - 1
"""Largest timestamp: int64 nanoseconds end in the year 2262."""

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
"""A symbol, benchmark, factor or peer name."""

Text = Annotated[str, Meta(max_length=MAX_TEXT_LENGTH)]
"""A human-readable sentence."""

Pattern = Annotated[str, Meta(min_length=1, max_length=MAX_PATTERN_LENGTH)]
"""A topic pattern."""

TimestampNs = Annotated[int, Meta(ge=0, le=MAX_TS_NS)]
"""Nanoseconds since the Unix epoch."""

MAX_SYMBOLS = 2**17
"""Most symbols in one message, and so in a universe: several times all the listed
stocks there are. A frame of the maximum size could hold fifty times as many, and would
hold up everybody else for as long as it takes to make them."""

MAX_FACTORS = 4096
"""Most factors in one message."""

MAX_MESSAGES = 2**16
"""Most messages in one frame, for the same reason."""

Symbols = Annotated[tuple[Name, ...], Meta(max_length=MAX_SYMBOLS)]
"""Symbols in column order."""

Count = Annotated[int, Meta(ge=0, le=MAX_TS_NS)]
"""A number of things, or a sequence number."""

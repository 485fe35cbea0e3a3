"""What an update costs, beside what it costs elsewhere.

`scripts/bench.py` is the program; docs/performance.md has the figures and how to read
them. `harness` says what a measurement is, `market` makes the data and the answers,
`pipeline` is our own side without sockets, `peers` runs other libraries in their own
environment, `tasks` is the same product as one asyncio task per actor.
"""

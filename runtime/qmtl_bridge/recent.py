"""Reading a view without falling into it.

A node with two inputs computes when either has something new, also before the other has
ever had anything; a view then raises `KeyError`. Its leaves have no length, and are
true when they are empty.
"""

from .sdk import CacheView, Node, Payload


def recent(view: CacheView, node: Node, count: int = 1) -> list[tuple[int, Payload]]:
    """Return the newest bars of an input as (stamp, payload), oldest first.

    Parameters
    ----------
    view
        What qmtl hands to a compute function.
    node
        One of the computing node's inputs.
    count
        At most so many; fewer when the input has fewer, none when it has none.
    """
    try:
        leaf = view[node][node.interval]
    except KeyError:
        return []
    rows: list[tuple[int, Payload]] = list(leaf[-count:])
    return rows

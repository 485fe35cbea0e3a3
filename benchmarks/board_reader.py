"""A reader that never pauses: ``python -m benchmarks.board_reader PATH SYMBOL``."""

import sys

from beta_factory import Board


def main() -> None:
    """Say ``ready``, and read until killed."""
    path, symbol = sys.argv[1:]
    with Board(path) as board:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            board[symbol]


if __name__ == "__main__":
    main()

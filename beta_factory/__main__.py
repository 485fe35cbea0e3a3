"""Run the command line: ``python -m beta_factory``."""

from .runtime.cli import main

if __name__ == "__main__":
    main()

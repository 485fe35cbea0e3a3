"""The bridge's configuration: the section ``beta_factory`` of qmtl's own file."""

import os
from collections.abc import Mapping

from ...messages import ConfigError
from ..config import SidecarConfig
from ..config_reader import load_config
from .sdk import find_config_file


def load_qmtl_config(
    path: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> SidecarConfig:
    """Read the section ``beta_factory`` of a ``qmtl.yml``.

    Parameters
    ----------
    path
        The file; by default the one that qmtl finds, in the working directory.
    environ
        Variables ``QMTL__BETA_FACTORY__...`` override its keys.

    Returns
    -------
    SidecarConfig
        The same that ``beta-factory run --config qmtl.yml`` runs: its
        ``server.address`` is where the sink connects, ``symbols`` and ``factors`` are
        what `make_market_beta_feed` wires.

    Raises
    ------
    ConfigError
        When qmtl finds no file, the section is missing, or keys or values are wrong:
        with all of them, each with its path.
    """
    found = path or find_config_file()
    if found is None:
        raise ConfigError([("qmtl.yml", "is not in the working directory")])
    return load_config(found, environ)

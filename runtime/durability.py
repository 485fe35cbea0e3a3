"""When a feed is told that what it sent is taken."""

import enum


class Durability(enum.StrEnum):
    """What has happened to an observation before `Acknowledged` says so."""

    NONE = "none"
    """It is in its window; a sidecar that dies takes it along."""
    OS = "os"
    """It is with the operating system: it outlives the process, not the machine."""
    FSYNC = "fsync"
    """It is on the disk, as far as the disk tells the truth."""

"""Everything that has a loop, a clock, a socket, a file or a process in it.

Rule: no arithmetic and no decision about a return is made here; this folder carries
messages to the actors and their updates away.
"""

"""How often a compiled program waits for the host to read a number of its own."""

import re


def host_reads(text: str) -> int:
    """Loops whose bound, and branches whose number, a compiled program learns only while it runs."""
    loops = re.findall(r"= .* while\(.*", text)
    branches = re.findall(r"= .* conditional\(", text)
    return sum("known_trip_count" not in loop for loop in loops) + len(branches)

"""How many rounds one call of a compiled program does: as many as keep the progress bar moving.

The count is traced, so that any number is the same program.
"""

SECONDS_A_CALL = 1.0


def rounds_a_call(seconds: float) -> int:
    """By the seconds that a round took."""
    return max(int(SECONDS_A_CALL / max(seconds, 1e-6)), 1)

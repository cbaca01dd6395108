"""The one exception that means "what you asked for cannot be done, and here is the mend"."""


class UsageError(ValueError):
    """Bad input, told in one line: the field, its value, what is allowed, and the mend.

    The commands in ``experiments/`` print it without a traceback and leave with status 2.

    Args:
        field: the config field, file or array that is wrong, by the name a user knows it by.
        value: what was found there.
        allowed: what would have been accepted.
        mend: what to do about it.
    """

    def __init__(self, field: str, value: object, allowed: str, mend: str):
        self.field, self.value, self.allowed, self.mend = field, value, allowed, mend
        text = value if isinstance(value, str) and value else repr(value)  # nothing at all shows as ''
        line = f"{field}: got {text}; allowed: {allowed}; mend: {mend}"
        # Names of files come into it, and may hold what would steer a terminal.
        super().__init__("".join(each if each.isprintable() else "?" for each in " ".join(line.split())))

"""Whether folders are called as sites are: the one thing that tells site/class from class/site by names."""

import re
from collections.abc import Collection

# Without words such as person or writer: faces and hands are classes as well.
SITE_WORDS = frozenset(
    """
    site client silo party partner member organization organisation company institution institute hospital clinic
    center centre campus lab laboratory location place region zone area city country state district plant factory fab
    facility warehouse depot store shop branch office farm field station camera cam device machine scanner sensor line
    node user customer household department ward unit cohort domain source batch lot session shift day
    standort werk klinik filiale kunde labor
    """.split()
)
COMPASS = frozenset("north south east west northeast northwest southeast southwest central".split())


def called_as_sites(names: Collection[str], directions: bool = False) -> bool:
    """Whether all names are one word for a site with a number or a letter: site1 and site2, hospital_a and hospital_b.

    Args:
        names: of folders.
        directions: whether points of the compass count as well.
    """
    numbered = {re.fullmatch(r"([^\W\d_]{2,})(?:[\W_]*\d+|[\W_]+[^\W\d_])", name.casefold()) for name in names}
    words = {match and match[1] for match in numbered}
    if len(words) == 1 and words <= SITE_WORDS:
        return True
    return directions and bool(names) and all(name.casefold() in COMPASS for name in names)

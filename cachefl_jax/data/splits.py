"""What sources call their splits and their sites."""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from cachefl_jax.errors import UsageError

ROLES = ("train", "validation", "test")
SYNONYMS = (("train", "training"), ("validation", "val", "valid", "dev"), ("test", "testing"))
FIELD = "data.splits"
# Words that say no more than that images lie in a folder: train_images, Training Set, trainset.
FILLERS = ("set", "sets", "data", "dataset", "image", "images", "img", "imgs", "photos", "pictures", "folder", "split")
LABELS = ("annotation", "annotations", "label", "labels", "mask", "masks", "trimaps", "segmentation", "segmentations")
WORDS = {
    "train": (*SYNONYMS[0], "trn", "trainval"),  # trainval: PASCAL VOC's name for training and validation rows
    "validation": (*SYNONYMS[1], "eval", "evaluation"),
    "test": (*SYNONYMS[2], "tst"),
}
GLUED = {word + filler: role for role, words in WORDS.items() for word in words for filler in ("", *FILLERS)}

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


class SplitName(NamedTuple):
    """What a folder's name says of a split."""

    role: str  # one of ROLES
    rest: str  # the other words, which the splits of one data set share: seg_train and seg_test both have "seg"


def read_split_name(name: str) -> SplitName | None:
    """The split that a folder's name speaks of, in any case, with words before or after; None if of none, or of two.

    The rest tells splits from classes that happen to hold such a word: bullet_train has no bullet_test beside it.
    """
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word.casefold() for word in re.findall(r"[^\W\d_]+", parts)]
    roles = {GLUED[word] for word in words if word in GLUED}
    if roles == {"train", "validation"}:  # train_val
        roles = {"train"}
    if len(roles) != 1:
        return None
    rest = [word for word in words if word not in GLUED and word not in FILLERS]
    return SplitName(roles.pop(), " ".join(rest))


def is_no_class(name: str) -> bool:
    """Whether a folder's name says that images or their labels lie in it, and nothing of what they show."""
    words = re.findall(r"[^\W_]+", name.casefold())  # label_0 may be a class
    return bool(words) and all(word in (*FILLERS, *LABELS) for word in words)


def role_of(wanted: str) -> str | None:
    """The role whose usual name, or a synonym of it, this is."""
    pairs = zip(ROLES, SYNONYMS, strict=True)
    return next((role for role, names in pairs if wanted.casefold() in names), None)


def find_split(wanted: str, there: Sequence[str]) -> str | None:
    """The one among the names `there` that is `wanted`, or its only synonym, whatever the case; None if none is.

    Raises UsageError: several are synonyms and none is exactly `wanted`."""
    if wanted in there:
        return wanted
    alike = next((names for names in SYNONYMS if wanted.casefold() in names), (wanted.casefold(),))
    return only_one(wanted, [name for name in there if name.casefold() in alike])


def only_one(wanted: str, found: Sequence[str]) -> str | None:
    """The only name found for a split, if there is one."""
    if len(found) > 1:
        mend = "name the one you mean in data.splits, or bring their images together"
        raise UsageError(FIELD, wanted, f"one of {', '.join(found)}", mend)
    return found[0] if found else None


def find_splits(wanted: Sequence[str], there: Sequence[str], where: str) -> dict[str, str | None]:
    """What the source calls train, validation and test; None for what is "", or has its usual name and is not there.

    Args:
        wanted: the three names that the config gives.
        there: the names that the source has.

    Raises UsageError: the training split, or one with a name of the user's own, is not there."""
    found = {role: find_split(name, there) if name else None for role, name in zip(ROLES, wanted, strict=True)}
    check_found(found, wanted, there, where)
    return found


def check_found(found: dict[str, str | None], wanted: Sequence[str], there: Sequence[str], where: str) -> None:
    """Refuses splits without the training one, or without one that has a name of the user's own."""
    for role, name in zip(ROLES, wanted, strict=True):
        if found[role] is None and (role == "train" or name not in ("", role)):
            allowed = f"the splits of {where}: {', '.join(sorted(there)) or 'none'}"
            mend = "name one of these" if role == "train" else 'name one of these, or "" to hold one out of train'
            raise UsageError(FIELD, name or '""', allowed, mend)


def called_as_sites(names: Collection[str], directions: bool = False) -> bool:
    """Whether all names are one word for a site with a number or a letter: site1 and site2, hospital_a and hospital_b.

    `directions`: whether points of the compass count as well."""
    numbered = {re.fullmatch(r"([^\W\d_]{2,})(?:[\W_]*\d+|[\W_]+[^\W\d_])", name.casefold()) for name in names}
    words = {match and match[1] for match in numbered}
    if len(words) == 1 and words <= SITE_WORDS:
        return True
    return directions and bool(names) and all(name.casefold() in COMPASS for name in names)

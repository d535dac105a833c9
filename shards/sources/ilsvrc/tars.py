"""The tars of ILSVRC 2012 as distributed, listed in one pass without unpacking: a tar of class tars, and a flat one."""

import re

import numpy as np

from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.shards.sources.foreign_tar import ForeignMember, read_members
from caskit.shards.sources.labels import shown
from caskit.shards.sources.reading import Arrays, HashedFile

TRAIN_TAR, VALIDATION_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
_CLASS_TAR = re.compile(r"(?:\./)?(n[0-9]{8})\.tar")
_TRAIN_NAME = re.compile(r"(?:\./)?((n[0-9]{8})_[0-9]{1,9}\.JPEG)")
VALIDATION_NAME = re.compile(r"ILSVRC2012_val_([0-9]{8})\.JPEG")


def list_train(file: HashedFile, size: int, where: str, classes: ClassList) -> Arrays:
    """List the images of the training tar.

    Args:
        file: the tar, read from front to back.
        size: its bytes.
        where: its path, for errors.
        classes: ImageNet's.

    Returns:
        `label`, `offset`, `nbytes` [N] int64 and `names` [N] ASCII bytes, by label and name.

    Raises:
        InputError: a member is no class tar or no image of its class, is there twice, or a tar is damaged.
    """
    labels = {class_id: label for label, class_id in enumerate(classes.ids)}
    found: dict[int, Arrays] = {}
    for member in read_members(file, size, where):
        match = _CLASS_TAR.fullmatch(member.name)
        if match is None or match[1] not in labels:
            raise InputError(f"{where}: holds {shown(member.name)}, which is not WNID.tar of one of the 1000 classes")
        wnid, label = match[1], labels[match[1]]
        if label in found:
            raise InputError(f"{where}: holds {wnid}.tar twice")
        found[label] = _list_class(file, member, wnid, f"{where}: {wnid}.tar")
    if not found:
        raise InputError(f"{where}: holds no class tars")
    parts = [{**found[label], "label": np.full(len(found[label]["names"]), label)} for label in sorted(found)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _list_class(file: HashedFile, member: ForeignMember, wnid: str, where: str) -> Arrays:
    images: dict[str, ForeignMember] = {}
    for image in read_members(file, member.nbytes, where, start=member.offset):
        match = _TRAIN_NAME.fullmatch(image.name)
        if match is None or match[2] != wnid:
            raise InputError(f"{where}: holds {shown(image.name)}, images are named {wnid}_NUMBER.JPEG")
        if match[1] in images:
            raise InputError(f"{where}: holds {match[1]} twice")
        images[match[1]] = image
    return _arrays(images, where)


def list_validation(file: HashedFile, size: int, where: str) -> Arrays:
    """List the images of the validation tar by name: `offset`, `nbytes`, `names`. Raises InputError."""
    images: dict[str, ForeignMember] = {}
    for member in read_members(file, size, where):
        name = member.name.removeprefix("./")
        if VALIDATION_NAME.fullmatch(name) is None:
            raise InputError(f"{where}: holds {shown(member.name)}, images are named ILSVRC2012_val_00000001.JPEG")
        if name in images:
            raise InputError(f"{where}: holds {name} twice")
        images[name] = member
    return _arrays(images, where)


def _arrays(images: dict[str, ForeignMember], where: str) -> Arrays:
    """Return where images lie, sorted by name. Raises InputError where there are none."""
    if not images:
        raise InputError(f"{where}: holds no images")
    names = sorted(images)
    return {
        "offset": np.asarray([images[name].offset for name in names], dtype=np.int64),
        "nbytes": np.asarray([images[name].nbytes for name in names], dtype=np.int64),
        "names": np.asarray([name.encode("ascii") for name in names]),
    }

"""Which class each validation image is: the devkit's ground truth by ILSVRC id, or Kaggle's list by wnid.

An ILSVRC id is 1..1000 in an order of its own (1 is n02119789, kit fox), not the label plus one: reading it as a label
gives labels that look right and are not. Which wnid an id is stands in the devkit's meta.mat, or in a text file
`map_clsloc.txt` of lines `WNID ID NAME`, as later devkits have it.
"""

import dataclasses
import gzip
import io
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

from caskit.manifests.canonical import sha256_hex
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.shards.sources.classes import read_table, read_text
from caskit.shards.sources.foreign_tar import read_members
from caskit.shards.sources.labels import shown
from caskit.shards.sources.matlab import read_structs

DEVKIT, DEVKIT_FOLDER = "ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12"
GROUND_TRUTH, META, MAPPING = "ILSVRC2012_validation_ground_truth.txt", "meta.mat", "map_clsloc.txt"
SOLUTION = "LOC_val_solution.csv"
_MAX_FILE_BYTES, _MAX_DEVKIT_BYTES = 2**24, 2**26
_LINE = re.compile(r"\s*([0-9]{1,4})\s*")
_MAPPED = re.compile(r"(n[0-9]{8})\s+([0-9]{1,4})(?:\s.*)?")
_IMAGE = "ILSVRC2012_val_{number:08d}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Truth:
    """The labels of the validation images.

    Attributes:
        labels: label by name, without its ending (`ILSVRC2012_val_00000001`).
        files: what they were read from, name to SHA-256 of the unpacked bytes.
    """

    labels: Mapping[str, int]
    files: Mapping[str, str]


def read_truth(folder: Path, classes: ClassList) -> Truth:
    """Read the truth that lies in a folder.

    It is looked for in the packed devkit, the unpacked one (`ILSVRC2012_devkit_t12/data`, `data`, the folder itself),
    and Kaggle's `LOC_val_solution.csv`, in this order.

    Raises:
        InputError: there is none, or it is not of its form.
    """
    if (folder / DEVKIT).is_file():
        return _by_id(_unpack_devkit(folder / DEVKIT), classes, str(folder / DEVKIT))
    for place in (folder / DEVKIT_FOLDER / "data", folder / "data", folder):
        if (place / GROUND_TRUTH).is_file():
            names = [name for name in (GROUND_TRUTH, META, MAPPING) if (place / name).is_file()]
            return _by_id({name: _read_bytes(place / name) for name in names}, classes, str(place))
    if (folder / SOLUTION).is_file():
        return _by_wnid(folder / SOLUTION, classes)
    raise InputError(
        f"{folder}: the validation images have no labels: put {DEVKIT} beside them, or {GROUND_TRUTH} with {META} or "
        f"{MAPPING}, or Kaggle's {SOLUTION}; or sort the images into class folders val/WNID"
    )


def _unpack_devkit(path: Path) -> dict[str, bytes]:
    """Return the files of the devkit that are read, from a gzipped tar that is held in memory."""
    try:
        with gzip.open(path) as file:
            data = file.read(_MAX_DEVKIT_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: not a whole gzip file ({error})") from error
    if len(data) > _MAX_DEVKIT_BYTES:
        raise InputError(f"{path}: unpacks to more than {_MAX_DEVKIT_BYTES} bytes")
    found: dict[str, bytes] = {}
    for member in read_members(io.BytesIO(data), len(data), str(path)):
        name = member.name.rpartition("/")[2]
        if name in (GROUND_TRUTH, META, MAPPING):
            if name in found:
                raise InputError(f"{path}: holds {name} twice")
            found[name] = data[member.offset : member.offset + member.nbytes]
    return found


def _by_id(files: Mapping[str, bytes], classes: ClassList, where: str) -> Truth:
    if GROUND_TRUTH not in files:
        raise InputError(f"{where}: holds no {GROUND_TRUTH}")
    if META in files:
        listed, used = _ids_of_meta(files[META], f"{where}: {META}"), META
    elif MAPPING in files:
        listed, used = _ids_of_mapping(files[MAPPING], f"{where}: {MAPPING}"), MAPPING
    else:
        raise InputError(
            f"{where}: {GROUND_TRUTH} holds ILSVRC ids, which are no labels; {META} or {MAPPING} must say their wnids"
        )
    labels = _labels_of_ids(listed, classes, f"{where}: {used}")
    lines = _text(files[GROUND_TRUTH], f"{where}: {GROUND_TRUTH}").splitlines()
    truth: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None or int(match[1]) not in labels:
            raise InputError(f"{where}: {GROUND_TRUTH}: line {number} is {shown(line)}, must be an ILSVRC id, 1..1000")
        truth[_IMAGE.format(number=number)] = labels[int(match[1])]
    return Truth(labels=truth, files={name: sha256_hex(files[name]) for name in (GROUND_TRUTH, used)})


def _ids_of_meta(data: bytes, where: str) -> list[tuple[object, object]]:
    """Return (id, wnid) of the classes without children: the devkit also lists those above them, from id 1001 on."""
    rows = read_structs(data, "synsets", where)
    fields = {"ILSVRC2012_ID", "WNID", "num_children"}
    if not rows or not fields <= rows[0].keys():
        raise InputError(
            f"{where}: its synsets have no {', '.join(sorted(fields - (rows[0].keys() if rows else set())))}"
        )
    return [(row["ILSVRC2012_ID"], row["WNID"]) for row in rows if row["num_children"] == 0]


def _ids_of_mapping(data: bytes, where: str) -> list[tuple[object, object]]:
    rows: list[tuple[object, object]] = []
    for number, line in enumerate(_text(data, where).splitlines(), start=1):
        match = _MAPPED.fullmatch(line.strip())
        if match is None:
            raise InputError(f"{where}: line {number} is {shown(line)}, must be WNID ID NAME")
        rows.append((int(match[2]), match[1]))
    return rows


def _labels_of_ids(listed: list[tuple[object, object]], classes: ClassList, where: str) -> dict[int, int]:
    """Return the label of every ILSVRC id, known to be one to one."""
    labels = {class_id: label for label, class_id in enumerate(classes.ids)}
    found: dict[int, int] = {}
    for number, wnid in listed:
        if not isinstance(number, int) or not 1 <= number <= len(classes) or wnid not in labels:
            raise InputError(
                f"{where}: class {shown(repr(wnid))} has id {shown(repr(number))}, no class of ILSVRC 2012"
            )
        if number in found:
            raise InputError(f"{where}: id {number} stands for two classes")
        found[number] = labels[str(wnid)]
    if len(set(found.values())) != len(classes):
        raise InputError(f"{where}: lists {len(set(found.values()))} of the {len(classes)} classes")
    return found


def _by_wnid(path: Path, classes: ClassList) -> Truth:
    """Read Kaggle's list, `ImageId,PredictionString`, whose second column begins with the wnid of an image's object."""
    text, labels = read_text(path, _MAX_FILE_BYTES), {class_id: label for label, class_id in enumerate(classes.ids)}
    truth: dict[str, int] = {}
    for row in read_table(text, str(path)):
        if not {"ImageId", "PredictionString"} <= row.keys():
            raise InputError(f"{path}: has columns {', '.join(row)}, needs ImageId and PredictionString")
        name, wnid = row["ImageId"], row["PredictionString"].partition(" ")[0]
        if wnid not in labels or name in truth:
            raise InputError(f"{path}: {shown(name)} is there twice, or its {shown(wnid)} is no class")
        truth[name] = labels[wnid]
    return Truth(labels=truth, files={SOLUTION: sha256_hex(path.read_bytes())})


def _read_bytes(path: Path) -> bytes:
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes, at most {_MAX_FILE_BYTES} are read")
    return path.read_bytes()


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not ASCII text ({error.reason} at byte {error.start})") from error

"""Training a classifier on a frozen set, and the folder that holds it.

model.safetensors   the weights
run.json            recipe, data, seed, classes, versions; written last, so its existence means that the folder is whole
train.jsonl, train.csv, resume.pt, resume.previous.pt   the engine's log, the same as a table, its last two states
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.plan import FORMAT_VERSION, differing_fields
from caskit.shards.mixture import Mixture, TrainingSet
from caskit.shards.remote.location import is_url
from caskit.shards.remote.streamed import StreamedSet
from caskit.shards.software import git_commit, versions
from caskit.shards.untrusted import read_plain, read_record
from caskit.train.compiling import require_compiler
from caskit.train.device import core_is_free, num_threads
from caskit.train.distributed import World
from caskit.train.engine import ALONE, EngineConfig, Progress, run
from caskit.train.folder import write_atomic
from caskit.train.images import MAX_MEMORY_BYTES, Images
from caskit.train.log import read_log, require_tensorboard, throughput
from caskit.train.provenance import describe_training_set, hardware
from caskit.train.recipes import Recipe

MODEL_NAME = "model.safetensors"
RUN_NAME = "run.json"
MAX_HEADER_BYTES = 2**22  # of a file of weights, besides the weights
_IDENTITY_FIELDS = ("recipe", "seed", "data", "classes", "channels", "model_sha256")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier:
    """A trained classifier.

    Attributes:
        path: its folder.
        record: the parsed run.json.
        recipe, classes, channels: what it was trained by and for.
        model: the network in evaluation mode on its device.
        device: where it computes.
    """

    path: Path
    record: dict[str, Any]
    recipe: Recipe
    classes: ClassList
    channels: int
    model: nn.Module
    device: torch.device

    @property
    def classifier_id(self) -> str:
        """SHA-256 over what decides it and its weights, 64 hex digits."""
        return str(self.record["classifier_id"])


def check_images(images: Images, recipe: Recipe, location: str, *, channels: int | None = None) -> None:
    """Raise InputError unless the recipe can use the images, and they have these channels if any are given."""
    if recipe.crop == "none" and (images.height, images.width) != (recipe.resolution, recipe.resolution):
        raise InputError(
            f"{location}: images are {images.width}x{images.height}, recipe {recipe.name} is for "
            f"{recipe.resolution}x{recipe.resolution}; --set resolution=N changes it, or use another recipe"
        )
    if recipe.channel_mean and images.channels != len(recipe.channel_mean):
        raise InputError(
            f"{location}: images have {images.channels} channels, recipe {recipe.name} has means of "
            f"{len(recipe.channel_mean)}; --set channel_mean=M,... --set channel_std=S,... changes them"
        )
    if recipe.randaugment and images.channels != 3:
        raise InputError(
            f"{location}: images have {images.channels} channels, randaugment is for 3; --set randaugment="
        )
    if channels is not None and images.channels != channels:
        raise InputError(
            f"{location}: images have {images.channels} channels, the classifier was trained on {channels}"
        )


def open_images(data: TrainingSet, recipe: Recipe, *, memory_bytes: int = MAX_MEMORY_BYTES) -> Images:
    """Open a set for training by a recipe, held in memory if it fits. Raises InputError, see `check_images`."""
    # Images of reduced size are other pixels than those of the full one made smaller.
    hold: tuple[str, ...] = ("pixels", "rows") if recipe.decode == "full" else ("rows",)
    for part in data.parts if isinstance(data, Mixture) else (data,):
        if isinstance(part, StreamedSet):
            part.check_order(recipe.shuffle_block, recipe.shuffle_window)
            hold = ()
    images = Images(data, max_memory_bytes=memory_bytes, one_size=recipe.crop == "none", hold=hold)
    check_images(images, recipe, data.store.location)
    return images


def train(
    data: TrainingSet,
    recipe: Recipe,
    *,
    seed: int,
    out: Path,
    device: torch.device,
    config: EngineConfig | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    world: World = ALONE,
    num_workers: int = 0,
    memory_bytes: int = MAX_MEMORY_BYTES,
) -> dict[str, Any]:
    """Train the recipe's classifier on a set; the same call goes on after an interruption and returns when done.

    Any number of processes may go on with what another number began: the order of samples and the batch-norm batches
    are the same. Equal tensors at the end are promised for equal numbers.

    Args:
        data: an open frozen set, or a mixture of some.
        recipe: how to train.
        seed: of weights, order and augmentation.
        out: the classifier's folder.
        device: where to compute.
        config: intervals of logs and saved states; its seed is not used.
        progress: see `engine.run`.
        stop: see `engine.run`.
        world: the processes that train together, each of which makes this call; rank 0 alone writes.
        num_workers: processes that read and augment ahead for each of them; no bit depends on it.
        memory_bytes: what each process may hold of the set in memory, see `Images`; no bit depends on it.

    Returns:
        The record of run.json.

    Raises:
        InputError: the set does not fit the recipe, or `out` holds another classifier, or there are more processes than
            batch-norm batches in a step.
        NotFinished: `stop` said so.
    """
    engine = dataclasses.replace(config or EngineConfig(), seed=seed)
    if engine.tensorboard:
        require_tensorboard()
    identity = {"recipe": recipe.to_json(), "data": describe_training_set(data), "classes": _classes_json(data.classes)}
    finished = None
    with world.agreed():
        if world.first:
            finished = _finished(out, identity, seed)
    finished = _of_first(world, finished)
    if finished is not None:
        return finished
    from caskit.train.task import ClassifierTask  # on use: timm takes seconds to import

    with world.agreed():
        if recipe.compile:
            require_compiler()  # of every machine: a rank without one would leave the others waiting for it
        images = open_images(data, recipe, memory_bytes=memory_bytes)
    ahead = _helps(images, recipe, device, world)
    with num_threads(recipe.threads):
        task = ClassifierTask(
            recipe,
            images.batch if recipe.crop == "none" else images.each,
            data.labels,
            num_classes=len(data.classes),
            channels=images.channels,
            seed=seed,
            device=device,
            world=world,
            num_workers=num_workers,
            ahead=ahead,
            source=images,
        )
        run(
            task,
            out=out,
            identity={**identity, "device": device.type},  # the last bits of a half-done run belong to one device
            config=engine,
            batch_size=recipe.batch_size,
            progress=progress,
            stop=stop,
            name="train",
            world=world,
            elastic=True,
        )
    record = None
    with world.agreed():
        if world.first:
            facts = {
                **identity,
                "recipe_id": recipe.recipe_id,
                "seed": seed,
                "channels": images.channels,
                "class_list_sha256": data.classes.digest,
                "data_location": _location(data),
                "throughput": throughput(read_log(out / "train.jsonl")),
                "num_processes": world.size,
                "reading": {
                    "held": images.held,
                    "held_bytes": images.held_bytes,
                    "workers": num_workers,
                    "ahead": ahead or num_workers > 0,
                },
                "hardware": hardware(device),
            }
            record = _write_classifier(task.classifier, out, facts)
    record = _of_first(world, record)
    assert record is not None, "rank 0 has written it"
    return record


def _helps(images: Images, recipe: Recipe, device: torch.device, world: World) -> bool:
    """Return whether a thread that makes images during a step saves more than it costs.

    Where all cores compute, it takes from one of them what it saves, and the others wait for that one (docs/LOG.md).
    But waiting for a disk costs no core.
    """
    return images.held == "nothing" or core_is_free(device, recipe.threads, processes=world.local_size)


def _location(data: TrainingSet) -> str | list[str]:
    parts = data.parts if isinstance(data, Mixture) else (data,)
    places = [part.store.location for part in parts]
    found = [place if is_url(place) else str(Path(place).resolve()) for place in places]
    return found if isinstance(data, Mixture) else found[0]


def _of_first(world: World, record: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what rank 0 has, on every rank."""
    if world.size == 1:
        return record
    told: dict[str, Any] | None = json.loads(world.send(json.dumps(record).encode() if world.first else None))
    return told


def _write_classifier(model: nn.Module, out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Write the weights, then the record of run.json: what is told here and what follows from it."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    weights = safetensors.torch.save(tensors)
    write_atomic(out / MODEL_NAME, lambda path: _write_bytes(path, weights))
    record = {
        "format_version": FORMAT_VERSION,
        **facts,
        "model_sha256": sha256_hex(weights),
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "final": read_log(out / "train.jsonl")[-1],
        "versions": versions(),
        "git_commit": git_commit(),
    }
    record["classifier_id"] = _classifier_id(record)
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    write_atomic(out / RUN_NAME, lambda path: _write_bytes(path, text.encode()))
    return record


def _classes_json(classes: ClassList) -> list[dict[str, str]]:
    return [{"id": i, "name": n} for i, n in zip(classes.ids, classes.names, strict=True)]


def _classifier_id(record: dict[str, Any]) -> str:
    return sha256_hex(canonical_json({name: record[name] for name in _IDENTITY_FIELDS}))


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _finished(out: Path, identity: dict[str, Any], seed: int) -> dict[str, Any] | None:
    """Return the record of a finished folder of this identity, None if there is none."""
    if not (out / RUN_NAME).exists():
        return None
    record = read_run(out)
    wanted = json.loads(canonical_json({**identity, "seed": seed}))
    found = {name: record[name] for name in wanted}
    if wanted != found:
        fields = "; ".join(differing_fields(wanted, found))
        raise InputError(f"{out}: holds another classifier, differing in {fields}; choose another folder")
    return record


def read_run(folder: Path) -> dict[str, Any]:
    """Read and check run.json of a classifier's folder.

    Raises:
        InputError: the folder holds no finished classifier, or its record is not one of ours.
        IntegrityError: the record was edited.
    """
    path = folder / RUN_NAME
    if not path.exists():
        raise InputError(f"{folder}: no finished classifier ({RUN_NAME} is not there); run caskit train first")
    record = read_record(path, what="the record of a classifier")
    try:
        expected = _classifier_id(record)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not the record of a classifier ({error!r})") from error
    if record.get("classifier_id") != expected:
        raise IntegrityError(f"{path}: classifier_id does not follow from the record, it was edited")
    return dict(record)


def copy_classifier(folder: Path, out: Path) -> None:
    """Write a finished classifier's weights and record into another folder, record last, without its set's path.

    Raises:
        InputError: the folder holds none, or links in place of files.
        IntegrityError: record or weights are not those that were written.
    """
    classifier = load_classifier(folder, device=torch.device("cpu"))
    weights = _read_weights(folder, classifier.record, classifier.model)
    # A path of one machine tells nobody else anything; the ids of the set stay.
    text = json.dumps({**classifier.record, "data_location": None}, indent=2, sort_keys=True) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / MODEL_NAME, lambda path: _write_bytes(path, weights))
    write_atomic(out / RUN_NAME, lambda path: _write_bytes(path, text.encode()))


def _read_weights(folder: Path, record: dict[str, Any], model: nn.Module) -> bytes:
    """Read the file of weights, no larger than they are, and compare its digest with the record's."""
    most = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()) + MAX_HEADER_BYTES
    weights = read_plain(folder / MODEL_NAME, max_bytes=most)
    if sha256_hex(weights) != record["model_sha256"]:
        raise IntegrityError(f"{folder / MODEL_NAME}: sha256 differs from {RUN_NAME}")
    return weights


def load_classifier(folder: Path, *, device: torch.device) -> Classifier:
    """Load a finished classifier for evaluation.

    Raises:
        InputError: the folder holds none.
        IntegrityError: record or weights are not those that were written.
    """
    record = read_run(folder)
    recipe = Recipe.from_json(record["recipe"])
    classes = ClassList.from_json(record["classes"], name=f"{folder / RUN_NAME}: classes")
    from caskit.train.classifier import build_model

    model = build_model(recipe, len(classes), record["channels"])
    weights = _read_weights(folder, record, model)
    try:
        model.load_state_dict(safetensors.torch.load(weights))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise IntegrityError(f"{folder / MODEL_NAME}: weights do not fit the recipe's network") from error
    return Classifier(
        path=folder,
        record=record,
        recipe=recipe,
        classes=classes,
        channels=record["channels"],
        model=model.to(device).eval(),
        device=device,
    )

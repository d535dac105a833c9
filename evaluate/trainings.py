"""Which classifiers a score needs: one per training seed and set, in their order, and where each is kept."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from caskit.manifests.errors import InputError
from caskit.manifests.plan import differing_fields
from caskit.shards.dataset import FrozenSet
from caskit.train.training import RUN_NAME

REAL_FOLDER, SYNTHETIC_FOLDER, SCORE_FOLDER = "real", "synthetic", "score"
MAX_SEEDS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """One classifier of the score.

    Attributes:
        data: what it is trained on.
        seed: of the training.
        folder: of classifier and score.
        title: what it is, for people.
        real: whether it makes a Real row.
    """

    data: FrozenSet
    seed: int
    folder: Path
    title: str
    real: bool

    @property
    def finished(self) -> bool:
        """Whether the classifier is there."""
        return (self.folder / "classifier" / RUN_NAME).exists()


def plan_trainings(
    synthetic: FrozenSet,
    out: Path,
    *,
    real_train: FrozenSet | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    sizes: Sequence[int] = (),
    resampled: Sequence[FrozenSet] = (),
) -> list[Training]:
    """Return the trainings of a score in their order, Real rows first.

    Args:
        synthetic: what is scored.
        out: the folder of all of it.
        real_train: what the Real rows are trained on; None makes none.
        seeds: of the trainings, one classifier per seed and set.
        sizes: numbers of images to train on, each a whole number of shards from the first on; none, the whole set.
        resampled: replicas of the same plan with other sampling seeds.

    Raises:
        InputError: no or equal seeds, a size that is not so, or a replica of another plan.
    """
    if not 1 <= len(seeds) <= MAX_SEEDS or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds are {list(seeds)}, allowed: 1 to {MAX_SEEDS} different whole numbers")
    sets = [(data, *_names(data)) for data in _parts(synthetic, sizes)]
    if resampled and sizes and max(sizes) != len(synthetic):
        raise InputError(f"sizes are {list(sizes)}: with other sampling seeds the whole set, {len(synthetic)}, is one")
    for sampling_seed, data in _sampling_seeds(synthetic, resampled).items():
        sets.append((data, f"sampling-seed-{sampling_seed}", f"sampling seed {sampling_seed}"))
    rows = [] if real_train is None else [(real_train, REAL_FOLDER, "Real", True)]
    rows += [(data, name, title, False) for data, name, title in sets]
    return [
        Training(data=data, seed=seed, folder=seed_folder(out / folder, seed), title=f"{title}, seed {seed}", real=real)
        for data, folder, title, real in rows
        for seed in seeds
    ]


def _names(data: FrozenSet) -> tuple[str, str]:
    """Return the folder of a set's trainings and what to call it."""
    select = data.expression.sources[0].select
    if select == "all":
        return SYNTHETIC_FOLDER, "synthetic"
    return select.replace(":", "-"), f"{len(data):,} synthetic images"


def _parts(synthetic: FrozenSet, sizes: Sequence[int]) -> list[FrozenSet]:
    """Return the set, or its first shards that hold so many images."""
    if not sizes:
        return [synthetic]
    ends = synthetic.shard_ends
    found = []
    for size in sorted(set(sizes)):
        if size not in ends:
            near = sorted(ends, key=lambda end: abs(end - size))[:2]
            raise InputError(
                f"size {size}: {synthetic.store.location} has whole shards up to {ends[-1]} images, nearest "
                f"{' and '.join(map(str, sorted(near)))}; a size is a whole number of shards"
            )
        found.append(synthetic.first_shards(ends.index(size) + 1))
    return found


def _sampling_seeds(first: FrozenSet, others: Sequence[FrozenSet]) -> dict[int, FrozenSet]:
    """Return other replicas by their sampling seed. Raises InputError unless they differ from the first by it alone."""
    found: dict[int, FrozenSet] = {}
    for other in others:
        location = other.store.location
        if first.plan is None or other.plan is None:
            raise InputError(
                f"{location}: sampling seeds are of synthetic replicas with a plan, this is of another kind"
            )
        seed = other.plan.seed
        if seed == first.plan.seed or seed in found:
            raise InputError(f"{location}: is another replica of sampling seed {seed}, a spread needs different seeds")
        same_seed = dataclasses.replace(other.plan, seed=first.plan.seed)
        differing = differing_fields(first.plan.to_json(), same_seed.to_json())
        if differing:
            raise InputError(f"{location}: differs from {first.store.location} in more than its seed: {differing[0]}")
        found[seed] = other
    return dict(sorted(found.items()))


def seed_folder(parent: Path, seed: int) -> Path:
    """Return where the training of one seed is kept."""
    return parent / f"seed-{seed}"

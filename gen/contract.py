"""Checks that a generator keeps the promises on which reproducible replicas stand. Run it on every new family."""

import pickle
import random
from pathlib import Path

import numpy as np
import torch

from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.codes import as_coded, check_codes, code_levels, default_epsilon, has_codes
from caskit.gen.family import Generator, load_family
from caskit.gen.numerics import numerics_applied
from caskit.gen.streams import Streams
from caskit.gen.worker import Worker
from caskit.manifests.errors import RunFailed
from caskit.manifests.plan import Plan
from caskit.manifests.seeds import stream_key

MAX_MEAN_DIFFERENCE = 1.0  # of 255, between one sample in two batches: last bits may differ, images may not


def check_generator(plan: Plan, *, module: str, checkpoint: Path, device: str = "cpu") -> list[str]:
    """Draw small batches of a plan and return one line per broken promise, none if all are kept.

    Checked: shape and types; every label can be drawn; in the same batch the stream decides the image, exactly; another
    stream gives another image; the rest of the batch changes it by no more than rounding; global generators are
    neither used nor moved; the labels are left as they were; a worker can be pickled and gives the same images. Of a
    family with codes: images are decoded from them, and each uniform lies in the interval of the code drawn with it.
    """
    worker = Worker(plan, module=module, location=".", checkpoint=checkpoint, device=device)
    load_checkpoint(checkpoint, plan.checkpoint_id)
    problems = []
    with numerics_applied(plan.numerics):
        generator = worker.load_generator()
        problems += _check_arrays(generator, plan)
        if problems:
            return problems
        problems += _check_streams(generator, plan)
        problems += _check_globals(generator, plan)
        problems += _check_codes(generator, load_family(module).CODED, plan)
        again = pickle.loads(pickle.dumps(worker)).load_generator()
        if not np.array_equal(_draw(again, plan), _draw(generator, plan)):
            problems.append("a pickled worker, loaded again, draws other images")
    return problems


def _batch(plan: Plan, ordinal: int = 0) -> tuple[np.ndarray, list[bytes]]:
    """Return labels and stream keys of one microbatch that goes through the labels."""
    labels = np.arange(plan.microbatch_size, dtype=np.int64) % len(plan.classes)
    keys = [stream_key(plan.seed, int(label), ordinal + place, 0) for place, label in enumerate(labels)]
    return labels, keys


def _draw(generator: Generator, plan: Plan, ordinal: int = 0) -> np.ndarray:
    labels, keys = _batch(plan, ordinal)
    return generator.sample(labels, Streams(keys))[0]


def _check_arrays(generator: Generator, plan: Plan) -> list[str]:
    problems = []
    shape = (plan.microbatch_size, plan.height, plan.width, plan.channels)
    num_classes = len(plan.classes)
    for first in range(0, num_classes, plan.microbatch_size):
        labels = np.minimum(np.arange(first, first + plan.microbatch_size, dtype=np.int64), num_classes - 1)
        kept = labels.copy()
        images, finite = generator.sample(labels, Streams([stream_key(0, int(label), 0, 0) for label in labels]))
        if not np.array_equal(labels, kept):
            problems.append("sample() changes the labels it was given")
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape != shape:
            kind = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
            return [*problems, f"images are {kind}, must be uint8 {shape}"]
        if not isinstance(finite, np.ndarray) or finite.dtype != np.bool_ or finite.shape != shape[:1]:
            return [*problems, f"finite must be a bool array of shape {shape[:1]}"]
    return problems


def _check_streams(generator: Generator, plan: Plan) -> list[str]:
    problems = []
    labels, keys = _batch(plan)
    images, _ = generator.sample(labels, Streams(keys))
    if not np.array_equal(generator.sample(labels, Streams(keys))[0], images):
        problems.append("the same labels and streams in the same batch give other images the second time")
    if np.array_equal(_draw(generator, plan, ordinal=10_000), images):
        problems.append("other streams give the same images")
    turned = np.roll(np.arange(plan.microbatch_size), 1)
    moved, _ = generator.sample(labels[turned], Streams([keys[place] for place in turned]))
    if _difference(moved, images[turned]) > MAX_MEAN_DIFFERENCE:
        problems.append("an image depends on its place in the batch")
    alone, _ = generator.sample(np.full_like(labels, labels[0]), Streams([keys[0]] * plan.microbatch_size))
    if _difference(alone[:1], images[:1]) > MAX_MEAN_DIFFERENCE:
        problems.append("an image depends on the other samples of its batch")
    return problems


def _difference(images: np.ndarray, others: np.ndarray) -> float:
    """Return the largest mean absolute difference between two images of a pair, in grey levels."""
    differences = np.abs(images.astype(np.int64) - others.astype(np.int64)).mean(axis=(1, 2, 3))
    return float(differences.max())


def _check_codes(generator: Generator, promised: bool, plan: Plan) -> list[str]:
    if has_codes(generator) != promised:
        return [f"CODED is {promised}, but its generator has {'no ' if promised else ''}codes"]
    if not promised:
        return []
    coded = as_coded(generator, plan.family)
    labels, keys = _batch(plan)
    codes = coded.sample_codes(labels, Streams(keys))
    try:
        check_codes(codes, code_levels(coded), len(labels), plan.family)
    except RunFailed as error:
        return [str(error)]
    problems = []
    if not np.array_equal(coded.decode_codes(labels, codes)[0], _draw(generator, plan)):
        problems.append("sample() is not decode_codes() of sample_codes()")
    own = coded.score_codes(labels, Streams(keys), codes)
    if not all((part <= default_epsilon(plan.numerics)).all() for part in own.values()):
        problems.append("score_codes() puts uniforms outside the intervals of the codes drawn with them")
    others = coded.score_codes(labels, Streams(_batch(plan, ordinal=10_000)[1]), codes)
    if all((part <= default_epsilon(plan.numerics)).all() for part in others.values()):
        problems.append("score_codes() takes other streams' codes for the samples' own")
    return problems


def _check_globals(generator: Generator, plan: Plan) -> list[str]:
    """Set the global generators of torch, numpy and Python to two states; neither images nor states may show it."""
    problems, drawn = [], []
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        for seed in (1, 2):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            before = _global_states()
            drawn.append(_draw(generator, plan))
            moved = [name for name, state in _global_states().items() if state != before[name]]
            if moved and seed == 1:
                problems.append(f"sample() uses the global generator of {', '.join(moved)}")
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
    if not np.array_equal(drawn[0], drawn[1]):
        problems.append("images depend on a global random state")
    return problems


def _global_states() -> dict[str, bytes]:
    return {
        "random": repr(random.getstate()).encode(),
        "numpy": pickle.dumps(np.random.get_state()),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }

"""The promises that a loaded generator is checked for, each by a function that returns what is broken."""

import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from caskit.gen.codes import as_coded, check_codes, code_levels, default_epsilon, has_codes
from caskit.gen.contract.probe import OTHER_ORDINAL, Broken, Probe, call, difference
from caskit.gen.contract.report import Check
from caskit.gen.family import CodedGenerator
from caskit.gen.streams import Streams
from caskit.manifests.errors import RunFailed

MAX_MEAN_DIFFERENCE = 1.0  # of 255, between one sample in two batches: last bits may differ, images may not
FROM_STREAMS = "draw every random number from the streams (streams.normal, streams.uniform)"


def check_arrays(probe: Probe) -> Check:
    """Check shape, dtype and labels of whole batches that hold every class. Raises Broken for the first wrong one."""
    size, num_classes = probe.plan.microbatch_size, len(probe.plan.classes)
    for first in range(0, num_classes, size):
        labels = np.minimum(np.arange(first, first + size, dtype=np.int64), num_classes - 1)
        probe.draw(labels, probe.keys_of(labels))
    shape = (size, probe.plan.height, probe.plan.width, probe.plan.channels)
    return Check(name="arrays", note=f"uint8 {shape}, every one of {num_classes} labels")


def check_seed(probe: Probe) -> Check:
    """Check that in the same batch the stream decides the image, exactly, and that another one gives another image."""
    problems, images = [], probe.images
    if not np.array_equal(probe.draw(), images):
        problems.append(
            "the same labels and streams in the same batch give other images the second time: "
            f"{FROM_STREAMS}, and keep no state between calls"
        )
    elif np.array_equal(probe.draw(keys=probe.keys_of(probe.labels, OTHER_ORDINAL)), images):
        problems.append(f"other streams give the same images, so the seed has no effect: {FROM_STREAMS}")
    return Check(name="seed", problems=tuple(problems), note="the same streams give equal images, others give others")


def check_batch(probe: Probe, coded: CodedGenerator | None) -> Check:
    """Check that neither an image's place nor the other samples of its batch change it by more than rounding."""
    size, images = probe.plan.microbatch_size, probe.images
    turned = np.roll(np.arange(size), 1)
    one = np.zeros(size, dtype=np.int64)
    problems, largest = [], 0.0
    for places, what, advice in (
        (turned, "its place in the batch", "treat all rows alike"),
        (one, "the other samples of its batch", "use the model in evaluation mode, take no mean or extreme over rows"),
    ):
        labels, keys = probe.labels[places], [probe.keys[place] for place in places]
        found = float(difference(probe.draw(labels, keys), images[places]).max())
        if found <= MAX_MEAN_DIFFERENCE:
            largest = max(largest, found)
        elif coded is None or not _explained_by_codes(coded, probe, places, labels, keys):
            shown = f"{found:.1f} grey levels on average, allowed {MAX_MEAN_DIFFERENCE:g}"
            problems.append(f"an image depends on {what} ({shown}): {advice}, give every sample its own stream")
    note = f"largest mean difference {largest:.2f} grey levels, allowed {MAX_MEAN_DIFFERENCE:g}"
    return Check(name="batch", problems=tuple(problems), note=note)


def _explained_by_codes(
    coded: CodedGenerator, probe: Probe, places: np.ndarray, labels: np.ndarray, keys: list[bytes]
) -> bool:
    """Tell whether codes drawn in another batch are what the streams draw up to rounding: one flip changes an image."""
    codes = dict(coded.sample_codes(probe.labels, Streams(probe.keys)))
    for level, maps in coded.sample_codes(labels, Streams(keys)).items():
        codes[level] = codes[level].copy()
        codes[level][places] = maps
    excess = coded.score_codes(probe.labels, Streams(probe.keys), codes)
    return all(bool((part <= default_epsilon(probe.plan.numerics)).all()) for part in excess.values())


def check_randomness(probe: Probe) -> Check:
    """Set the global generators of torch, numpy and Python to two states; neither images nor states may show it."""
    problems, drawn = [], []
    with _global_states_kept():
        for seed in (1, 2):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            before = _global_states()
            drawn.append(probe.draw())
            moved = [name for name, state in _global_states().items() if state != before[name]]
            if moved and seed == 1:
                problems.append(
                    f"sample() uses the global generator of {', '.join(moved)}, which no plan knows: {FROM_STREAMS}, "
                    "or a generator of your own per sample, seeded by its stream key"
                )
    if not np.array_equal(drawn[0], drawn[1]):
        problems.append(f"images depend on a global random state: {FROM_STREAMS}")
    return Check(name="randomness", problems=tuple(problems), note="random, numpy and torch: untouched, without effect")


@contextmanager
def _global_states_kept() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def _global_states() -> dict[str, bytes]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "random": repr(random.getstate()).encode(),
        "numpy": pickle.dumps(np.random.get_state()),
        "torch": b"".join(state.numpy().tobytes() for state in (torch.get_rng_state(), *cuda)),
    }


def torch_settings() -> dict[str, Any]:
    """Return what a plan decides about torch in the whole process."""
    return {
        "number of threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "deterministic algorithms": torch.get_deterministic_debug_mode(),
        "TF32 of matrix products": torch.backends.cuda.matmul.allow_tf32,
    }


def check_settings(before: dict[str, Any]) -> Check:
    """Check that loading and drawing left torch's settings as the plan had set them, and set them so again."""
    changed = [name for name, value in torch_settings().items() if value != before[name]]
    problems = []
    if changed:
        torch.set_num_threads(before["number of threads"])
        torch.set_default_dtype(before["default dtype"])
        torch.set_deterministic_debug_mode(before["deterministic algorithms"])
        torch.backends.cuda.matmul.allow_tf32 = before["TF32 of matrix products"]
        problems.append(
            f"loading or drawing changes torch's {', '.join(changed)}: leave the settings of the process alone, the "
            "plan decides them"
        )
    return Check(
        name="settings", problems=tuple(problems), note="threads, dtype and determinism of torch: as they were"
    )


def check_codes_drawn(probe: Probe, promised: bool) -> Check:
    """Check a family with codes: images are decoded from them, and each uniform lies in its code's interval."""
    plan = probe.plan
    if has_codes(probe.generator) != promised:
        wrong = f"CODED is {promised}, but its generator has {'no ' if promised else ''}codes: set CODED right"
        return Check(name="codes", problems=(wrong,))
    if not promised:
        return Check(name="codes", note="the family draws none", checked=False)
    coded = as_coded(probe.generator, plan.family)
    codes = call("sample_codes()", lambda: coded.sample_codes(probe.labels, Streams(probe.keys)))
    try:
        check_codes(codes, code_levels(coded), len(probe.labels), plan.family)
    except RunFailed as error:
        raise Broken(str(error)) from error
    problems = []
    if not np.array_equal(coded.decode_codes(probe.labels, codes)[0], probe.images):
        problems.append("sample() is not decode_codes() of sample_codes(): make it so, codes are recorded for an audit")
    epsilon = default_epsilon(plan.numerics)
    own = coded.score_codes(probe.labels, Streams(probe.keys), codes)
    if not all((part <= epsilon).all() for part in own.values()):
        problems.append(
            "score_codes() puts uniforms outside the intervals of the codes drawn with them: same CDF in both"
        )
    strange = Streams(probe.keys_of(probe.labels, OTHER_ORDINAL))
    others = coded.score_codes(probe.labels, strange, codes)
    if all((part <= epsilon).all() for part in others.values()):
        problems.append("score_codes() takes other streams' codes for the samples' own: compare with the uniforms")
    note = f"levels {', '.join(codes)}: drawn, decoded, found in their intervals"
    return Check(name="codes", problems=tuple(problems), note=note)

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit.manifests.errors import InputError, IntegrityError, RunFailed
from caskit.train.prefetch import Prefetch
from caskit.train.recipes import Recipe
from caskit.train.samples import TrainingImages
from caskit.train.task import ClassifierTask

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
LABELS = np.arange(20) % 3
RECIPE = Recipe(
    name="tiny", widths=(4, 6), num_poolings=1, resolution=8, num_steps=5, batch_size=8, bn_batch=2, learning_rate=0.1,
    flip="random", dropout=0.3,
)  # fmt: skip


def read(ids: np.ndarray) -> np.ndarray:
    return IMAGES[ids]


def images(reader: Any = read) -> TrainingImages:
    return TrainingImages(RECIPE, reader, LABELS, channels=1, seed=4)


@pytest.mark.parametrize("parts", [range(4), range(1, 4, 2)])
def test_workers_hand_out_the_same_parts_from_any_place_on(parts: range) -> None:
    ahead, plain = Prefetch(images(), parts, 5, 3), images()
    state = torch.random.get_rng_state()
    places = [(step, part) for step in range(5) for part in parts]
    for place in (*places, *places[3:]):  # a second time from the middle, as after a resume
        found, labels = ahead.load(*place)
        expected, targets = plain.load(*place)
        assert np.array_equal(found.numpy(), expected) and np.array_equal(labels.numpy(), targets)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_training_does_not_depend_on_workers() -> None:
    options: dict[str, Any] = {"num_classes": 3, "channels": 1, "seed": 4, "device": torch.device("cpu")}
    alone, helped = (ClassifierTask(RECIPE, read, LABELS, num_workers=n, **options) for n in (0, 2))
    for step in range(3):
        ours, theirs = alone.step(step), helped.step(step)
        assert float(ours["loss"]) == float(theirs["loss"])
    assert alone.waited_s > 0 and helped.waited_s > 0
    for a, b in zip(alone.model.parameters(), helped.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_thread_makes_the_next_part_and_hands_out_the_same_bits_from_any_place_on() -> None:
    """Asked to make the next part after each, after some, or never; and asked for another part than the next."""
    made: list[str] = []

    def noted(ids: np.ndarray) -> np.ndarray:
        made.append(threading.current_thread().name)
        return IMAGES[ids]

    parts = range(1, 4, 2)
    places = [(step, part) for step in range(5) for part in parts]
    for every, by_thread in ((1, 10), (3, 3), (100, 1)):
        ahead, plain = Prefetch(images(noted), parts, 5, 0), images()
        made.clear()
        for number, place in enumerate((*places, *places[3:4])):
            found, labels = ahead.load(*place)
            expected, targets = plain.load(*place)
            assert np.array_equal(found.numpy(), expected) and np.array_equal(labels.numpy(), targets)
            if number % every == 0:
                ahead.make_next()
                ahead.make_next()  # once is enough
        if ahead._next is not None:  # begun, and never asked for
            ahead._next[1].result()
        assert sum(name.startswith("images") for name in made) == by_thread
    ahead = Prefetch(images(noted), parts, 5, 0)
    ahead.make_next()  # nothing was asked for yet
    ahead.load(0, 1)
    ahead.make_next()
    assert np.array_equal(ahead.load(4, 1)[0].numpy(), images().load(4, 1)[0])


def test_steps_beyond_the_last_one_are_made_as_well() -> None:
    """What a step costs is measured by more steps than a short recipe has."""
    ahead, plain = Prefetch(images(), range(4), 5, 0), images()
    for place in ((4, 3), (5, 0), (9, 2)):
        found, _ = ahead.load(*place)
        assert np.array_equal(found.numpy(), plain.load(*place)[0])
        ahead.make_next()


def test_without_a_thread_a_part_is_made_when_it_is_asked_for() -> None:
    made: list[str] = []

    def noted(ids: np.ndarray) -> np.ndarray:
        made.append(threading.current_thread().name)
        return IMAGES[ids]

    plain, asked = images(), Prefetch(images(noted), range(4), 5, 0, ahead=False)
    for place in ((0, 0), (0, 1), (0, 2), (3, 1)):
        found, labels = asked.load(*place)
        asked.make_next()
        expected, targets = plain.load(*place)
        assert np.array_equal(found.numpy(), expected) and np.array_equal(labels.numpy(), targets)
    assert not [name for name in made if name.startswith("images")] and len(made) == 4


def test_a_step_asks_the_thread_for_the_next_part() -> None:
    """What a step finds ready is what it would have made itself: losses and weights are those without a thread."""
    options: dict[str, Any] = {"num_classes": 3, "channels": 1, "seed": 4, "device": torch.device("cpu")}
    threads: list[str] = []

    def noted(ids: np.ndarray) -> np.ndarray:
        threads.append(threading.current_thread().name)
        return IMAGES[ids]

    alone = ClassifierTask(RECIPE, read, LABELS, ahead=False, **options)
    ahead = ClassifierTask(RECIPE, noted, LABELS, **options)
    for step in range(RECIPE.num_steps):
        assert float(alone.step(step)["loss"]) == float(ahead.step(step)["loss"])
    assert not threads[0].startswith("images") and all(name.startswith("images") for name in threads[1:])
    for a, b in zip(alone.model.parameters(), ahead.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_error_of_the_thread_is_the_readers_own() -> None:
    def damaged(ids: np.ndarray) -> np.ndarray:
        if threading.current_thread().name.startswith("images"):
            raise IntegrityError("shard-000001.tar: key a: the bytes are not those of its row")
        return IMAGES[ids]

    ahead = Prefetch(images(damaged), range(4), 5, 0)
    ahead.load(0, 0)
    ahead.make_next()
    with pytest.raises(IntegrityError, match=r"^shard-000001\.tar: key a: the bytes are not those of its row$"):
        ahead.load(0, 1)


def test_an_error_of_a_worker_is_the_readers_own() -> None:
    def damaged(ids: np.ndarray) -> np.ndarray:
        raise IntegrityError("shard-000001.tar: key a: the bytes are not those of its row")

    with pytest.raises(IntegrityError, match=r"^shard-000001\.tar: key a: the bytes are not those of its row$"):
        Prefetch(images(damaged), range(4), 5, 1).load(0, 0)


def test_workers_leave_signals_to_the_process_that_trains() -> None:
    def signalled(ids: np.ndarray) -> np.ndarray:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            os.kill(os.getpid(), number)
        time.sleep(0.05)
        return IMAGES[ids]

    ahead = Prefetch(images(signalled), range(4), 5, 1)
    for part in range(3):
        assert np.array_equal(ahead.load(0, part)[0].numpy(), images().load(0, part)[0])


def test_a_worker_that_dies_ends_the_run_with_a_line() -> None:
    def dying(ids: np.ndarray) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    with pytest.raises(RunFailed, match=r"DataLoader worker .*the same command goes on from the last saved state"):
        Prefetch(images(dying), range(4), 5, 1).load(0, 0)


def test_a_process_that_ends_with_workers_ends(tmp_path: Path) -> None:
    """Nothing closes `ahead` here; workers that leave SIGTERM to others would keep Python's exit waiting for ever."""
    script = tmp_path / "ends.py"
    script.write_text(
        "import sys\nsys.path.insert(0, sys.argv[1])\n"
        "from test_prefetch import Prefetch, images\n"
        "from multiprocessing import active_children\n"
        "ahead = Prefetch(images(), range(4), 5, 2)\nprint(ahead.load(0, 0)[1].tolist())\n"
        # what torch's own shutdown may leave behind: nobody tells these workers to stop
        "ahead._made._shutdown_workers = lambda: None\nassert len(active_children()) == 2\n"
    )
    command = [sys.executable, script, Path(__file__).parent]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{images().load(0, 0)[1].tolist()}\n"


def test_how_many_workers_there_may_be() -> None:
    with pytest.raises(InputError, match=r"workers is 1000, allowed: 0\.\.256"):
        Prefetch(images(), range(4), 5, 1000)

from collections.abc import Callable

import numpy as np
import pytest
from pebble_drive import plan_of

from caskit.gen.checkpoint import Checkpoint
from caskit.gen.drawing import draw_microbatch, draw_shard
from caskit.gen.streams import Streams
from caskit.manifests.errors import RunFailed
from caskit.manifests.plan import Plan
from caskit.manifests.seeds import stream_key


class Notebook:
    """A generator that writes down what it is asked for; `finite` decides by key."""

    def __init__(self, plan: Plan, finite: Callable[[bytes], bool] = lambda key: True) -> None:
        self.calls: list[tuple[list[int], list[bytes]]] = []
        self._plan, self._finite = plan, finite

    def sample(self, labels: np.ndarray, streams: Streams) -> tuple[np.ndarray, np.ndarray]:
        assert labels.dtype == np.int64
        self.calls.append((labels.tolist(), list(streams.keys)))
        images = np.zeros((len(labels), self._plan.height, self._plan.width, self._plan.channels), dtype=np.uint8)
        images += np.array([key[0] for key in streams.keys], dtype=np.uint8)[:, None, None, None]
        return images, np.array([self._finite(key) for key in streams.keys])


def keys_of(plan: Plan, labels: np.ndarray, ordinals: np.ndarray, attempt: int = 0) -> list[bytes]:
    return [stream_key(plan.seed, int(a), int(b), attempt) for a, b in zip(labels, ordinals, strict=True)]


def test_every_microbatch_is_full(pebble: Checkpoint) -> None:
    plan = plan_of(pebble.path, 203)
    labels, ordinals = plan.draw_order.assign(*plan.shard_range(1))
    notebook = Notebook(plan)
    drawn = list(draw_shard(notebook, plan, labels, ordinals))  # type: ignore[arg-type]
    keys = keys_of(plan, labels, ordinals)
    assert notebook.calls == [
        (labels[:8].tolist(), keys[:8]),
        (labels[8:16].tolist(), keys[8:16]),
        (labels[16:].tolist() + [labels[19]] * 4, keys[16:] + [keys[19]] * 4),
    ]
    assert [part.positions.tolist() for part in drawn] == [[*range(8)], [*range(8, 16)], [*range(16, 20)]]
    assert [int(image[0, 0, 0]) for part in drawn for image in part.images] == [key[0] for key in keys]
    assert all((part.attempts == 0).all() and part.scores is None for part in drawn)


def test_redraws_come_at_the_end_in_full_microbatches(pebble: Checkpoint) -> None:
    plan = plan_of(pebble.path, 203)
    labels, ordinals = plan.draw_order.assign(0, 20)
    first, second = keys_of(plan, labels, ordinals), keys_of(plan, labels, ordinals, attempt=1)
    bad = {first[2], first[17], *first[8:16], second[17]}
    notebook = Notebook(plan, lambda key: key not in bad)
    drawn = list(draw_shard(notebook, plan, labels, ordinals))  # type: ignore[arg-type]
    again = [2, *range(8, 16), 17]
    assert all(len(set(part.attempts.tolist())) == 1 for part in drawn)
    assert [(part.attempts[0], part.positions.tolist()) for part in drawn] == [
        (0, [0, 1, 3, 4, 5, 6, 7]),
        (0, [16, 18, 19]),
        (1, again[:8]),
        (1, [15]),
        (2, [17]),
    ]
    assert notebook.calls[3][1] == [second[place] for place in again[:8]]
    assert notebook.calls[4][1] == [second[15], *[second[17]] * 7]
    assert notebook.calls[5][1] == keys_of(plan, labels[[17] * 8], ordinals[[17] * 8], attempt=2)


def test_attempts_are_bounded(pebble: Checkpoint) -> None:
    plan = plan_of(pebble.path, 203, max_attempts=3)
    labels, ordinals = plan.draw_order.assign(0, 20)
    notebook = Notebook(plan, lambda key: False)
    with pytest.raises(RunFailed, match="output of pebble was not finite in 3 draws of 20 samples, first class c0"):
        list(draw_shard(notebook, plan, labels, ordinals))  # type: ignore[arg-type]
    assert len(notebook.calls) == 9


@pytest.mark.parametrize(
    ("images", "finite", "message"),
    [
        (np.zeros((8, 6, 4, 1), np.float32), np.ones(8, bool), "images float32"),
        (np.zeros((8, 6, 4), np.uint8), np.ones(8, bool), r"must be uint8 \(8, 6, 4, 1\)"),
        (np.zeros((7, 6, 4, 1), np.uint8), np.ones(8, bool), r"images uint8 \(7, 6, 4, 1\)"),
        ([1], np.ones(8, bool), "images list"),
        (np.zeros((8, 6, 4, 1), np.uint8), np.ones(8), "finite as a bool array"),
        (np.zeros((8, 6, 4, 1), np.uint8), None, "finite as a bool array"),
    ],
)
def test_output_of_another_form(pebble: Checkpoint, images: object, finite: object, message: str) -> None:
    plan = plan_of(pebble.path, 203)

    class Wrong:
        def sample(self, labels: np.ndarray, streams: Streams) -> object:
            return images, finite

    with pytest.raises(RunFailed, match=message):
        draw_microbatch(Wrong(), plan, np.array([0]), np.array([0]), 0)  # type: ignore[arg-type]

"""Committing a shard behind the writing of the next one."""

import threading
from typing import Any

import pytest

from caskit.shards.finishing import Behind


def test_one_shard_is_behind_and_told_of_by_its_owner() -> None:
    go, seen = threading.Event(), list[Any]()
    with Behind() as behind:
        behind.submit(lambda: seen.append(go.wait(60)), lambda: seen.append(threading.current_thread()))
        assert seen == []
        with pytest.raises(AssertionError, match="join comes before the next shard"):
            behind.submit(lambda: None, lambda: None)
        go.set()
        behind.join()
        behind.join()
        assert seen == [True, threading.current_thread()]
        behind.submit(lambda: None, lambda: seen.append("last"))
    assert seen[2:] == ["last"]


def test_what_a_commit_raises_is_raised_and_nobody_is_told() -> None:
    def fail() -> None:
        raise OSError(28, "disk full")

    told: list[None] = []
    with pytest.raises(OSError, match="disk full"), Behind() as behind:
        behind.submit(fail, lambda: told.append(None))
    assert told == []


def test_an_error_of_the_owner_goes_first_and_the_commit_ends() -> None:
    go, ended = threading.Event(), list[bool]()

    def write_two() -> None:
        with Behind() as behind:
            behind.submit(lambda: ended.append(go.wait(60)), lambda: None)
            threading.Timer(0.05, go.set).start()
            raise ValueError("own")

    with pytest.raises(ValueError, match="own"):
        write_two()
    assert ended == [True]

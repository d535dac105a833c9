import pytest
import torch

from caskit.manifests.errors import InputError
from caskit.train.device import core_is_free, num_threads, pick_device


def test_cpu_by_name() -> None:
    assert pick_device("cpu") == torch.device("cpu")


def test_auto_follows_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert pick_device("auto").type == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == torch.device("cuda:0")
    assert pick_device("cuda:1") == torch.device("cuda:1")


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="'cuda:3' is not there: .* sees 1 CUDA devices"):
        pick_device("cuda:3")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "mps", ""])
def test_unknown_names(name: str) -> None:
    with pytest.raises(InputError, match="use auto, cpu, cuda"):
        pick_device(name)


@pytest.mark.parametrize(
    ("cores", "threads", "processes", "free"), [(2, 2, 1, False), (2, 1, 1, True), (4, 2, 2, False), (5, 2, 2, True)]
)
def test_a_core_is_free_where_threads_leave_one(
    cores: int, threads: int, processes: int, free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {*range(cores)}, raising=False)
    assert core_is_free(torch.device("cpu"), threads, processes=processes) is free
    assert core_is_free(torch.device("cuda:0"), threads, processes=processes)


def test_threads_are_as_before_after_an_error() -> None:
    def fail(number: int) -> None:
        with num_threads(number):
            assert torch.get_num_threads() == number
            raise KeyError

    before = torch.get_num_threads()
    with pytest.raises(KeyError):
        fail(before + 1)
    assert torch.get_num_threads() == before

"""The tiny set and fit of the script beside this file, which is in no package."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

TINY = Path(__file__).with_name("tiny_gan.py")


@pytest.fixture(scope="session")
def tiny() -> Any:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("biggan_deep_tiny_gan", TINY)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""`python -m caskit`: what torchrun starts."""

from caskit.cli import run_process

if __name__ == "__main__":
    run_process()

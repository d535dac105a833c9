"""The contract check: whether a generator keeps the promises on which reproducible replicas stand."""

from caskit.gen.contract.report import Check, Contract, Cost
from caskit.gen.contract.running import CHECK_NUM, check_generator

__all__ = ["CHECK_NUM", "Check", "Contract", "Cost", "check_generator"]

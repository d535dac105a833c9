"""The check of a score folder: every number made again, every id that it names looked up."""

from caskit.evaluate.check.findings import Finding, Report
from caskit.evaluate.check.folders import check_folder

__all__ = ["Finding", "Report", "check_folder"]

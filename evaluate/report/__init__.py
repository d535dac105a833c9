"""The report of one or more scores, and the contact sheet it is made with."""

from caskit.evaluate.report.grid import contact_sheet
from caskit.evaluate.report.page import write_report

__all__ = ["contact_sheet", "write_report"]

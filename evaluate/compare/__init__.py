"""Several generators side by side: how other metrics go with CAS, and which differences are more than chance."""

from caskit.evaluate.compare.comparing import compare, write_comparison
from caskit.evaluate.compare.correlation import Entry
from caskit.evaluate.compare.fidelity import with_fidelity
from caskit.evaluate.compare.table import read_table

__all__ = ["Entry", "compare", "read_table", "with_fidelity", "write_comparison"]

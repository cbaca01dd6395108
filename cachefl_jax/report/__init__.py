"""What a run leaves behind, told to people: report.html and the table that `make demo` prints."""

from cachefl_jax.report.page import write_report
from cachefl_jax.report.table import method_table

__all__ = ["method_table", "write_report"]

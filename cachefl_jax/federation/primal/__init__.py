"""Local training on the params themselves, for any loss, optimizer, algorithm, transform and aggregation."""

from cachefl_jax.federation.primal.fold import fold_chunks, fold_scan

__all__ = ["fold_chunks", "fold_scan"]

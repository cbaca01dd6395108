"""Local training on the params themselves, for any loss, optimizer, algorithm, transform and aggregation."""

from cachefl_jax.federation.primal.fold import fold_chunks, fold_scan
from cachefl_jax.federation.primal.stages import fold_parts

__all__ = ["fold_chunks", "fold_parts", "fold_scan"]

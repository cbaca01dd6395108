"""What the points of a sweep have in common, made once and held once."""

from collections.abc import Callable

import jax
import numpy as np

from cachefl_jax.data import FeatureBank
from cachefl_jax.simulation.prepare import Inputs


class Shared:
    """Arrays with the same contents become one array, and what is made of the same arrays is made once.

    It holds all that went through it, so that no identity is given out twice.
    """

    def __init__(self):
        self.arrays: dict[tuple, list[np.ndarray]] = {}
        self.made: dict[tuple, tuple] = {}

    def inputs(self, inputs: Inputs) -> Inputs:
        """The inputs with arrays that earlier ones have brought, where they are equal."""
        bank = inputs.bank
        fields = {name: jax.tree.map(self.array, getattr(bank, name)) for name in FeatureBank._fields[:5]}
        views = jax.tree.map(self.array, bank.train_views)
        return inputs._replace(bank=bank._replace(**fields, train_views=views), server=self.tree(inputs.server))

    def tree(self, tree):
        """The pytree with arrays that earlier ones have brought, where they are equal; numbers stay."""
        return jax.tree.map(lambda leaf: self.array(leaf) if np.ndim(leaf) else leaf, tree)

    def array(self, array: np.ndarray) -> np.ndarray:
        """This array, or an earlier one of the same shape, type and contents."""
        alike = self.arrays.setdefault((array.shape, array.dtype.str), [])
        for known in alike:
            if known is array or np.array_equal(known, array):
                return known
        alike.append(array)
        return array

    def once(self, make: Callable, *parts):
        """make(*parts), or what it gave for the same arrays, functions, names and numbers before."""
        leaves, structure = jax.tree.flatten(parts)
        named = (leaf if isinstance(leaf, (int, float, str)) else id(leaf) for leaf in leaves)
        key = (make, structure, *named)
        if key not in self.made:
            self.made[key] = (make(*parts), parts)
        return self.made[key][0]

"""Local training on coefficients: exact, with no copy of the params for any client.

Where a loss meets its params W [J, D] only in scores f W^T (`local.Linear`), a step's gradient is a combination of the
client's own features. Under SGD, with momentum, weight decay, a proximal term and clipping, a client's params therefore
never leave

    W_c = decay_c W_0 + (scale U_c)^T F_c     W_0 the server's [J, D], F_c its features [n_c, D], U_c [n_c, J]

and decay, scale and U are trained instead. Plain SGD starts from decay = 1, U = 0 and, with learning rate eta, weight
decay lambda and proximal mu, a batch b of features f_b and of slopes S_b = dloss/dscores [B, J] does

    shrink = 1 - eta (lambda + mu)      decay <- shrink decay + eta mu      scale <- shrink scale
    u_b <- u_b - eta S_b                scores_b = decay f_b W_0^T + G_b (scale U)

with G = F_c F_c^T, the client's Gram matrix, computed once a run. The scores of all rows with W_0 are one big product a
block of clients, and so is the weighted sum of what the clients send. In between, D occurs in no product.

The way through the files: `fold` goes over the cohort block by block, `block` says what a block holds, `train` takes
its clients through their epochs, `steps` does one step, `gram` has the products and norms.

What it does exactly: weighted sums; algorithms whose update is the change times a number that follows from the steps
(FedNova); transforms that multiply an update by a number which follows from its norm, for

    |W_c - W_0|^2 = (decay - 1)^2 |W_0|^2 + 2 (decay - 1) <scale U, F W_0^T> + <scale U, G (scale U)>.

Plain SGD adds the last term up step by step, from the scores that a step needs anyway.

Everything else is handed to `primal`, and so is a client with more rows than D, which would be dearer this way. Memory:
a block holds its features and 2 x R x J numbers (4 with momentum); nothing of size clients x J x D exists.

Axis letters: C clients of the population, M of the cohort, L lanes, R rows of a block, B batch, J scores (N K for a
cache), D features.
"""

from cachefl_jax.federation.dual.fold import fold_blocks
from cachefl_jax.federation.dual.gram import gram_matrices

__all__ = ["fold_blocks", "gram_matrices"]

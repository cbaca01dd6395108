"""What a sum of integers with discrete Gaussian noise of every client spends (Kairouz et al., arXiv 2102.06387).

Lengths are in units of S, the largest norm of an update. A client's numbers are multiples of the step gamma, its noise
has a standard deviation of z / sqrt(n), n clients' together one of z. gamma is as fine as the bits allow: half of the
modulus has room for `ROOM` standard deviations of a rotated number of the sum. It depends on no client's data, and not
on how many numbers an update has, but that these are between `FEWEST` and `MOST`, for which all bounds are made.
"""

import math

ROOM = 8.0  # standard deviations; a number leaves the range with a probability below 2 exp(-ROOM^2 / 2)
FEWEST, MOST = 2**10, 2**20  # numbers of an update; the fewest fill one rotation
BETA = math.exp(-0.5)  # a rounding is drawn again with this probability at most
ROUNDING = 1 + 1e-5  # what float32 may get wrong in a norm
SMOOTH = 0.5  # standard deviation of a client's noise in steps, below which nothing is known of sums


def step_of(noise: float, clients: int, bits: int) -> float:
    """gamma; infinite where the bits have no room for that many clients' rounding."""
    left = (2 ** (bits - 1) / ROOM) ** 2 - clients / 4
    return math.sqrt((clients**2 / FEWEST + noise**2) / left) if left > 0 else math.inf


def longest(step: float, numbers: int) -> float:
    """The norm of a rounded update, at most (theorem 1): a rounding that is longer is drawn again."""
    far = step * math.sqrt(numbers)
    conditional = 1 + far**2 / 4 + math.sqrt(2 * math.log(1 / BETA)) * step * (1 + far / 2)
    return math.sqrt(min(conditional, (1 + far) ** 2))


def concentrated(noise: float, clients: int, bits: int) -> float:
    """rho of a round's zero-concentrated privacy (proposition 14): clients whose update counts or is zeros."""
    step = step_of(noise, clients, bits)
    own = noise / math.sqrt(clients) / step
    if own < SMOOTH:
        return math.inf
    terms = (math.exp(-2 * (math.pi * own) ** 2 * number / (number + 1)) for number in range(1, clients))
    apart = 10 * sum(terms)  # of the sum from one discrete Gaussian
    return (ROUNDING * longest(step, MOST) / noise + apart * math.sqrt(MOST)) ** 2 / 2

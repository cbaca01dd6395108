"""A federation of real sites: the rounds of the simulator as separate processes, over Flower."""

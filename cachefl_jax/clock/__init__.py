"""A virtual clock: how fast the sites of a federation are, and the timetable of a run that follows from it.

Durations follow from profiles, rows, steps and bytes, never from trained numbers. So who takes part in which round is
known before the run: computed on the host, in float64, from the seed.
"""

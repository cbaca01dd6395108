"""Secure aggregation: the server learns the sum of a cohort's updates, and of a single one nothing.

SecAgg (Bonawitz et al., CCS 2017) and SecAgg+ (Bell et al., CCS 2020), against a server that is honest but curious.
`sums` is what a round computes: a sum of integers. `protocol` is how clients and server come by it: keys, masks, shares
and what is recovered of clients that leave.
"""

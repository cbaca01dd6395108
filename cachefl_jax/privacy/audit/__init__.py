"""Audits: attacks on what a run's server sees, held against what its privacy promises."""

"""The proof of concept: folders of sites in, a decision and its report out. `run` is the way through."""

"""From a config to a result: what a run or a sweep is made of, how it is trained and what it leaves."""

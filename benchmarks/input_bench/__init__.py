"""Data sets, servers and measures that the benchmarks of the data plane share."""

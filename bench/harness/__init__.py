"""The parts of the benchmark: the platform under test, its peers, the load, the report."""

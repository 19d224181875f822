"""Everything that the operator decides: pure functions from what it saw to what shall be."""

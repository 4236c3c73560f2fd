"""HTTP routes of the desk, one module a kind of caller."""

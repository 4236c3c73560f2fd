"""What the README and docs/ claim, each figure with the command that makes it: `python -m benchmarks NAME`."""

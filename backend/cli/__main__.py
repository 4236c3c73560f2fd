"""`python -m backend.cli`: the program by its package, wherever its script lies."""

from backend.cli import main

main()

"""``python -m graftsim``."""

from graftsim.cli import main

main()

"""`python -m experiments.command` is `pixelrobust`."""

from experiments.command.app import main

main()

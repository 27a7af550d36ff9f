"""`python -m experiments.command` is `pixelrobust`."""

from experiments.command.app import main

# Processes that share the work import this too.
if __name__ == "__main__":
    main()

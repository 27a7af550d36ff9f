"""The console command `pixelrobust`: the pipeline, for those without the repository.

Every subcommand is a thin layer: it turns options into keys of the configuration, and hands them to
what `python -m experiments.…` runs too. Nothing here needs torch before there is work to do.
"""

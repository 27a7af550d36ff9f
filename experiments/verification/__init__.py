"""Stored outcomes beside recomputed ones.

`folder` takes a folder of results, `stored` finds what this machine has of its runs, `plain`,
`attacked`, `layers` and `retrained` compute a share of each kind of rows again, `comparing` compares.
"""

from experiments.verification.folder import REPORT, Verification, verify_folder

__all__ = ["REPORT", "Verification", "verify_folder"]

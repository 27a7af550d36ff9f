"""Runs logged in Weights & Biases, beside the results folder and without any say in it.

Nothing here decides a number or how a run ends: whatever goes wrong with W&B is one line of warning.
"""

from pixelrobust.settings import TrackingSettings
from pixelrobust.tracking.tracker import NO_TRACKER, About, Picture, Tracker

__all__ = ["NO_TRACKER", "About", "Picture", "Tracker", "make_tracker"]


def make_tracker(settings: TrackingSettings | None, about: About) -> Tracker:
    """What logs a run as these settings want it.

    Raises:
        InputError: W&B is asked for, and is not installed.
    """
    if settings is None:
        return NO_TRACKER
    # The package is looked for only where it is asked for.
    from pixelrobust.tracking.opening import wandb_package
    from pixelrobust.tracking.wandb_tracker import WandbTracker

    wandb_package()
    return WandbTracker(settings, about)

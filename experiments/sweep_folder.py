"""What the folder of a sweep holds: one folder a job, called by the job's number. Nothing here needs torch."""

from pathlib import Path

RECORD, FAILURE, SETTINGS = "job.json", "failure.txt", "settings.json"
"""What became of a job; and of those that failed, the traceback and the settings."""


def is_recorded(job_directory: Path) -> bool:
    """Whether what became of a job is written down."""
    return (job_directory / RECORD).is_file()

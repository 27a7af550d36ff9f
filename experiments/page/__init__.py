"""A folder of results as one interactive page, `report.html`. Only its pictures need torch."""

from experiments.page.building import PAGE, keys_gallery, write_page
from experiments.page.provenance import provenance

__all__ = ["PAGE", "keys_gallery", "provenance", "write_page"]

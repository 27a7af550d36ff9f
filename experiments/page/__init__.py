"""A folder of results as one interactive page, `report.html`. Only its pictures need torch."""

from experiments.page.building import PAGE, keys_gallery, page_of, write_page
from experiments.page.provenance import provenance

__all__ = ["PAGE", "keys_gallery", "page_of", "provenance", "write_page"]

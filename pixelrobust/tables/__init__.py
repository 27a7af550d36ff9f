"""Tables of stored outcomes; nothing here needs torch."""

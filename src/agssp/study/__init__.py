"""Whole comparisons from one file: which cells there are, which stages they share, running what is missing, tables."""

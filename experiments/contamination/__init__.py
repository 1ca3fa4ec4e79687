"""Data sets in part made by a model: what they cost, and what helps."""

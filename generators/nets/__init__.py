"""Modules only: networks that know nothing of pools, chains or losses."""

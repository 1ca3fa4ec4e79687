"""A page on which a run is looked through: one file of HTML that needs nothing beside it.

`told.of_runs` and `told.of_records` gather what is said, `filled.page` puts it with assets/ into one file.
"""

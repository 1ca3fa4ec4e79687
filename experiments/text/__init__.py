"""Language models that eat their own words."""

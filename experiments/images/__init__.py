"""Collapse of models of images."""

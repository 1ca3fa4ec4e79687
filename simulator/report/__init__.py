"""What a run looks like: figures and one self-contained page."""

"""What the `genloss` command is made of, beyond `experiments/cli.py`."""

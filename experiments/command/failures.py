"""What goes wrong in a command: an exit code and one sentence."""

from __future__ import annotations


def told(error: Exception) -> tuple[int, str] | None:
    """1 where the run failed, 2 of bad input, and the sentence; None of an error of ours, which is shown as it is."""
    import jax

    from simulator import GenlossError, RunFailed
    from simulator.report.names import plain

    if isinstance(error, GenlossError):
        return 2, plain(error)
    if isinstance(error, RunFailed):
        return 1, plain(error)
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
        asked = str(error).partition("RESOURCE_EXHAUSTED: ")[2].splitlines()[0].rstrip(".")
        return 1, f"{asked}; lower the batch, the rows or the number of chains."
    return None

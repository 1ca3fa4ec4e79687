"""The worlds of the league: a file that defines `world` is one, by its own name."""

"""Random numbers, decompositions, weighted choice, schedules: arrays in, arrays out, of no chain."""

"""One file per question; the file name is its name on the command line."""

"""What comes from outside is looked at here: fields, what plug-ins return, foreign files, names of code."""

"""The jobs of the command line, one file each."""

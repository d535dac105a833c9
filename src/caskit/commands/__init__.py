"""One module per command: its flags, and a thin call of the stage that does the work."""

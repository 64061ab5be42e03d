"""Stage 2: what is in the table, and is it fit to learn from."""

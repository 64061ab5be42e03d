"""Stage 1: a table as people have it becomes an immutable snapshot."""

"""Stage 3: which rows and columns a model learns from, and in what form."""

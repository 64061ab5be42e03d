"""Stage 6: a model version binds a bundle to everything it came from."""

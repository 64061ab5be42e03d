"""Stage 8: is the champion still good, and should it be trained again."""

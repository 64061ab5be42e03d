"""Stage 5: how good is the model, for whom, and may it go live."""

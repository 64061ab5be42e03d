"""Stage 4: search over families and their parameters, refit the winner, export it."""

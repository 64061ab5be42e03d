"""Stage 7: a version that the gate lets through becomes the champion, and proves it."""

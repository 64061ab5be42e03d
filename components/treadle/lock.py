"""What the images install, as one digest. Written by scripts/lock.

As part of the code it goes into the code's digest, which tags images and keys step caches: a step
with another library isn't the same step.
"""

DIGEST = "14cb7b381e64ece5709d5c664ccdc919"

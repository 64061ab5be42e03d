"""What the images install, as one digest. Written by scripts/lock.

As part of the code it goes into the code's digest, which tags images and keys step caches: a step
with another library isn't the same step.
"""

DIGEST = "5d0bc59bded1942ce9006e27c7f1a015"

"""What the images install, as one digest. Written by scripts/lock.

As part of the code it goes into the code's digest, which tags images and keys step caches: a step
with another library isn't the same step.
"""

DIGEST = "a668a8c943174fa27e09f044b685eee2"

"""What the images install, as one digest. Written by scripts/lock.

As part of the code it goes into the code's digest, which tags images and keys step caches: a step
with another library isn't the same step.
"""

DIGEST = "080e87b5ca994363fd71175c28b880aa"

"""One vendor or medium each: what provides the ports of ``treadle.ports``."""

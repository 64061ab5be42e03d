"""The documentation site: pages written by people, and the reference that is read from the code."""

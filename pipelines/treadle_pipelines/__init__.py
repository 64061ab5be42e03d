"""The graphs, the spec file, the launchers and the command line."""

"""The model server: every champion in the registry, answered from its bundle."""

"""Engines carry a controller's decisions out; each is the only importer of its framework."""

"""Runs on disk, and all that is done with one: train, evaluate, continue, teach, adapt, index."""

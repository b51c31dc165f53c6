"""Stores of a photo index: a folder, a Lance table on this machine or at an address, a database."""

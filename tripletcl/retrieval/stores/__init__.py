"""Stores of a photo index: a folder, or a Lance table on this machine or at an address."""

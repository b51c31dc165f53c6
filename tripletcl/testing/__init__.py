"""Tests of a method of your own: `python -m tripletcl.testing my_pkg.my_method:L2`."""

from tripletcl.testing.contract import PROPERTIES, contract, is_finetune_at_zero, resumes

__all__ = ["PROPERTIES", "contract", "is_finetune_at_zero", "resumes"]

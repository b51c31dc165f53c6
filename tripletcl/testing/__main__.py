"""Command `python -m tripletcl.testing my_pkg.my_method:L2`, or `"{name: my_pkg.my_method:L2, lam: 3}"`.

It ends with 1 if the method breaks the contract.
"""

from __future__ import annotations

import logging
import sys

import yaml

from tripletcl.errors import UserError
from tripletcl.testing import contract

VERDICTS = {True: "holds", False: "BROKEN", None: "not promised"}


def main(arguments: list[str]) -> int:
    """Print whether a method holds each clause of the contract; returns the exit status."""
    if len(arguments) != 1:
        print('usage: python -m tripletcl.testing my_pkg.my_method:L2, or "{name: my_pkg.my_method:L2, lam: 3}"')
        return 2
    broken = 0
    try:
        for clause, held in contract(yaml.safe_load(arguments[0])):
            print(f"{VERDICTS[held]:>12}  {clause}", flush=True)
            broken += held is False
    except (UserError, yaml.YAMLError) as error:
        print(f"tripletcl: {error}", file=sys.stderr)
        return 1
    return min(broken, 1)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    sys.exit(main(sys.argv[1:]))

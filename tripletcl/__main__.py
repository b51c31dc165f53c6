"""`python -m tripletcl`."""

import os
import sys

import tripletcl

if __name__ == "__main__":
    if tripletcl.__file__ is None and not sys.flags.safe_path:
        # The current folder contains one called like the package, as a clone of it: search for modules elsewhere only.
        os.execv(sys.executable, [sys.executable, "-P", *sys.orig_argv[1:]])
    from tripletcl.cli import main

    main()

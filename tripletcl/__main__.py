"""`python -m tripletcl`."""

from tripletcl.cli import main

if __name__ == "__main__":
    main()

"""The shipped configs, installed as `tripletcl.configs`."""

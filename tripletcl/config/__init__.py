"""Typed settings, read from YAML and the command line."""

from tripletcl.config.load import dump_config, load_config, parse_config, shipped_configs
from tripletcl.config.schema import Config

__all__ = ["Config", "dump_config", "load_config", "parse_config", "shipped_configs"]

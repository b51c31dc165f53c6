"""Typed settings, read from YAML and the command line."""

from tripletcl.config.base import Config
from tripletcl.config.facts import FactConfig
from tripletcl.config.load import (
    change_config,
    dump_config,
    load_config,
    load_config_to_train,
    parse_config,
    read_values,
    shipped_configs,
)
from tripletcl.config.objects import ObjectConfig

__all__ = [
    "Config",
    "FactConfig",
    "ObjectConfig",
    "change_config",
    "dump_config",
    "load_config",
    "load_config_to_train",
    "parse_config",
    "read_values",
    "shipped_configs",
]

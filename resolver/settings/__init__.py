"""Flags, Corefile and ConfigMaps become one validated `Settings` value: `load(flags.parse(argv).process)`."""

from resolver.settings.loading import load
from resolver.settings.model import Settings

__all__ = ["Settings", "load"]

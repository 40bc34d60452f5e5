"""Flags, Corefile and ConfigMaps become one validated `Settings` value."""

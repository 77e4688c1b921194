"""Helpers shared by several packages: arguments, arrays, statistics, files, progress."""

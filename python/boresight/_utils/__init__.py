"""Pieces that several packages share: arguments, arrays, statistics, files, progress."""

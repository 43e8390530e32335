"""Colours by which a reader tells methods and curves apart."""

COLORS = ("#1f6fb4", "#d9730d", "#2f8f4e", "#8a4fbf", "#b8334a", "#0f8b8d", "#7a6a1f", "#5b6570")

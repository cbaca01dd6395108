"""Configs that the commands know by name: --config=NAME, or --config=NAME:VARIANT."""

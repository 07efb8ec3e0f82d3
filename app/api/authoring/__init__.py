"""Changing hierarchies, their nodes and the products they hold."""

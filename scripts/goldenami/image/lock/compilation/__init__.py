"""Compilation of an image's kernel modules and wheels: a lock proves by it that they fit, a bake
makes missing ones again."""

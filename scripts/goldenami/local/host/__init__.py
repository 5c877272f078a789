"""This machine: its tools, its scratch folders, and how it plays another one."""

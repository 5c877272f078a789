"""A container or a machine that runs, and the ways in: SSH, shells, Packer."""

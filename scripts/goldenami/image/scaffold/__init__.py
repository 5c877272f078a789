"""The initial files of a repository of images, and of a role in one."""

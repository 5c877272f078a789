"""Files that a company writes: definitions of images, roles and recipes of frameworks."""

"""What a repository of images, and a role in one, begin with."""

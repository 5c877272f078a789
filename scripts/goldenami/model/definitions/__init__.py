"""What a company writes: the definition of an image, its roles and frameworks."""

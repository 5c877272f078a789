"""The stages that release an image to those who launch it, test it on GPUs, and retire it."""

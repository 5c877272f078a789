"""What is compiled for an image: kernel modules and wheels. A lock proves by it, a bake makes again
what is lacking."""

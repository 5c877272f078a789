"""What images can be made of, and until when it is supported: dated tables."""

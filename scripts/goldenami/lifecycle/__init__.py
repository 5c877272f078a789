"""What an account holds: what there is, what goes, what killed runs left."""

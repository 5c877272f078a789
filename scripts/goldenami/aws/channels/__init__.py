"""What launches of an image use in one region: pointers, the ledger that they follow, and the lease
that guards both."""

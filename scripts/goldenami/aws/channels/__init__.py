"""The pointers that launches of an image use in one region, the ledger that they follow, and the
lease that guards both."""

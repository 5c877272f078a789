"""What others launch by, in one region: pointers, the ledger that they follow, the lease on
them."""

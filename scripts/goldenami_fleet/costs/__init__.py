"""What images cost, and where a workload costs least."""

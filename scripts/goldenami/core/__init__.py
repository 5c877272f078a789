"""The ground: errors, processes, records, time, units. It knows nothing of images."""

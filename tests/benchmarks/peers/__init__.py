"""What else could be picked: each peer at the best settings that were found for it."""

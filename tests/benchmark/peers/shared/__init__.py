"""What all programs share: the work, the same for every library. Standard library only."""

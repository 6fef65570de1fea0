"""Programs as the users of the contract write them: its names, its keywords, nothing else."""

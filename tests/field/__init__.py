"""What ``tests/attack`` and ``tests/soak`` share: processes, and what the kernel says of them."""

"""Congestion control over paths with loss, narrow buffers, policers, jitter and company."""

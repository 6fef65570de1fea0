"""Long runs of a server and a client: does anything grow that should not?"""

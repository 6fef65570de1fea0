"""What several kinds of tests share: certificates, loops, leak checks, a server and a client."""

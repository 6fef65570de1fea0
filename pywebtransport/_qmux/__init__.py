"""QMux: streams and datagrams over a reliable connection, for networks without UDP. Sans-I/O."""

"""The tests: unit, quic, engine (C), integration, interop, browser; see CONTRIBUTING.md."""

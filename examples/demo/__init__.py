"""The demo behind ``make demo`` and ``make demo-browser``.

``python -m examples.demo`` starts a server process and a client process;
``python -m examples.demo.browser`` serves a page that shows the same in a browser.
"""

"""Step 6: the same application with a real certificate, on the port of HTTPS.

POLL_SECRET=… python step6.py
"""

import os

from step5 import app

if __name__ == "__main__":
    app.run(
        host=os.environ.get("POLL_HOST", "::"),
        port=int(os.environ.get("POLL_PORT", "443")),
        certfile=os.environ.get("POLL_CERTFILE", "/etc/letsencrypt/live/poll/fullchain.pem"),
        keyfile=os.environ.get("POLL_KEYFILE", "/etc/letsencrypt/live/poll/privkey.pem"),
        allowed_origins=os.environ.get("POLL_ORIGINS", "https://poll.example.org").split(),
        max_sessions=5_000,
    )

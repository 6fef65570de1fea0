"""The application of the image, the manifest and the units beside it: an echo on /echo."""

from pywebtransport import ServerApp
from pywebtransport.server import echo_handler

app = ServerApp()
app.route("/echo")(echo_handler)

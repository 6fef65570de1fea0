import tempfile

from pywebtransport.utils import certificate_hash, generate_self_signed_cert

with tempfile.TemporaryDirectory() as directory:
    certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=directory)
    print(len(certificate_hash(certfile)))  # -> 32

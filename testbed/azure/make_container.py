"""Makes a container in a store of Azure's emulator, signed as Azure's documentation of the Blob
service says ("Authorize with Shared Key"). The account and its key are those of every emulator.

usage: make_container.py PORT NAME
"""

import base64
import hashlib
import hmac
import sys
import urllib.request
from email.utils import formatdate

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

port, name = sys.argv[1:]
headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
lines = "".join(f"{header}:{value}\n" for header, value in headers.items())
# The verb, eleven headers that are not sent, those that are, and what is asked for.
text = "PUT" + 12 * "\n" + f"{lines}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
signature = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
headers["Content-Length"] = "0"
url = f"http://127.0.0.1:{port}/{ACCOUNT}/{name}?restype=container"
urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=30)

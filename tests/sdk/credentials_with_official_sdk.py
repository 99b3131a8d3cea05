"""Says which key the official package finds: its id and the provider's name, or the word "none".

Whatever it asks over the network goes to the stand-in that the first argument names.
"""

import logging
import sys
from urllib.parse import urlsplit, urlunsplit

logging.disable(logging.CRITICAL)

from Tea.core import TeaCore  # noqa: E402

stand_in = sys.argv[1]
compose_url = TeaCore.compose_url


def redirected(request):
    url = urlsplit(compose_url(request))
    return urlunsplit(("http", stand_in, url.path, url.query, ""))


TeaCore.compose_url = staticmethod(redirected)

from alibabacloud_credentials.provider import DefaultCredentialsProvider  # noqa: E402

try:
    found = DefaultCredentialsProvider().get_credentials()
    print(found.get_access_key_id(), found.get_provider_name())
except Exception:
    print("none")

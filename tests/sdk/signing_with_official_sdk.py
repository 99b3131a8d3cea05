"""Signs what it reads with the official SDK's own function: a JSON object a line on stdin, its Authorization a line on stdout."""

import json
import sys

from alibabacloud_tea_openapi.utils import Utils
from darabonba.request import DaraRequest

for line in sys.stdin:
    case = json.loads(line)
    request = DaraRequest()
    request.method = case["method"]
    request.pathname = "/"
    request.query = case["query"]
    request.headers = case["headers"]
    print(Utils.get_authorization(request, "ACS3-HMAC-SHA256", case["body_sha256"], case["key_id"], case["secret"]))

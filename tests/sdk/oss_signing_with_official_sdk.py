"""Signs what it reads with the official OSS SDK's own signer: a JSON object a line on stdin, the same with its signature on
stdout. Made tests/vectors/oss_vectors.jsonl, which it can read again."""

import datetime
import json
import sys
from urllib.parse import quote, urlencode

from alibabacloud_oss_v2.credentials import Credentials
from alibabacloud_oss_v2.signer.v4 import SignerV4
from alibabacloud_oss_v2.types import HttpRequest, SigningContext

for line in sys.stdin:
    case = json.loads(line)
    # As the SDK's client builds its URL.
    url = f"https://{case['bucket']}.oss-{case['region']}.aliyuncs.com/{quote(case['key'] or '')}"
    if case["query"]:
        url += "?" + urlencode(case["query"], quote_via=quote)
    at = datetime.datetime.strptime(case["at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    context = SigningContext(
        product="oss",
        region=case["region"],
        bucket=case["bucket"],
        key=case["key"],
        request=HttpRequest(case["method"], url, {}),
        credentials=Credentials(case["key_id"], case["secret"], case["token"]),
        signing_time=at,
    )
    if case["expires"] is None:
        SignerV4().sign(context)
        case["authorization"] = context.request.headers["Authorization"]
    else:
        context.auth_method_query = True
        context.expiration_time = at + datetime.timedelta(seconds=case["expires"])
        SignerV4().sign(context)
        case["url"] = context.request.url
    print(json.dumps(case, ensure_ascii=False), flush=True)

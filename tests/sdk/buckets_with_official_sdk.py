"""Reads, writes and lists a bucket of the sandbox with Alibaba Cloud's own OSS SDK.

usage: buckets_with_official_sdk.py ENDPOINT ACCESS_KEY_ID ACCESS_KEY_SECRET BUCKET STYLE [TOKEN]

STYLE is path, or host for a bucket in the Host header. Prints every mismatch and last 'N passed, M failed'.
"""

import hashlib
import os
import socket
import sys
import urllib.error
import urllib.request

for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
    os.environ.pop(proxy, None)
    os.environ.pop(proxy.lower(), None)

import alibabacloud_oss_v2 as oss
from urllib.parse import urlsplit

endpoint, key_id, secret, bucket, style = sys.argv[1:6]
token = sys.argv[6] if len(sys.argv) > 6 else None
KEYS = ["a/1.jpg", "a/2 b+c%25.jpg", "a/张三.jpg", "a/x/y//z.jpg", "b&c=d?e#f.jpg", "~!*'().jpg"]

passed = failed = 0


def check(what, found, wanted):
    global passed, failed
    if found == wanted:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {what}: {found!r}, and not {wanted!r}")


def refusal(call):
    try:
        call()
    except oss.exceptions.OperationError as error:
        inner = error.unwrap()
        return (inner.status_code, inner.code)
    return None


def client(secret=secret):
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(key_id, secret, token)
    config.region = "cn-hangzhou"
    config.retry_max_attempts = 1
    if style == "path":
        config.endpoint = endpoint
    else:
        # The bucket's host leads nowhere: resolve it to the sandbox.
        port = urlsplit(endpoint).port
        resolve = socket.getaddrinfo
        socket.getaddrinfo = lambda host, *rest, **more: resolve("127.0.0.1", *rest, **more)
        config.endpoint = f"http://oss-sandbox.invalid:{port}"
    return oss.Client(config)


store = client()
for number, key in enumerate(KEYS):
    body = f"photo {number}".encode()
    put = store.put_object(oss.PutObjectRequest(bucket=bucket, key=key, body=body))
    etag = f'"{hashlib.md5(body).hexdigest().upper()}"'
    check(f"put {key}", put.etag, etag)
    got = store.get_object(oss.GetObjectRequest(bucket=bucket, key=key))
    check(f"get {key}", (got.body.content, got.etag, got.content_length), (body, etag, len(body)))
    head = store.head_object(oss.HeadObjectRequest(bucket=bucket, key=key))
    check(f"head {key}", (head.etag, head.content_length), (etag, len(body)))
    link = store.presign(oss.GetObjectRequest(bucket=bucket, key=key))
    with urllib.request.urlopen(link.url) as answer:
        check(f"link to {key}", answer.read(), body)

paginator = store.list_objects_v2_paginator()
pages = list(paginator.iter_page(oss.ListObjectsV2Request(bucket=bucket, max_keys=2, encoding_type="url")))
listed = [entry for page in pages for entry in page.contents or []]
check("list", [entry.key for entry in listed], sorted(KEYS))
check("sizes", {entry.size for entry in listed}, {7})
check("pages", len(pages), 3)
under = store.list_objects_v2(oss.ListObjectsV2Request(bucket=bucket, prefix="a/", delimiter="/", encoding_type="url"))
check("keys under a prefix", [entry.key for entry in under.contents], ["a/1.jpg", "a/2 b+c%25.jpg", "a/张三.jpg"])
check("groups", [group.prefix for group in under.common_prefixes], ["a/x/"])
after = store.list_objects_v2(oss.ListObjectsV2Request(bucket=bucket, start_after="a/张三.jpg"))
check("keys behind another", [entry.key for entry in after.contents], ["b&c=d?e#f.jpg", "~!*'().jpg"])

missing = oss.GetObjectRequest(bucket=bucket, key="nobody.jpg")
check("missing object", refusal(lambda: store.get_object(missing)), (404, "NoSuchKey"))
if style == "path":
    other = oss.ListObjectsV2Request(bucket="other-bucket")
    check("missing bucket", refusal(lambda: store.list_objects_v2(other)), (404, "NoSuchBucket"))
wrong = client(secret="wrong")
check("wrong secret", refusal(lambda: wrong.get_object(missing)), (403, "SignatureDoesNotMatch"))
too_many = oss.ListObjectsV2Request(bucket=bucket, max_keys=1001)
check("too many keys", refusal(lambda: store.list_objects_v2(too_many)), (400, "InvalidArgument"))

print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)

"""Drives the sandbox with Alibaba Cloud's own Python SDK, which shares no line with this project.

usage: sandbox_with_official_sdk.py ENDPOINT ACCESS_KEY_ID ACCESS_KEY_SECRET GROUP PHOTO
       (or SANDBOX_ENDPOINT, SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET, SANDBOX_GROUP, SANDBOX_PHOTO)

Needs alibabacloud_cloudauth_intl20220809. Deletes what it has made. Prints every mismatch and last
'N passed, M failed'; the exit code is 1 if anything failed, 2 if it could not be run.
"""

import base64
import calendar
import json
import os
import socket
import sys
import time

# The SDK honours a proxy of the environment even for loopback.
for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
    os.environ.pop(proxy, None)
    os.environ.pop(proxy.lower(), None)

try:
    from alibabacloud_cloudauth_intl20220809 import models
    from alibabacloud_cloudauth_intl20220809.client import Client
    from alibabacloud_tea_openapi.models import Config
    from darabonba.core import DaraCore
    from darabonba.runtime import RuntimeOptions
except ImportError as error:
    sys.exit(f"the official SDK is missing: {error}")

NAMES = ("ENDPOINT", "ACCESS_KEY_ID", "ACCESS_KEY_SECRET", "GROUP", "PHOTO")
# Spaces, signs that forms and queries treat differently, several scripts, and the longest id that there may be.
USERS = ["plain-1", "张 三", "a+b/c=d", "100% & *~!'()", "José  Ñandú", "é" * 32]

passed = failed = 0


def check(what, found, wanted):
    """One expectation."""
    global passed, failed
    if found == wanted:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {what}: {found!r}, and not {wanted!r}")


def refusal(call):
    """The code with which a call is refused, or None."""
    try:
        call()
    except Exception as error:  # the SDK has several kinds, and all carry the code
        return getattr(error, "code", None) or repr(error)
    return None


def keep_to_loopback(port):
    """The SDK sends files to https://<bucket>.<endpoint>/, whatever it is configured for; here they go to the sandbox."""
    resolve, act = socket.getaddrinfo, DaraCore.do_action

    def to_loopback(host, *rest, **named):
        return resolve("127.0.0.1" if str(host).endswith(".invalid") else host, *rest, **named)

    def plainly(request, *rest, **named):
        if request.headers["host"].endswith(".invalid"):
            request.protocol, request.port = "http", port
        return act(request, *rest, **named)

    socket.getaddrinfo, DaraCore.do_action = to_loopback, plainly


def arguments():
    given = sys.argv[1:] or [os.environ.get(f"SANDBOX_{name}", "") for name in NAMES]
    if len(given) != len(NAMES) or not all(given):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    return given


def main():
    endpoint, key, secret, group, photo = arguments()

    def client(secret):
        host = endpoint.removeprefix("http://")
        return Client(Config(access_key_id=key, access_key_secret=secret, endpoint=host, protocol="http"))

    def add(to, user, **changes):
        fields = {
            "product_code": "FACE_ENROLL",
            "face_group_code": group,
            "merchant_user_id": user,
            "face_picture": picture,
        }
        return to.add_face_record(models.AddFaceRecordRequest(**{**fields, **changes}))

    def find(user=None, page=1, size=10):
        request = models.QueryFaceRecordRequest(
            face_group_code=group, merchant_user_id=user, current_page=page, page_size=size
        )
        return sandbox.query_face_record(request).body

    with open(photo, "rb") as file:
        picture = base64.b64encode(file.read()).decode()
    sandbox = client(secret)

    # The group is there, and another is not.
    def groups(code):
        request = models.QueryFaceGroupRequest(group_code=code, current_page=1, page_size=10)
        return sandbox.query_face_group(request).body

    check("the group's code", [item.code for item in groups(group).items], [group])
    check("groups of an unknown code", groups("no-such-group").total_count, 0)

    # Every id comes back from the query as it went into the form.
    before = find().total_count
    ids = []
    started = int(time.time())
    for user in USERS:
        answer = add(sandbox, user)
        check(f"status of {user!r}", answer.status_code, 200)
        check(f"code of {user!r}", answer.body.code, "Success")
        check(f"passed of {user!r}", answer.body.result.passed, "Y")
        check(f"quality of {user!r}", json.loads(answer.body.result.ext_face_info), {"faceQuality": "HIGH"})
        found = find(user)
        check(f"records of {user!r}", found.total_count, 1)
        item = found.items[0]
        check(f"id of {user!r}", item.merchant_user_id, user)
        check(f"kind of {user!r}", item.registration_type, "MANUAL")
        check(f"number of {user!r} is an integer", type(item.id), int)
        made = time.strptime(item.gmt_create, "%Y-%m-%dT%H:%M:%SZ")
        check(f"{user!r} was made now", abs(calendar.timegm(made) - started) < 60, True)
        ids.append(item.id)
    # The reserved parameter goes into the form; the sandbox's journal shows it.
    for value in ("Y", "N"):
        answer = add(sandbox, f"quality-{value}", face_quality_check=value)
        check(f"code with a quality check of {value}", answer.body.code, "Success")
        found = find(f"quality-{value}")
        sandbox.delete_face_record(models.DeleteFaceRecordRequest(id=str(found.items[0].id)))
    check("an id that nobody has", find("nobody").total_count, 0)

    # A file: leave to upload, the upload, and then its address.
    keep_to_loopback(int(endpoint.rsplit(":", 1)[1]))
    sandbox._open_platform_endpoint = endpoint.removeprefix("http://")
    with open(photo, "rb") as file:
        request = models.AddFaceRecordAdvanceRequest(
            product_code="FACE_ENROLL", face_group_code=group, merchant_user_id="by-file", face_picture_file_object=file
        )
        answer = sandbox.add_face_record_advance(request, RuntimeOptions())
    check("code of a file", (answer.status_code, answer.body.code, answer.body.result.passed), (200, "Success", "Y"))
    found = find("by-file")
    check("records of a file", found.total_count, 1)
    sandbox.delete_face_record(models.DeleteFaceRecordRequest(id=str(found.items[0].id)))

    # Paging.
    check("all records", find().total_count, before + len(USERS))
    pages = [item.id for page in range(1, 100) for item in find(page=page, size=4).items]
    check("records on all pages", sorted(set(pages) & set(ids)), sorted(ids))
    check("each once", len(pages), before + len(USERS))

    # Refusals.
    check("a wrong secret", refusal(lambda: add(client("wrong"), "u")), "SignatureDoesNotMatch")
    check("a long id", refusal(lambda: add(sandbox, "x" * 33)), "InvalidParameter")
    check("an unknown group", refusal(lambda: add(sandbox, "u", face_group_code="no-such-group")), "InvalidParameter")
    check("no picture", refusal(lambda: add(sandbox, "u", face_picture=None)), "MissingParameter")
    check("two pictures", refusal(lambda: add(sandbox, "u", face_picture_url="http://a.example/b")), "DataDuplication")
    check("a bad quality check", refusal(lambda: add(sandbox, "u", face_quality_check="yes")), "InvalidParameter")
    check("not a JPEG", refusal(lambda: add(sandbox, "u", face_picture="aGVsbG8=")), "UnqualifiedPhoto")
    check("nothing was made of them", find().total_count, before + len(USERS))

    # Deletion, the last by its user.
    for number in ids[:-1]:
        deleted = sandbox.delete_face_record(models.DeleteFaceRecordRequest(id=str(number)))
        check(f"deletions of {number}", deleted.body.data, 1)
    request = models.DeleteFaceRecordV2Request(merchant_user_id=USERS[-1], face_group_code=group)
    result = sandbox.delete_face_record_v2(request).body.result
    check("deletion of a user", (result.deleted, result.deleted_group_codes), ("Y", group))
    check("records that are left", find().total_count, before)

    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

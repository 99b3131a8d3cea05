"""Enrols with the official Python SDK, as documented, in a thread pool.

usage: sdk.py HOST:PORT FOLDER PHOTOS THREADS KEY SECRET GROUP
"""

import base64
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from alibabacloud_cloudauth_intl20220809 import models
from alibabacloud_cloudauth_intl20220809.client import Client
from alibabacloud_tea_openapi.models import Config

host, folder, photos, threads, key, secret, group = sys.argv[1:]
client = Client(Config(access_key_id=key, access_key_secret=secret, endpoint=host, protocol="http"))


def enrol(n):
    with open(os.path.join(folder, f"{n:06}.jpg"), "rb") as file:
        picture = base64.b64encode(file.read()).decode()
    request = models.AddFaceRecordRequest(
        product_code="FACE_ENROLL", face_group_code=group, merchant_user_id=f"{n:06}", face_picture=picture
    )
    return client.add_face_record(request).body.result.passed


with ThreadPoolExecutor(int(threads)) as pool:
    assert all(passed == "Y" for passed in pool.map(enrol, range(int(photos))))

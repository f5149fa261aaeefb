"""Puts objects while the platform is killed again and again, each under a name of its own and only once.

Writes the name of every put that was acknowledged, and of every object that is there at the end behind `there`.
Ends when its standard input does.
"""

import sys
import threading
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BUCKET = "incoming"
WRITERS = 3

config = Config(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=5)
client = boto3.client("s3", region_name="us-east-1", config=config)
is_over = threading.Event()
told = threading.Lock()


def write(writer):
    number = 0
    while not is_over.is_set():
        number += 1
        key = f"jpg/{writer}-{number}.jpg"
        try:
            client.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
        except (BotoCoreError, ClientError):
            # What became of it is not known, so it is not sent again.
            time.sleep(0.02)
            continue
        with told:
            print("put", key, flush=True)


writers = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
for writer in writers:
    writer.start()
sys.stdin.read()
is_over.set()
for writer in writers:
    writer.join()
for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
    for entry in page.get("Contents", []):
        print("there", entry["Key"])

"""What boto3 does with buckets, against the endpoint in the usual variables. Fails where an answer is not S3's."""

import hashlib
import io
import os
import threading
import urllib.error
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

client = boto3.client("s3", region_name="us-east-1", config=Config(retries={"max_attempts": 1}))
BUCKET = "client-test"


def code(call, **arguments):
    """The error code of a call that must fail."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError(f"{call.__name__} {arguments} did not fail")


def keys(page):
    return [entry["Key"] for entry in page.get("Contents", [])]


def buckets():
    client.create_bucket(Bucket=BUCKET)
    assert BUCKET in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
    client.head_bucket(Bucket=BUCKET)
    assert code(client.head_bucket, Bucket="not-there") == "404"
    assert code(client.put_object, Bucket="not-there", Key="k", Body=b"") == "NoSuchBucket"
    assert code(client.delete_bucket, Bucket="not-there") == "NoSuchBucket"


def objects():
    body = b"\x00binary\xff" * 1000
    put = client.put_object(
        Bucket=BUCKET, Key="a b/ü+%.bin", Body=body, ContentType="image/png", CacheControl="no-store",
        Metadata={"owner": "Ada", "mixed": "a b"},
    )
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = client.get_object(Bucket=BUCKET, Key="a b/ü+%.bin")
    assert got["Body"].read() == body
    assert (got["ContentType"], got["CacheControl"]) == ("image/png", "no-store")
    assert got["Metadata"] == {"owner": "Ada", "mixed": "a b"}, got["Metadata"]
    head = client.head_object(Bucket=BUCKET, Key="a b/ü+%.bin")
    assert head["ContentLength"] == len(body) and head["ETag"] == put["ETag"]
    assert code(client.get_object, Bucket=BUCKET, Key="absent") == "NoSuchKey"
    assert code(client.head_object, Bucket=BUCKET, Key="absent") == "404"
    client.put_object(Bucket=BUCKET, Key="empty", Body=b"")
    assert client.get_object(Bucket=BUCKET, Key="empty")["Body"].read() == b""
    client.put_object(Bucket=BUCKET, Key="k" * 1024, Body=b"long")
    assert client.get_object(Bucket=BUCKET, Key="k" * 1024)["Body"].read() == b"long"
    assert code(client.put_object, Bucket=BUCKET, Key="k" * 1025, Body=b"") == "KeyTooLongError"
    assert code(client.put_object, Bucket=BUCKET, Key="m", Body=b"", Metadata={"a": "x" * 3000}) == "MetadataTooLarge"
    assert code(client.put_object, Bucket=BUCKET, Key="t", Body=b"", Tagging="a=b") == "NotImplemented"


def ranges_and_conditions():
    etag = client.put_object(Bucket=BUCKET, Key="digits", Body=b"0123456789")["ETag"]

    def part(range_):
        got = client.get_object(Bucket=BUCKET, Key="digits", Range=range_)
        return got["Body"].read(), got["ContentRange"], got["ResponseMetadata"]["HTTPStatusCode"]

    assert part("bytes=2-4") == (b"234", "bytes 2-4/10", 206)
    assert part("bytes=8-99") == (b"89", "bytes 8-9/10", 206)
    assert part("bytes=-3") == (b"789", "bytes 7-9/10", 206)
    get = client.get_object
    assert code(get, Bucket=BUCKET, Key="digits", Range="bytes=10-") == "InvalidRange"
    assert code(get, Bucket=BUCKET, Key="digits", IfMatch='"other"') == "PreconditionFailed"
    assert code(get, Bucket=BUCKET, Key="digits", IfNoneMatch=etag) == "304"
    modified = client.head_object(Bucket=BUCKET, Key="digits")["LastModified"]
    assert code(get, Bucket=BUCKET, Key="digits", IfModifiedSince=modified) == "304"
    assert get(Bucket=BUCKET, Key="digits", IfUnmodifiedSince=modified, IfMatch=etag)["Body"].read() == b"0123456789"
    put = client.put_object
    assert code(put, Bucket=BUCKET, Key="digits", Body=b"", IfNoneMatch="*") == "PreconditionFailed"
    assert code(put, Bucket=BUCKET, Key="digits", Body=b"", IfMatch='"other"') == "PreconditionFailed"
    assert code(put, Bucket=BUCKET, Key="absent", Body=b"", IfMatch=etag) == "NoSuchKey"
    put(Bucket=BUCKET, Key="digits", Body=b"new", IfMatch=etag)
    assert code(put, Bucket=BUCKET, Key="sum", Body=b"x", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==") == "BadDigest"
    assert code(put, Bucket=BUCKET, Key="sum", Body=b"x", ChecksumCRC32="AAAAAA==") == "BadDigest"
    put(Bucket=BUCKET, Key="sum", Body=b"x", ChecksumAlgorithm="SHA256")


def listings():
    names = sorted(["x/1", "x/2", "x/y/3", "x.y", "x-", "x0", "x", "z/\u00fc"] + [f"many/{n:04}" for n in range(25)])
    for name in names:
        client.put_object(Bucket=BUCKET, Key=f"list/{name}", Body=name.encode())
    paginator = client.get_paginator("list_objects_v2")
    for page_size in (1, 2, 7, 1000):
        pages = paginator.paginate(Bucket=BUCKET, Prefix="list/", PaginationConfig={"PageSize": page_size})
        found = [key for page in pages for key in keys(page)]
        assert found == [f"list/{name}" for name in names], (page_size, found)
        grouped = {"keys": [], "prefixes": []}
        for page in paginator.paginate(
            Bucket=BUCKET, Prefix="list/", Delimiter="/", PaginationConfig={"PageSize": page_size}
        ):
            grouped["keys"] += keys(page)
            grouped["prefixes"] += [prefix["Prefix"] for prefix in page.get("CommonPrefixes", [])]
        assert grouped["prefixes"] == ["list/many/", "list/x/", "list/z/"], (page_size, grouped)
        assert grouped["keys"] == [f"list/{name}" for name in ("x", "x-", "x.y", "x0")], (page_size, grouped)
    page = client.list_objects_v2(Bucket=BUCKET, Prefix="list/x", StartAfter="list/x/1")
    assert keys(page) == ["list/x/2", "list/x/y/3", "list/x0"], keys(page)
    assert client.list_objects_v2(Bucket=BUCKET, Prefix="nothing")["KeyCount"] == 0
    first = client.list_objects(Bucket=BUCKET, Prefix="list/many/", MaxKeys=10)
    rest = client.list_objects(Bucket=BUCKET, Prefix="list/many/", Marker=keys(first)[-1])
    assert len(keys(first)) == 10 and len(keys(rest)) == 15 and first["IsTruncated"]
    assert code(client.list_objects_v2, Bucket=BUCKET, ContinuationToken="zz") == "InvalidArgument"


def copies():
    client.put_object(Bucket=BUCKET, Key="from", Body=b"content", Metadata={"a": "1"}, ContentType="text/x")
    source = {"Bucket": BUCKET, "Key": "from"}
    client.copy_object(Bucket=BUCKET, Key="to ü", CopySource=source)
    copied = client.get_object(Bucket=BUCKET, Key="to ü")
    assert (copied["Body"].read(), copied["Metadata"], copied["ContentType"]) == (b"content", {"a": "1"}, "text/x")
    client.copy_object(Bucket=BUCKET, Key="from", CopySource=source, MetadataDirective="REPLACE", Metadata={"b": "2"})
    assert client.head_object(Bucket=BUCKET, Key="from")["Metadata"] == {"b": "2"}
    assert client.get_object(Bucket=BUCKET, Key="from")["Body"].read() == b"content"
    assert code(client.copy_object, Bucket=BUCKET, Key="from", CopySource=source) == "InvalidRequest"
    assert code(client.copy_object, Bucket=BUCKET, Key="x", CopySource={"Bucket": BUCKET, "Key": "no"}) == "NoSuchKey"


def parts():
    megabyte = 1024 * 1024
    body = os.urandom(13 * megabyte)
    config = TransferConfig(multipart_threshold=5 * megabyte, multipart_chunksize=5 * megabyte, max_concurrency=3)
    client.upload_fileobj(io.BytesIO(body), BUCKET, "large", Config=config, ExtraArgs={"ContentType": "x/y"})
    md5s = [hashlib.md5(body[at:at + 5 * megabyte]).digest() for at in range(0, len(body), 5 * megabyte)]
    head = client.head_object(Bucket=BUCKET, Key="large")
    assert head["ETag"] == f'"{hashlib.md5(b"".join(md5s)).hexdigest()}-3"', head["ETag"]
    assert (head["ContentLength"], head["ContentType"]) == (len(body), "x/y")
    into = io.BytesIO()
    client.download_fileobj(BUCKET, "large", into, Config=config)
    assert into.getvalue() == body
    at = 5 * megabyte - 3
    across = client.get_object(Bucket=BUCKET, Key="large", Range=f"bytes={at}-{at + 9}")["Body"].read()
    assert across == body[at:at + 10]
    client.copy({"Bucket": BUCKET, "Key": "large"}, BUCKET, "large copy", Config=config)
    assert client.get_object(Bucket=BUCKET, Key="large copy")["Body"].read() == body

    id_ = client.create_multipart_upload(Bucket=BUCKET, Key="by hand")["UploadId"]
    place = {"Bucket": BUCKET, "Key": "by hand", "UploadId": id_}
    small = [client.upload_part(**place, PartNumber=n, Body=b"small")["ETag"] for n in (1, 2)]
    listed = client.list_parts(**place, MaxParts=1)
    assert [part["PartNumber"] for part in listed["Parts"]] == [1] and listed["IsTruncated"]
    claim = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(small, 1)]
    complete = client.complete_multipart_upload
    assert code(complete, **place, MultipartUpload={"Parts": claim}) == "EntityTooSmall"
    assert code(complete, **place, MultipartUpload={"Parts": claim[::-1]}) == "InvalidPartOrder"
    wrong = [{"PartNumber": 1, "ETag": '"0"'}]
    assert code(complete, **place, MultipartUpload={"Parts": wrong}) == "InvalidPart"
    assert [upload["Key"] for upload in client.list_multipart_uploads(Bucket=BUCKET)["Uploads"]] == ["by hand"]
    assert code(client.delete_bucket, Bucket=BUCKET) == "BucketNotEmpty"
    complete(**place, MultipartUpload={"Parts": claim[1:]})
    assert client.get_object(Bucket=BUCKET, Key="by hand")["Body"].read() == b"small"
    assert code(client.upload_part, **place, PartNumber=1, Body=b"late") == "NoSuchUpload"
    id_ = client.create_multipart_upload(Bucket=BUCKET, Key="given up")["UploadId"]
    place = {"Bucket": BUCKET, "Key": "given up", "UploadId": id_}
    client.upload_part(**place, PartNumber=1, Body=b"x")
    client.abort_multipart_upload(**place)
    assert code(client.abort_multipart_upload, **place) == "NoSuchUpload"
    assert "Uploads" not in client.list_multipart_uploads(Bucket=BUCKET)


def presigned():
    # Without a word, boto3 signs addresses the old way, which covers the content type that urllib adds.
    signer = boto3.client("s3", region_name="us-east-1", config=Config(signature_version="s3v4"))
    url = signer.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "signed ü"}, ExpiresIn=60)
    with urllib.request.urlopen(urllib.request.Request(url, data=b"by url", method="PUT")) as answer:
        assert answer.status == 200
    url = signer.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "signed ü"}, ExpiresIn=60)
    assert urllib.request.urlopen(url).read() == b"by url"
    for wrong in (url[:-1] + ("0" if url[-1] != "0" else "1"), url.split("?")[0]):
        try:
            urllib.request.urlopen(wrong)
            raise AssertionError("an unsigned request was answered")
        except urllib.error.HTTPError as error:
            assert error.code == 403, error.code


def strangers():
    other = boto3.client("s3", region_name="us-east-1", aws_access_key_id="ALULA" + "A" * 15, aws_secret_access_key="x")
    assert code(other.list_buckets) == "InvalidAccessKeyId"
    known = os.environ["AWS_ACCESS_KEY_ID"]
    other = boto3.client("s3", region_name="us-east-1", aws_access_key_id=known, aws_secret_access_key="x")
    assert code(other.list_buckets) == "SignatureDoesNotMatch"


def at_once():
    """Many writers of one key: the last one wins whole, and nobody fails."""
    failed = []

    def write(number):
        try:
            client.put_object(Bucket=BUCKET, Key="contended", Body=bytes([number]) * 1000)
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    [writer.start() for writer in writers]
    [writer.join() for writer in writers]
    assert not failed, failed
    body = client.get_object(Bucket=BUCKET, Key="contended")["Body"].read()
    assert len(body) == 1000 and len(set(body)) == 1


def removal():
    client.delete_object(Bucket=BUCKET, Key="digits")
    client.delete_object(Bucket=BUCKET, Key="digits")
    assert code(client.head_object, Bucket=BUCKET, Key="digits") == "404"
    while True:
        found = keys(client.list_objects_v2(Bucket=BUCKET))
        if not found:
            break
        removed = client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in found]})
        assert len(removed["Deleted"]) == len(found) and "Errors" not in removed, removed
    client.delete_bucket(Bucket=BUCKET)
    assert code(client.head_bucket, Bucket=BUCKET) == "404"


for step in (
    buckets, objects, ranges_and_conditions, listings, copies, parts, presigned, strangers, at_once, removal,
):
    step()
    print(step.__name__, "ok", flush=True)

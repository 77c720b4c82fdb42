"""HTTP requests for objects of S3, Google Cloud Storage and Azure, by GDAL's options."""

from datetime import UTC, datetime

import pytest

from geoxt.pixels.credentials import Credentials
from geoxt.pixels.object_requests import is_object, object_request, sign_request

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
PUBLIC = {"AWS_NO_SIGN_REQUEST": "YES", "GS_NO_SIGN_REQUEST": "YES", "AZURE_NO_SIGN_REQUEST": "YES"}
KEYS = {"GS_ACCESS_KEY_ID": "k", "GS_SECRET_ACCESS_KEY": "s"}
VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AZURE_STORAGE_ACCOUNT")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def request_of(address, **options):
    return object_request(address, Credentials(env=tuple(options.items())), now=NOW)


@pytest.mark.parametrize(
    ("address", "options", "url"),
    [
        ("s3://bucket/a b/c.tif", {}, "https://bucket.s3.us-east-1.amazonaws.com/a%20b/c.tif"),
        ("/vsis3/bucket/c.tif", {"AWS_REGION": "eu-west-1"}, "https://bucket.s3.eu-west-1.amazonaws.com/c.tif"),
        ("s3://a.b/c.tif", {}, "https://s3.us-east-1.amazonaws.com/a.b/c.tif"),
        ("s3://a.b/c.tif", {"AWS_VIRTUAL_HOSTING": "TRUE"}, "https://a.b.s3.us-east-1.amazonaws.com/c.tif"),
        (
            "s3://b/c.tif", {"AWS_S3_ENDPOINT": "h:9", "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "NO"},
            "http://h:9/b/c.tif",
        ),
        ("gs://bucket/é.tif", {}, "https://storage.googleapis.com/bucket/%C3%A9.tif"),
        ("/vsigs/bucket/c.tif", {"CPL_GS_ENDPOINT": "http://h:1/"}, "http://h:1/bucket/c.tif"),
        ("az://box/c.tif", {"AZURE_STORAGE_ACCOUNT": "me"}, "https://me.blob.core.windows.net/box/c.tif"),
        (
            "/vsiaz/box/d/c.tif", {"AZURE_STORAGE_ACCOUNT": "me", "AZURE_STORAGE_SAS_TOKEN": "?sv=1&sig=x"},
            "https://me.blob.core.windows.net/box/d/c.tif?sv=1&sig=x",
        ),
        (
            "az://box/c.tif", {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=me;BlobEndpoint=http://h:1/me"},
            "http://h:1/me/box/c.tif",
        ),
    ],
)  # fmt: skip
def test_urls_of_public_objects(address, options, url):
    assert is_object(address)
    request = request_of(address, **PUBLIC, **options)
    assert request[0] == url
    assert "authorization" not in request[1]


@pytest.mark.parametrize(
    "address", ["https://a.b/c.tif", "/data/c.tif", "s3://bucket", "/vsicurl/https://a/b", "abfs://a/b"]
)
def test_other_addresses_have_no_request(address):
    assert not is_object(address)
    assert request_of(address, **PUBLIC) is None


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("gs://bucket/c.tif", {}),
        ("gs://bucket/c.tif", {"GS_ACCESS_KEY_ID": "k"}),
        ("az://box/c.tif", {"AZURE_STORAGE_ACCOUNT": "me", "AZURE_STORAGE_ACCESS_KEY": "eA=="}),
        ("az://box/c.tif", {}),
    ],
)
def test_logins_of_other_kinds_have_no_request(address, options):
    assert request_of(address, **options) is None


@pytest.mark.parametrize("token", [None, "session"])
@pytest.mark.parametrize("path", ["a/b.tif", "a%20b/%C3%A9.tif"])
def test_signature_is_that_of_botocore(token, path, monkeypatch):
    auth = pytest.importorskip("botocore.auth")
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as Keys

    url = f"https://bucket.s3.eu-west-1.amazonaws.com/{path}"
    headers = {"x-amz-request-payer": "requester"}
    signed = sign_request(url, headers, ("AKID", "secret", token), "eu-west-1", NOW)
    request = AWSRequest("GET", url, headers={**headers, "x-amz-content-sha256": signed["x-amz-content-sha256"]})
    monkeypatch.setattr(auth, "get_current_datetime", lambda **_: NOW.replace(tzinfo=None), raising=False)
    request.context = {"timestamp": signed["x-amz-date"], "payload_signing_enabled": True}
    signer = auth.S3SigV4Auth(Keys("AKID", "secret", token), "s3", "eu-west-1")
    monkeypatch.setattr(signer, "_set_necessary_date_headers", lambda request: None)
    if token:
        request.headers["X-Amz-Security-Token"] = token
    request.headers["X-Amz-Date"] = signed["x-amz-date"]
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    assert signed["authorization"].endswith(f",Signature={signature}")
    names = signer.signed_headers(signer.headers_to_sign(request))
    assert f"SignedHeaders={names}," in signed["authorization"]


def test_keys_of_google_sign_as_those_of_amazon():
    url, headers = request_of("gs://bucket/c.tif", **KEYS)
    assert headers == sign_request(url, {}, ("k", "s", None), "auto", NOW)
    assert "k/20240506/auto/s3/aws4_request" in headers["authorization"]


def test_keys_of_the_environment_sign(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    _, headers = request_of("s3://bucket/c.tif")
    assert headers["x-amz-security-token"] == "t"
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=k/20240506/us-east-1/s3/")


def test_keys_of_a_profile_sign(monkeypatch, tmp_path):
    pytest.importorskip("boto3")
    (tmp_path / "keys").write_text("[default]\naws_access_key_id = k\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    _, headers = request_of("s3://bucket/c.tif")
    assert "Credential=k/20240506/us-east-1/s3/" in headers["authorization"]

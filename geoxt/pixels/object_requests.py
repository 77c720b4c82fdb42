"""HTTP requests for objects of S3, Google Cloud Storage and Azure: addresses and signatures by GDAL's options.

For requests beside GDAL's, which need no library of a cloud and work in forked processes. Objects that need another
login (OAuth of Google, Shared Key of Azure) have none.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from rasterio.session import AWSSession

from geoxt.pixels.credentials import Credentials

_OBJECT = re.compile(r"(?:(s3|gs|az)://|/vsi(s3|gs|az)/)([^/?]+)/([^?]+)")
EMPTY_HASH = hashlib.sha256(b"").hexdigest()
TRUE = frozenset({"YES", "TRUE", "ON", "1"})


def is_object(address: str) -> bool:
    """Return whether an address is that of an object (s3, gs, az)."""
    return _OBJECT.fullmatch(address) is not None


def object_request(
    address: str, credentials: Credentials, *, now: datetime | None = None
) -> tuple[str, dict[str, str]] | None:
    """Return the HTTP URL and the headers of a GET request for an object.

    Parameters
    ----------
    address
        "s3://bucket/key", "gs://bucket/key" or "az://container/key", or its path in GDAL ("/vsis3/bucket/key").
    credentials
        Its GDAL options, enclosing ones and the environment hold the login.
    now
        Time of the signature.

    Returns
    -------
    tuple or None
        `None` for another address, or without a login that this module knows.
    """
    match = _OBJECT.fullmatch(address)
    if match is None:
        return None
    bucket, path = match[3], quote(match[4], safe="/-_.~")
    now = datetime.now(UTC) if now is None else now
    match match[1] or match[2]:
        case "s3":
            return _s3_request(bucket, path, credentials, now)
        case "gs":
            return _gs_request(bucket, path, credentials, now)
        case "az":
            return _az_request(bucket, path, credentials)
        case other:
            raise AssertionError(other)


def _s3_request(bucket: str, path: str, credentials: Credentials, now: datetime) -> tuple[str, dict[str, str]] | None:
    region = credentials.setting("AWS_REGION") or credentials.setting("AWS_DEFAULT_REGION") or "us-east-1"
    endpoint = credentials.setting("AWS_S3_ENDPOINT") or f"s3.{region}.amazonaws.com"
    hosting = credentials.setting("AWS_VIRTUAL_HOSTING")
    in_host = "." not in bucket if hosting is None else hosting.upper() in TRUE
    scheme, _, host = endpoint.rpartition("://")
    scheme = scheme or ("https" if (credentials.setting("AWS_HTTPS") or "YES").upper() in TRUE else "http")
    url = f"{scheme}://{bucket}.{host}/{path}" if in_host else f"{scheme}://{host.rstrip('/')}/{bucket}/{path}"
    payer = credentials.setting("AWS_REQUEST_PAYER")
    headers = {"x-amz-request-payer": payer} if payer else {}
    if (credentials.setting("AWS_NO_SIGN_REQUEST") or "NO").upper() in TRUE:
        return url, headers
    keys = _s3_keys(credentials)
    return None if keys is None else (url, sign_request(url, headers, keys, region, now))


def _s3_keys(credentials: Credentials) -> tuple[str, str, str | None] | None:
    """Return access key, secret and session token of GDAL's options, or of boto3's profiles and roles."""
    key, secret = credentials.setting("AWS_ACCESS_KEY_ID"), credentials.setting("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return key, secret, credentials.setting("AWS_SESSION_TOKEN")
    with suppress(Exception):  # boto3 is absent, or has no credentials
        options = AWSSession(profile_name=credentials.setting("AWS_PROFILE")).get_credential_options()
        return options["AWS_ACCESS_KEY_ID"], options["AWS_SECRET_ACCESS_KEY"], options.get("AWS_SESSION_TOKEN")
    return None


def _gs_request(bucket: str, path: str, credentials: Credentials, now: datetime) -> tuple[str, dict[str, str]] | None:
    endpoint = (credentials.setting("CPL_GS_ENDPOINT") or "https://storage.googleapis.com").rstrip("/")
    url = f"{endpoint}/{bucket}/{path}"
    if (credentials.setting("GS_NO_SIGN_REQUEST") or "NO").upper() in TRUE:
        return url, {}
    key, secret = credentials.setting("GS_ACCESS_KEY_ID"), credentials.setting("GS_SECRET_ACCESS_KEY")
    if not key or not secret:
        return None
    return url, sign_request(url, {}, (key, secret, None), "auto", now)  # Google takes signatures of S3


def _az_request(container: str, path: str, credentials: Credentials) -> tuple[str, dict[str, str]] | None:
    text = credentials.setting("AZURE_STORAGE_CONNECTION_STRING") or ""
    stated = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    account = stated.get("AccountName") or credentials.setting("AZURE_STORAGE_ACCOUNT")
    token = stated.get("SharedAccessSignature") or credentials.setting("AZURE_STORAGE_SAS_TOKEN") or ""
    public = (credentials.setting("AZURE_NO_SIGN_REQUEST") or "NO").upper() in TRUE
    endpoint = stated.get("BlobEndpoint") or (f"https://{account}.blob.core.windows.net" if account else "")
    if not endpoint or not (token or public):
        return None
    url = f"{endpoint.rstrip('/')}/{container}/{path}"
    return (f"{url}?{token.lstrip('?')}" if token else url), {"x-ms-version": "2019-12-12"}


def sign_request(
    url: str, headers: dict[str, str], keys: tuple[str, str, str | None], region: str, now: datetime
) -> dict[str, str]:
    """Return the headers of a GET request without a query, with its signature.

    References
    ----------
    AWS Signature Version 4 (https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html)
    """
    key, secret, token = keys
    time, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {**headers, "x-amz-content-sha256": EMPTY_HASH, "x-amz-date": time}
    if token:
        headers["x-amz-security-token"] = token
    parts = urlsplit(url)
    signed = dict(sorted({**headers, "host": parts.netloc}.items()))
    names = ";".join(signed)
    fields = "".join(f"{name}:{value}\n" for name, value in signed.items())
    request = f"GET\n{parts.path}\n\n{fields}\n{names}\n{EMPTY_HASH}"
    scope = f"{day}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    code = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        code = hmac.digest(code, part.encode(), "sha256")
    signature = hmac.digest(code, text.encode(), "sha256").hex()
    credential = f"Credential={key}/{scope}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 {credential},SignedHeaders={names},Signature={signature}"
    return headers

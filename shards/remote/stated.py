"""The SHA-256 that an S3 store states of an object, so that a set can be checked where it lies without moving its tars.

obstore's look-ups tell size and ETag, not the checksum that S3 keeps beside an object that came with one. So this is
one request of caskit's own: HEAD with `x-amz-checksum-mode: ENABLED`, signed by AWS Signature Version 4 [1] with the
keys of the environment. Keys that only obstore finds (a machine's role, a web identity) are not used for it: then
nothing is stated, and the bytes are read. Google and Azure keep no SHA-256.

[1] https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import base64
import binascii
import datetime
import hashlib
import hmac
import http.client
import os
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from caskit.shards.remote.location import Location
from caskit.shards.remote.patience import TRANSIENT_STATUS, Patience, Transient

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
CHECKSUM = "x-amz-checksum-sha256"
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class Statements:
    """Asks an S3 store what it states.

    Args:
        where: the set's location.
        patience: how long is waited and how often is tried.
    """

    def __init__(self, where: Location, patience: Patience) -> None:
        self._where, self._patience = where, patience
        self._region = _setting("AWS_REGION", "AWS_DEFAULT_REGION") or "us-east-1"
        endpoint = _setting(*ENDPOINTS)
        self._base = urlsplit(endpoint or f"https://s3.{self._region}.amazonaws.com")
        self._keys = os.environ.get("AWS_ACCESS_KEY_ID", ""), os.environ.get("AWS_SECRET_ACCESS_KEY", "")
        self._public = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes", "on")
        virtual = os.environ.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "").lower() in ("1", "true", "yes", "on")
        self.usable = where.scheme == "s3" and not virtual and (self._public or all(self._keys))

    def sha256(self, name: str) -> str | None:
        """Return the SHA-256 of an object as 64 hex digits; None where the store does not state one, or is not asked.

        Raises:
            Unreachable: it did not answer, however often it was asked.
        """
        if not self.usable:
            return None
        what = f"{self._where}/{name}: cannot ask for its checksum"
        return _digest_of(self._patience.call(what, lambda: self._head(name)))

    def _head(self, name: str) -> str:
        """Return the checksum that one answer states, empty if it states none; a redirect is not followed."""
        parts = [self._base.path.strip("/"), self._where.host, self._where.path, name]
        path = quote("/" + "/".join(part for part in parts if part), safe="/-_.~")
        headers = {"host": self._base.netloc, "x-amz-checksum-mode": "ENABLED"}
        if not self._public:
            headers = signed(
                "HEAD", path, headers, keys=self._keys, region=self._region, now=datetime.datetime.now(datetime.UTC)
            )
        secure = self._base.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._base.netloc, timeout=self._patience.timeout_s)
        try:
            connection.request("HEAD", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status in TRANSIENT_STATUS:
                raise Transient(f"the server answered {answer.status}")
            return answer.getheader(CHECKSUM, "") if answer.status == 200 else ""
        except (OSError, http.client.HTTPException) as error:  # without its text, which may repeat the request
            raise Transient("timed out" if isinstance(error, TimeoutError) else "the connection failed") from None
        finally:
            connection.close()


def signed(
    method: str, path: str, headers: Mapping[str, str], *, keys: tuple[str, str], region: str, now: datetime.datetime
) -> dict[str, str]:
    """Return headers with the signature of a request without a body and without a query.

    Args:
        method: of the request.
        path: percent-encoded.
        headers: by lower-case name, `host` among them; all are signed.
        keys: the access key's id and its secret.
        region: of the bucket.
        now: the time, UTC.
    """
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    all_headers = {**headers, "x-amz-content-sha256": _EMPTY_SHA256, "x-amz-date": stamp}
    if token := os.environ.get("AWS_SESSION_TOKEN", ""):
        all_headers["x-amz-security-token"] = token
    names = sorted(all_headers)
    lines = "".join(f"{name}:{all_headers[name].strip()}\n" for name in names)
    request = "\n".join((method, path, "", lines, ";".join(names), _EMPTY_SHA256))
    scope = f"{day}/{region}/s3/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{keys[1]}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"Credential={keys[0]}/{scope},SignedHeaders={';'.join(names)},Signature={signature}"
    return {**all_headers, "authorization": f"AWS4-HMAC-SHA256 {credential}"}


def _digest_of(stated: str) -> str | None:
    """Return the digest in hex; None for what is none of a whole object (parts of an upload give `...-N`)."""
    try:
        digest = base64.b64decode(stated, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest.hex() if len(digest) == hashlib.sha256().digest_size else None


def _setting(*names: str) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")

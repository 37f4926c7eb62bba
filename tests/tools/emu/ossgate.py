#!/usr/bin/env python3
"""ossgate.py PORT UPSTREAM_PORT FOLDER: a contract server for Alibaba OSS on 127.0.0.1, reached as an HTTP proxy, so that clients
use the real host names. Standard library only.

 - <bucket>.s3.oss-<region>.aliyuncs.com, the S3-compatible endpoint: what OSS does not document is refused (a conditional header
   501, x-amz-checksum-* and aws-chunked 400, path addressing 403); the rest goes to a real S3 server behind, which checks SigV4.
 - <bucket>.oss-<region>.aliyuncs.com, the native one: PutObject with OSS4-HMAC-SHA256, the signature recomputed; a date that is a
   quarter of an hour off is refused; x-oss-forbid-overwrite answers 409 FileAlreadyExists. Objects are files of FOLDER, which the
   S3 server behind serves too. Both of Alibaba's SDKs are held to it by alibaba_sdks.py.
 - to 127.0.0.1 itself: GET /_ready, GET /_requests, POST /_clock {"ahead": SECONDS}, POST /_fault {"match": REGEX, "status": 503, "count": 2, "after": true}
   ("after": the request is carried out and its answer lost).
"""
import base64, datetime, hashlib, hmac, http.client, json, os, re, sys, threading, urllib.parse
from http.server import ThreadingHTTPServer

sys.dont_write_bytecode = True  # nothing is left beside the sources
from contract import Contract, Refused  # noqa: E402

KEYS = {"LTAItest": ("testsecret", None), "STS.temporary": ("temporarysecret", "temporarytoken")}
UPSTREAM, FOLDER = int(sys.argv[2]), sys.argv[3]
REQUESTS, FAULTS, LOCK = [], [], threading.Lock()
CLOCK = {"ahead": 0}


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class Handler(Contract):
    def serve(self):
        parts = urllib.parse.urlsplit(self.path)
        self.name = parts.hostname or "127.0.0.1"
        if self.name == "127.0.0.1":
            return self.admin(parts.path)
        with LOCK:
            REQUESTS.append({"method": self.command, "host": self.name, "path": parts.path, "query": parts.query,
                             "headers": {k.lower(): v for k, v in self.headers.items()
                                         if k.lower() not in ("authorization", "x-oss-security-token")}})
            fault = next((f for f in FAULTS if f["count"] > 0 and re.search(f["match"], f"{self.command} {self.path}")), None)
            if fault:
                fault["count"] -= 1
        if fault and not fault.get("after"):
            raise Refused(fault["status"], "ServiceUnavailable")
        match = re.fullmatch(r"([a-z0-9-]+)\.(s3\.)?oss-([a-z0-9-]+?)(-internal)?\.aliyuncs\.com", self.name)
        if not match:
            raise Refused(403, "SecondLevelDomainForbidden", "use virtual-hosted addressing")
        bucket, compatible, region = match.group(1), match.group(2), match.group(3)
        if not os.path.isdir(os.path.join(FOLDER, bucket)):
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist.")
        self.lost = bool(fault)
        if compatible:
            self.forward(parts)
        else:
            self.native(bucket, region, parts)

    def admin(self, path):
        if path == "/_fault":
            with LOCK:
                FAULTS.append({"count": 1, "status": 503, **json.loads(self.body)})
        if path == "/_clock":
            CLOCK.update(json.loads(self.body))
        body = json.dumps(REQUESTS).encode() if path == "/_requests" else b"{}"
        self.answer(200, body, [("Content-Type", "application/json")])

    def forward(self, parts):
        for name in self.headers:
            low = name.lower()
            if low in ("if-none-match", "if-match") and self.command == "PUT":
                raise Refused(501, "NotImplemented", "A header you provided implies functionality that is not implemented.")
            if low.startswith("x-amz-checksum") or "aws-chunked" in (self.headers.get("Content-Encoding") or ""):
                raise Refused(400, "InvalidArgument", low)
        path = parts.path + ("?" + parts.query if parts.query else "")
        behind = http.client.HTTPConnection("127.0.0.1", UPSTREAM, timeout=60)
        behind.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("proxy-connection", "connection"):
                behind.putheader(name, value)
        behind.endheaders(self.body)
        got = behind.getresponse()
        body = got.read()
        if self.lost:
            self.close_connection = True
            return
        keep = [(k, v) for k, v in got.getheaders() if k.lower() not in ("connection", "transfer-encoding", "date", "server")]
        if self.command != "HEAD":
            keep = [(k, v) for k, v in keep if k.lower() != "content-length"]
        self.answer(got.status, body, keep)

    def native(self, bucket, region, parts):
        if self.command != "PUT" or parts.query:
            raise Refused(405, "MethodNotAllowed", "only PutObject is native here")
        self.check_signature(bucket, region, parts)
        for name in self.headers:
            if name.lower().startswith("x-amz-") or name.lower() == "if-none-match":
                raise Refused(400, "InvalidArgument", name)
        file = os.path.join(FOLDER, bucket, urllib.parse.unquote(parts.path).lstrip("/"))
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with LOCK:
            if self.headers.get("x-oss-forbid-overwrite") == "true" and os.path.exists(file):
                raise Refused(409, "FileAlreadyExists", "The object you specified already exists and can not be overwritten.")
            with open(file, "wb") as out:
                out.write(self.body)
        if self.lost:
            self.close_connection = True
            return
        self.answer(200, b"", [("ETag", '"' + hashlib.md5(self.body).hexdigest().upper() + '"')])

    def check_signature(self, bucket, region, parts):
        given = re.fullmatch(r"OSS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/oss/aliyun_v4_request,\s*"
                             r"(?:AdditionalHeaders=([a-z0-9;-]+),\s*)?Signature=([0-9a-f]{64})",
                             self.headers.get("Authorization") or "")
        if not given:
            raise Refused(403, "AccessDenied", "no OSS4 signature")
        key, day, signed_region, additional, signature = given.groups()
        additional = additional or ""
        if key not in KEYS:
            raise Refused(403, "InvalidAccessKeyId")
        secret, token = KEYS[key]
        if token != self.headers.get("x-oss-security-token"):
            raise Refused(403, "InvalidSecurityToken")
        moment = self.headers.get("x-oss-date") or ""
        try:
            at = datetime.datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        except ValueError:
            raise Refused(403, "AccessDenied", "no x-oss-date")
        if abs((datetime.datetime.now(datetime.timezone.utc) - at).total_seconds() + CLOCK["ahead"]) > 900:
            raise Refused(403, "RequestTimeTooSkewed")
        if signed_region != region or day != moment[:8] or self.headers.get("x-oss-content-sha256") != "UNSIGNED-PAYLOAD":
            raise Refused(400, "InvalidArgument", "scope")
        signed = {"content-type", "content-md5", *additional.split(";")}
        names = sorted({k.lower() for k in self.headers if k.lower().startswith("x-oss-") or k.lower() in signed})
        headers = "".join(f"{n}:{(self.headers[n] or '').strip()}\n" for n in names)
        resource = urllib.parse.quote("/" + bucket + urllib.parse.unquote(parts.path), safe="/-_.~")
        canonical = "\n".join([self.command, resource, "", headers, additional, "UNSIGNED-PAYLOAD"])
        text = "\n".join(["OSS4-HMAC-SHA256", moment, f"{day}/{region}/oss/aliyun_v4_request",
                          hashlib.sha256(canonical.encode()).hexdigest()])
        signing = mac(mac(mac(mac(("aliyun_v4" + secret).encode(), day), region), "oss"), "aliyun_v4_request")
        if not hmac.compare_digest(mac(signing, text).hex(), signature):
            raise Refused(403, "SignatureDoesNotMatch")


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()

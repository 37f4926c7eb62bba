#!/usr/bin/env python3
"""gcsfake.py PORT BUCKET PUBLIC_KEY CLIENT_EMAIL: a contract server for the XML API of Google Cloud Storage, which the product
speaks, on 127.0.0.1, in memory. Standard library and openssl only.

 - the self-signed token of a service account is verified (RS256 by openssl, issuer, scope, expiry); anything else is 401
 - the metadata server of a machine or a GKE pod (Metadata-Flavor or 403) gives out tokens, which are believed until they end;
   POST /_life {"told": 3600, "real": 2}: how long, in seconds, the next ones say they live, and do
 - put, get with ranges, head, delete, listing in pages of at most 1,000, uploads in parts (all but the last at least 5 MiB), and a
   list of those that are not finished
 - x-goog-if-generation-match: 0 refuses to overwrite with 412; every answer carries its generation
"""
import base64, hashlib, json, re, subprocess, sys, tempfile, threading, time, urllib.parse as U
from email.utils import formatdate
from http.server import ThreadingHTTPServer
from xml.sax.saxutils import escape

sys.dont_write_bytecode = True  # nothing is left beside the sources
from contract import Contract, Refused  # noqa: E402

BUCKET, PUBLIC, EMAIL = sys.argv[2:5]
OBJECTS, UPLOADS, BEGUN, BELIEVED, LOCK = {}, {}, {}, {}, threading.Lock()
LIFE = {"told": 3600, "real": 3600}


def decode(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def believe(token, at):
    if BELIEVED.get(token, 0) > at:
        return
    if token.startswith("ya29."):
        raise Refused(401, "AuthenticationRequired", "the token has expired or never was one")
    try:
        head, claims, signature = token.split(".")
        said = json.loads(decode(claims))
    except Exception:
        raise Refused(401, "AuthenticationRequired")
    with tempfile.NamedTemporaryFile() as file:
        file.write(decode(signature))
        file.flush()
        checked = subprocess.run(["openssl", "dgst", "-sha256", "-verify", PUBLIC, "-signature", file.name],
                                 input=f"{head}.{claims}".encode(), capture_output=True)
    if checked.returncode != 0 or said.get("iss") != EMAIL or said.get("exp", 0) < time.time() or "cloud-platform" not in said.get("scope", ""):
        raise Refused(401, "AuthenticationRequired")
    BELIEVED[token] = said["exp"]


class Handler(Contract):
    def serve(self):
        path, _, query = self.path.partition("?")
        if path == "/_ready":
            return self.answer(200)
        if path == "/_life":
            LIFE.update(json.loads(self.body))
            return self.answer(200)
        if path == "/computeMetadata/v1/instance/service-accounts/default/token":
            if self.headers.get("Metadata-Flavor") != "Google":
                raise Refused(403, "Forbidden")
            token = f"ya29.{time.time_ns()}"
            BELIEVED[token] = time.time() + LIFE["real"]
            told = {"access_token": token, "expires_in": LIFE["told"], "token_type": "Bearer"}
            return self.answer(200, json.dumps(told).encode(), [("Content-Type", "application/json")])
        query = dict(U.parse_qsl(query, keep_blank_values=True))
        bucket, _, key = path.lstrip("/").partition("/")
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        if scheme != "Bearer":
            raise Refused(401, "AuthenticationRequired")
        believe(token, self.at)
        if U.unquote(bucket) != BUCKET:
            raise Refused(404, "NoSuchBucket")
        with LOCK:
            self.carry_out(U.unquote(key), query)

    def keep(self, key, data):
        if self.headers.get("x-goog-if-generation-match") == "0" and key in OBJECTS:
            raise Refused(412, "PreconditionFailed")
        OBJECTS[key] = (data, time.time_ns(), self.headers.get("x-goog-storage-class"))
        return self.described(key)

    def described(self, key):
        data, generation, storage = OBJECTS[key]
        return [("ETag", '"' + hashlib.md5(data).hexdigest() + '"'), ("x-goog-generation", generation),
                ("Last-Modified", formatdate(generation / 1e9, usegmt=True)), ("x-goog-storage-class", storage or "STANDARD")]

    def carry_out(self, key, query):
        method = self.command
        if not key:
            return self.begun(query) if "uploads" in query else self.list(query)
        if method == "POST" and "uploads" in query:
            upload = f"u{time.time_ns()}"
            UPLOADS[upload] = {}
            BEGUN[upload] = (key, time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()))
            return self.answer(200, f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>".encode())
        if "uploadId" in query:
            parts = UPLOADS.get(query["uploadId"])
            if parts is None:
                raise Refused(404, "NoSuchUpload")
            if method == "PUT":
                parts[int(query["partNumber"])] = self.body
                return self.answer(200, headers=[("ETag", '"' + hashlib.md5(self.body).hexdigest() + '"')])
            del UPLOADS[query["uploadId"]]
            if method == "DELETE":
                return self.answer(204)
            wanted = [int(n) for n in re.findall(r"<PartNumber>(\d+)</PartNumber>", self.body.decode())]
            if wanted != sorted(parts) or any(len(parts[n]) < 5 << 20 for n in wanted[:-1]):
                raise Refused(400, "EntityTooSmall")
            described = self.keep(key, b"".join(parts[n] for n in wanted))
            etag = dict(described)["ETag"]
            return self.answer(200, f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>".encode(), described)
        if method == "PUT":
            return self.answer(200, headers=self.keep(key, self.body))
        if key not in OBJECTS:
            raise Refused(404, "NoSuchKey")
        if method == "DELETE":
            del OBJECTS[key]
            return self.answer(204)
        data, status, headers = OBJECTS[key][0], 200, self.described(key)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted:
            first = int(wanted.group(1))
            last = min(int(wanted.group(2) or len(data) - 1), len(data) - 1)
            if first >= len(data):
                raise Refused(416, "InvalidRange")
            status = 206
            headers.append(("Content-Range", f"bytes {first}-{last}/{len(data)}"))
            data = data[first:last + 1]
        self.answer(status, data, headers + [("Content-Length", len(data))])

    def begun(self, query):
        out = "".join(f"<Upload><Key>{escape(BEGUN[u][0])}</Key><UploadId>{u}</UploadId><Initiated>{BEGUN[u][1]}</Initiated></Upload>"
                      for u in sorted(UPLOADS) if BEGUN[u][0].startswith(query.get("prefix", "")))
        body = f"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{out}</ListMultipartUploadsResult>"
        self.answer(200, body.encode(), [("Content-Type", "application/xml")])

    def list(self, query):
        prefix, after = query.get("prefix", ""), query.get("continuation-token") or query.get("start-after") or ""
        folders, items, last = [], [], None
        for key in sorted(OBJECTS):
            if not key.startswith(prefix) or key <= after:
                continue
            rest = key[len(prefix):]
            folder = prefix + rest.split("/")[0] + "/" if query.get("delimiter") and "/" in rest else None
            if folder and (folder in folders or after.startswith(folder)):
                continue
            if len(items) + len(folders) >= 1000:
                break
            (folders if folder else items).append(folder or key)
            last = key
        else:
            last = None
        out = "".join(f"<Contents><Key>{escape(k)}</Key><Size>{len(OBJECTS[k][0])}</Size><ETag>&quot;e&quot;</ETag><LastModified>"
                      + time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(OBJECTS[k][1] / 1e9)) + "</LastModified></Contents>" for k in items)
        out += "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders)
        if last:
            out += f"<NextContinuationToken>{escape(last)}</NextContinuationToken>"
        self.answer(200, f"<ListBucketResult>{out}</ListBucketResult>".encode(), [("Content-Type", "application/xml")])


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()

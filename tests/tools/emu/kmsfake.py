#!/usr/bin/env python3
"""kmsfake.py PORT [CERT KEY]: contract servers for AWS KMS and Alibaba KMS, for the identities of both clouds and of Azure, on 127.0.0.1.
Standard library only; the cryptography is a toy, the checks are not:

 - AWS: SigV4 recomputed; TrentService.GenerateDataKey and .Decrypt by ARN, encryption context bound, wrong key refused.
 - Alibaba: ACS3-HMAC-SHA256 recomputed, parameters in the query or in a form, a nonce taken once; GenerateDataKey and Decrypt of
   2016-01-20; AssumeRoleWithOIDC (audience, expiry); the ECS metadata server with its token. Alibaba's own SDKs are held to it by
   alibaba_sdks.py.
 - AWS identities: EKS pod identity (/eks, the token in Authorization) and AssumeRoleWithWebIdentity.
 - Azure: the token endpoint of tenant `tenant-1` for a federated credential (client, assertion, scope); the token is the one that
   azurite believes: a JWT whose issuer, audience and time are looked at.
 - POST /_admin {"life": {"told": 3600, "real": 2}} for those tokens |
   {"key": ID, "state": "Disabled"} | {"rotate": ID} | {"fault": {"action": A, "status": 503, "code": C, "count": 2}};
   GET /_ready, GET /_requests (names only, no secrets).
"""
import base64, datetime, hashlib, hmac, json, os, re, ssl, sys, threading, time, urllib.parse as U
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

AWS = {"AKIATEST": ("awssecret", None), "ASIAPOD": ("podsecret", "podtoken"), "ASIAWEB": ("websecret", "webtoken")}
ALI = {"LTAItest": ("testsecret", None), "STS.machine": ("machinesecret", "machinetoken")}
KEYS = {k: {"state": "Enabled", "material": [os.urandom(32)]} for k in ("k1", "k2")}
# A replica in another region has the same material.
REPLICA = {"mrk-replica": "k1"}
FAULTS, REQUESTS, NONCES, LOCK = [], [], set(), threading.Lock()
LIFE = {"told": 3600, "real": 3600}


class Refused(Exception):
    def __init__(self, status, code):
        self.status, self.code = status, code


def stream(material, nonce, length):
    return b"".join(hashlib.sha256(material + nonce + bytes([i])).digest() for i in range(length // 32 + 1))[:length]


def wrap(key, plain, context):
    material, nonce = KEYS[key]["material"][-1], os.urandom(16)
    cipher = bytes(a ^ b for a, b in zip(plain, stream(material, nonce, len(plain))))
    bound = json.dumps(context, sort_keys=True).encode()
    tag = hmac.new(material, nonce + cipher + bound, hashlib.sha256).digest()
    return base64.b64encode(json.dumps([key, nonce.hex(), cipher.hex(), tag.hex()]).encode()).decode()


def unwrap(blob, context):
    try:
        key, nonce, cipher, tag = json.loads(base64.b64decode(blob))
        nonce, cipher, tag = bytes.fromhex(nonce), bytes.fromhex(cipher), bytes.fromhex(tag)
    except Exception:
        raise Refused(400, "InvalidCiphertext")
    bound = json.dumps(context, sort_keys=True).encode()
    for material in KEYS[key]["material"]:
        if hmac.compare_digest(hmac.new(material, nonce + cipher + bound, hashlib.sha256).digest(), tag):
            return key, bytes(a ^ b for a, b in zip(cipher, stream(material, nonce, len(cipher))))
    raise Refused(400, "InvalidCiphertext")


def usable(key, missing, disabled):
    key = REPLICA.get(key, key)
    if key not in KEYS:
        raise missing
    if KEYS[key]["state"] != "Enabled":
        raise disabled
    return key


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, kind="application/json"):
        body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_any(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        target = self.headers.get("x-amz-target") or ""
        action = target.partition(".")[2] or self.headers.get("x-acs-action") or path
        aws = bool(target)
        try:
            if path == "/_ready":
                return self.answer(200, {})
            if path == "/_requests":
                return self.answer(200, REQUESTS)
            if path == "/_admin":
                return self.admin(json.loads(self.body))
            with LOCK:
                REQUESTS.append(action)
                fault = next((f for f in FAULTS if f["count"] > 0 and f["action"] == action), None)
                if fault:
                    fault["count"] -= 1
            if fault:
                raise Refused(fault["status"], fault["code"])
            if aws:
                return self.aws(action)
            if action == "AssumeRoleWithOIDC":
                return self.rrsa()
            if self.headers.get("x-acs-action"):
                return self.alibaba(action)
            self.identity(path)
        except Refused as refused:
            name = {"__type": "com.amazonaws.kms#" + refused.code} if aws else {"Code": refused.code}
            self.answer(refused.status, {**name, "Message": "refused"})

    do_GET = do_POST = do_PUT = handle_any

    def admin(self, wish):
        if "life" in wish:
            LIFE.update(wish["life"])
        with LOCK:
            if "fault" in wish:
                FAULTS.append({"count": 1, **wish["fault"]})
            if "state" in wish:
                KEYS[wish["key"]]["state"] = wish["state"]
            if "rotate" in wish:
                KEYS[wish["rotate"]]["material"].append(os.urandom(32))
        self.answer(200, {})

    # ---- AWS

    def aws(self, action):
        given = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/kms/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})",
                             self.headers.get("Authorization") or "")
        if not given:
            raise Refused(400, "IncompleteSignatureException")
        id, day, region, names, signature = given.groups()
        if id not in AWS:
            raise Refused(400, "UnrecognizedClientException")
        secret, token = AWS[id]
        if token != self.headers.get("x-amz-security-token"):
            raise Refused(400, "UnrecognizedClientException")
        moment = self.headers["x-amz-date"]
        at = datetime.datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        if abs((datetime.datetime.now(datetime.timezone.utc) - at).total_seconds()) > 300 or day != moment[:8]:
            raise Refused(400, "InvalidSignatureException")
        signed = names.split(";")
        if not {"host", "x-amz-date", "x-amz-target"} <= set(signed):
            raise Refused(400, "InvalidSignatureException")
        headers = "".join(f"{n}:{(self.headers.get(n) or '').strip()}\n" for n in signed)
        canonical = "\n".join([self.command, "/", "", headers, names, sha(self.body)])
        text = "\n".join(["AWS4-HMAC-SHA256", moment, f"{day}/{region}/kms/aws4_request", sha(canonical.encode())])
        key = ("AWS4" + secret).encode()
        for part in (day, region, "kms", "aws4_request", text):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        if not hmac.compare_digest(key.hex(), signature):
            raise Refused(400, "InvalidSignatureException")
        wish = json.loads(self.body)
        named = re.fullmatch(r"arn:aws:kms:([a-z0-9-]+):1:key/([\w-]+)", wish.get("KeyId", ""))
        if not named or named.group(1) != region:
            raise Refused(400, "NotFoundException")
        key = usable(named.group(2), Refused(400, "NotFoundException"), Refused(400, "DisabledException"))
        context = wish.get("EncryptionContext", {})
        if action == "GenerateDataKey":
            plain = os.urandom(32 if wish.get("KeySpec") == "AES_256" else 16)
            return self.answer(200, {"KeyId": wish["KeyId"], "Plaintext": base64.b64encode(plain).decode(),
                                     "CiphertextBlob": wrap(key, plain, context)})
        try:
            used, plain = unwrap(wish["CiphertextBlob"], context)
        except Refused:
            raise Refused(400, "InvalidCiphertextException")
        if used != key:
            raise Refused(400, "IncorrectKeyException")
        self.answer(200, {"KeyId": wish["KeyId"], "Plaintext": base64.b64encode(plain).decode()})

    # ---- Alibaba

    def alibaba(self, action):
        given = re.match(r"ACS3-HMAC-SHA256 Credential=([^,]+),\s*SignedHeaders=([^,]+),\s*Signature=(\w+)",
                         self.headers.get("Authorization") or "")
        if not given:
            raise Refused(400, "MissingAuthorization")
        id, names, signature = given.groups()
        if id not in ALI:
            raise Refused(404, "InvalidAccessKeyId.NotFound")
        secret, token = ALI[id]
        if token != self.headers.get("x-acs-security-token"):
            raise Refused(400, "InvalidSecurityToken.Malformed")
        at = datetime.datetime.fromisoformat(self.headers["x-acs-date"].replace("Z", "+00:00"))
        if abs((datetime.datetime.now(datetime.timezone.utc) - at).total_seconds()) > 900:
            raise Refused(400, "InvalidTimeStamp.Expired")
        needed = {"host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-content-sha256", "x-acs-signature-nonce"}
        if sha(self.body) != self.headers.get("x-acs-content-sha256") or not needed <= set(names.split(";")):
            raise Refused(400, "SignatureDoesNotMatch")
        headers = "".join(f"{n}:{(self.headers.get(n) or '').strip()}\n" for n in names.split(";"))
        encoded = lambda text: U.quote(text, safe="-_.~")  # noqa: E731
        query = "&".join(f"{encoded(k)}={encoded(v)}" for k, v in sorted(self.query()))
        canonical = "\n".join([self.command, "/", query, headers, names, sha(self.body)])
        text = "ACS3-HMAC-SHA256\n" + sha(canonical.encode())
        if not hmac.compare_digest(hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest(), signature):
            raise Refused(400, "SignatureDoesNotMatch")
        with LOCK:
            nonce = self.headers["x-acs-signature-nonce"]
            if nonce in NONCES:
                raise Refused(400, "SignatureNonceUsed")
            NONCES.add(nonce)
        wish = self.parameters()
        context = json.loads(wish.get("EncryptionContext") or "{}")
        missing = Refused(404, "Forbidden.KeyNotFound")
        if action == "GenerateDataKey":
            key = usable(wish["KeyId"], missing, Refused(409, "Rejected.Disabled"))
            plain = os.urandom(32)
            return self.answer(200, {"KeyId": key, "Plaintext": base64.b64encode(plain).decode(),
                                     "CiphertextBlob": wrap(key, plain, context)})
        key, plain = unwrap(wish["CiphertextBlob"], context)
        usable(key, missing, Refused(409, "Rejected.Disabled"))
        self.answer(200, {"KeyId": key, "Plaintext": base64.b64encode(plain).decode()})

    def query(self):
        return U.parse_qsl(self.path.partition("?")[2], keep_blank_values=True)

    def parameters(self):
        return dict(self.query() + U.parse_qsl(self.body.decode(), keep_blank_values=True))

    def rrsa(self):
        wish = self.parameters()
        try:
            claims = wish["OIDCToken"].split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        except Exception:
            raise Refused(400, "AuthenticationFail.OIDCToken.Invalid")
        if claims.get("exp", 0) < time.time():
            raise Refused(400, "AuthenticationFail.OIDCToken.Expired")
        if claims.get("aud") != "sts.aliyuncs.com" or not wish["RoleArn"].startswith("acs:ram::"):
            raise Refused(400, "AuthenticationFail.OIDCToken.AudienceNotMatch")
        until = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        ALI["STS.rrsa"] = ("rrsasecret", "rrsatoken")
        self.answer(200, {"Credentials": {"AccessKeyId": "STS.rrsa", "AccessKeySecret": "rrsasecret",
                                          "SecurityToken": "rrsatoken", "Expiration": until}})

    # ---- identities

    def identity(self, path):
        hour = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        if path == "/eks":
            if self.headers.get("Authorization") != "pod-service-account-token":
                raise Refused(401, "AccessDenied")
            return self.answer(200, {"AccessKeyId": "ASIAPOD", "SecretAccessKey": "podsecret", "Token": "podtoken", "Expiration": hour})
        if path == "/latest/api/token" and self.command == "PUT":
            return self.answer(200, "metadata-token", "text/plain")
        if path.startswith("/latest/meta-data/"):
            if self.headers.get("X-aliyun-ecs-metadata-token") != "metadata-token":
                raise Refused(403, "Forbidden")
            what = path.removeprefix("/latest/meta-data/")
            if what == "ram/security-credentials/":
                return self.answer(200, "etcdguardian", "text/plain")
            if what == "ram/security-credentials/etcdguardian":
                return self.answer(200, {"AccessKeyId": "STS.machine", "AccessKeySecret": "machinesecret",
                                         "SecurityToken": "machinetoken", "Expiration": hour, "Code": "Success"})
            if what == "region-id":
                return self.answer(200, "cn-test", "text/plain")
        query = dict(U.parse_qsl(self.path.partition("?")[2] + "&" + self.body.decode()))
        if query.get("Action") == "AssumeRoleWithWebIdentity":
            if query.get("WebIdentityToken") != "pod-web-token" or not query.get("RoleArn", "").startswith("arn:aws:iam::"):
                raise Refused(400, "InvalidIdentityToken")
            return self.answer(200, "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAWEB</AccessKeyId>"
                               f"<SecretAccessKey>websecret</SecretAccessKey><SessionToken>webtoken</SessionToken><Expiration>{hour}</Expiration>"
                               "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>", "text/xml")
        if path == "/tenant-1/oauth2/v2.0/token":
            return self.azure(query)
        raise Refused(404, "NotFound")

    def azure(self, wish):
        expected = {"client_id": "client-1", "client_assertion": "azure-pod-token", "grant_type": "client_credentials",
                    "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                    "scope": "https://storage.azure.com/.default"}
        if any(wish.get(name) != value for name, value in expected.items()):
            raise Refused(401, "invalid_client")
        now = int(time.time())
        claims = {"aud": "https://storage.azure.com", "iss": "https://sts.windows-ppe.net/tenant-1/", "iat": now, "nbf": now,
                  "exp": now + LIFE["real"]}
        part = lambda fields: base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")  # noqa: E731
        token = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}.c2lnbmF0dXJl"
        self.answer(200, {"access_token": token, "expires_in": LIFE["told"], "token_type": "Bearer"})


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()

"""alibaba_sdks.py kms URL | oss PROXY ENDPOINT | identity URL MANIFEST: drives the contract servers of Alibaba Cloud with Alibaba's own
SDKs. The first two print what came of each step as one JSON object: `true` for what went well, the server's status and code for what it
refused. The third has the key service open the key of a backup and prints it as age reads it."""

import base64
import json
import sys
import time
import urllib.request

import alibabacloud_oss_v2 as oss
import oss2
from alibabacloud_kms20160120 import models as kms_models
from alibabacloud_kms20160120.client import Client as Kms
from alibabacloud_sts20150401 import models as sts_models
from alibabacloud_sts20150401.client import Client as Sts
from alibabacloud_tea_openapi.models import Config

OUTCOMES = {}


def kms_config(url, key="LTAItest", secret="testsecret", token=None):
    address = url.removeprefix("http://")
    return Config(access_key_id=key, access_key_secret=secret, security_token=token, endpoint=address, protocol="HTTP", region_id="cn-test")


def step(name):
    """Runs the function at once and notes what came of it: what it returns, or what the server said."""

    def run(work):
        try:
            OUTCOMES[name] = work() is not False
        except oss2.exceptions.ServerError as error:
            OUTCOMES[name] = f"{error.status} {error.code}"
        except oss.exceptions.OperationError as error:
            error = error.unwrap()
            OUTCOMES[name] = f"{error.status_code} {error.code}"
        except Exception as error:  # each package of the other SDK has a class of its own
            status, code = getattr(error, "statusCode", None), getattr(error, "code", None)
            OUTCOMES[name] = f"{status} {code}" if code else repr(error)

    return run


def kms(url):
    def client_as(*keys, **more):
        return Kms(kms_config(url, *keys, **more))

    def tell(wish):
        urllib.request.urlopen(urllib.request.Request(f"{url}/_admin", json.dumps(wish).encode(), method="POST")).read()

    def generate(client=None, key="k1", context=None):
        wish = kms_models.GenerateDataKeyRequest(key_id=key, key_spec="AES_256", encryption_context=context or bound)
        return (client or own).generate_data_key(wish).body

    def decrypt(blob, client=None, context=None):
        wish = kms_models.DecryptRequest(ciphertext_blob=blob, encryption_context=context or bound)
        return (client or own).decrypt(wish).body

    own = client_as()
    # Signs of every kind, which the two sides must encode alike.
    bound = {"etcdguardian-cluster": "a b/+&=~*", "etcdguardian-backup": "é"}
    made = generate()

    @step("a key opens what it wrapped")
    def _():
        opened = decrypt(made.ciphertext_blob)
        return opened.plaintext == made.plaintext and opened.key_id == made.key_id == "k1" and len(base64.b64decode(made.plaintext)) == 32

    step("another context")(lambda: decrypt(made.ciphertext_blob, context={**bound, "etcdguardian-backup": "f"}))
    step("a changed blob")(lambda: decrypt(base64.b64encode(b"x" + base64.b64decode(made.ciphertext_blob)).decode()))
    step("another secret")(lambda: generate(client_as(secret="another")))
    step("an unknown id")(lambda: generate(client_as(key="LTAInobody")))
    step("a token that was never given")(lambda: generate(client_as(token="made-up")))
    step("an unknown key")(lambda: generate(key="k9"))
    tell({"key": "k1", "state": "Disabled"})
    step("a disabled key wraps")(generate)
    step("a disabled key opens")(lambda: decrypt(made.ciphertext_blob))
    tell({"key": "k1", "state": "Enabled"})
    tell({"rotate": "k1"})
    step("a rotated key opens what it wrapped before")(lambda: decrypt(made.ciphertext_blob).plaintext == made.plaintext)
    tell({"fault": {"action": "Decrypt", "status": 503, "code": "ServiceUnavailableTemporary"}})
    step("an ill service")(lambda: decrypt(made.ciphertext_blob))
    step("the same a moment later")(lambda: decrypt(made.ciphertext_blob).plaintext == made.plaintext)

    def assume(audience="sts.aliyuncs.com", life=600):
        claims = json.dumps({"aud": audience, "exp": int(time.time()) + life, "sub": "system:serviceaccount:ns:name"}).encode()
        token = "e30." + base64.urlsafe_b64encode(claims).decode().rstrip("=") + ".c2lnbmF0dXJl"
        wish = sts_models.AssumeRoleWithOIDCRequest(
            oidcprovider_arn="acs:ram::1:oidc-provider/ack", role_arn="acs:ram::1:role/backup", oidctoken=token, role_session_name="s"
        )
        # A pod has no keys when it asks for some.
        return Sts(kms_config(url, None, None)).assume_role_with_oidc(wish).body.credentials

    @step("a pod's token gets keys that the key service takes")
    def _():
        given = assume()
        return bool(generate(client_as(given.access_key_id, given.access_key_secret, given.security_token)).plaintext)

    @step("those keys without their token")
    def _():
        given = assume()
        generate(client_as(given.access_key_id, given.access_key_secret))

    step("a pod's token that ended")(lambda: assume(life=-1))
    step("a pod's token for somebody else")(lambda: assume(audience="sts.amazonaws.com"))


def native(proxy, endpoint):
    """The one native request: an object that may be created and not overwritten, by both SDKs."""
    region, only = "cn-test", {"x-oss-forbid-overwrite": "true", "Content-Type": "application/json"}

    temporary = ("STS.temporary", "temporarysecret", "temporarytoken")

    def first(key="LTAItest", secret="testsecret", token=None, region=region, bucket="backups"):
        auth = oss2.StsAuth(key, secret, token, auth_version=oss2.AUTH_VERSION_4) if token else oss2.AuthV4(key, secret)
        return oss2.Bucket(auth, endpoint, bucket, region=region, proxies={"http": proxy})

    def second(key="LTAItest", secret="testsecret", token=None, also_signed=None):
        config = oss.config.load_default()
        config.credentials_provider = oss.credentials.StaticCredentialsProvider(key, secret, token)
        config.region, config.endpoint, config.proxy_host = region, endpoint, {"http": proxy}
        config.retry_max_attempts = 1
        config.additional_headers = also_signed
        return oss.Client(config)

    def put(client, name):
        return client.put_object(oss.PutObjectRequest(bucket="backups", key=name, body=b"second", forbid_overwrite=True))

    name = "a b/c+ü~*%.json"
    step("oss2 creates")(lambda: first().put_object(name, b"first", headers=only).status == 200)
    step("oss2 overwrites")(lambda: first().put_object(name, b"other", headers=only))
    step("oss2 with another secret")(lambda: first(secret="another").put_object("n1", b"x", headers=only))
    step("oss2 with an unknown id")(lambda: first(key="LTAInobody").put_object("n1", b"x", headers=only))
    step("oss2 with another region")(lambda: first(region="cn-other").put_object("n1", b"x", headers=only))
    step("oss2 with a token")(lambda: first(*temporary).put_object("n2", b"x", headers=only).status == 200)
    step("oss2 with another token")(lambda: first(*temporary[:2], "old").put_object("n3", b"x", headers=only))
    step("oss2 with a bucket that is not there")(lambda: first(bucket="nowhere").put_object("n", b"x", headers=only))
    step("oss-v2 creates")(lambda: put(second(), "second " + name).status_code == 200)
    step("oss-v2 overwrites")(lambda: put(second(), "second " + name))
    step("oss-v2 signs the host too")(lambda: put(second(also_signed=["host"]), "n6").status_code == 200)
    step("oss-v2 with another secret")(lambda: put(second(secret="another"), "n4"))
    step("oss-v2 with a token")(lambda: put(second(*temporary), "n5").status_code == 200)


def identity(url, manifest):
    """The 32 bytes that the service wrapped are an age identity: written in Bech32, age reads them."""
    with open(manifest, encoding="utf-8") as file:
        wrapped = json.load(file)["seal"]["kms"]
    wish = kms_models.DecryptRequest(ciphertext_blob=wrapped["wrapped"], encryption_context=wrapped["context"])
    key = base64.b64decode(Kms(kms_config(url)).decrypt(wish).body.plaintext)
    print(bech32("age-secret-key-", key).upper())


def bech32(name, data):
    """BIP 173."""
    bits = int.from_bytes(data) << 4  # 32 bytes are 51.2 groups of five bits
    groups = [bits >> 5 * place & 31 for place in range(51, -1, -1)]
    spread = [ord(letter) >> 5 for letter in name] + [0] + [ord(letter) & 31 for letter in name]
    check = 1
    for value in spread + groups + [0] * 6:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for place, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> place & 1 else 0
    groups += [(check ^ 1) >> 5 * place & 31 for place in range(5, -1, -1)]
    return name + "1" + "".join("qpzry9x8gf2tvdw0s3jn54khce6mua7l"[group] for group in groups)


{"kms": kms, "oss": native, "identity": identity}[sys.argv[1]](*sys.argv[2:])
if OUTCOMES:
    print(json.dumps(OUTCOMES, ensure_ascii=False, indent=1))

#!/usr/bin/env python3
"""slackfake.py PORT [CERT KEY]: a stand-in for Slack on 127.0.0.1, as strict as Slack is. Standard library only.

Incoming webhook  POST /services/T0/B0/secret: "ok", "invalid_payload", "no_text"; any other path: 404 "no_service".
Web API           auth.test, chat.postMessage, chat.update, files.getUploadURLExternal, files.completeUploadExternal:
                  HTTP 200 with {"ok": false, "error": ...} on mistakes; token xoxb-test; channel C0BACKUP, #etcd-backup.
Limits            50 blocks a message, 3000 characters a block's text, 40000 a message's text.
For tests         GET /_messages, DELETE /_messages, GET /_ready, and
                  POST /_fault {"match": "chat.postMessage", "status": 429, "retry_after": 1, "error": "ratelimited",
                                "count": 2, "delay": 0, "drop": false}
"""

import json
import re
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

TOKEN = "xoxb-test"
CHANNELS = {"C0BACKUP": "#etcd-backup"}
WEBHOOK = "/services/T0/B0/secret"

messages = []
faults = []
files = {}


class Slack(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, value, headers=None):
        """Plain text for a string, JSON for anything else."""
        text = isinstance(value, str)
        body = value.encode() if text else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if text else "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, content in (headers or {}).items():
            self.send_header(name, str(content))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, error):
        """The Web API says no with HTTP 200."""
        self.answer(200, {"ok": False, "error": error})

    def handle_request(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        if path == "/_ready":
            return self.answer(200, "ok")
        if path == "/_messages":
            if self.command == "DELETE":
                messages.clear()
            return self.answer(200, messages)
        if path == "/_fault":
            faults.append(json.loads(body))
            return self.answer(200, "ok")
        if self.fail_on_demand(path):
            return None
        if path.startswith("/services/"):
            return self.webhook(path, body)
        if path.startswith("/upload/"):
            files[path.removeprefix("/upload/")]["data"] = body
            return self.answer(200, f"OK - {len(body)}")
        if path.startswith("/api/"):
            return self.web_api(path.removeprefix("/api/"), query, body)
        return self.answer(404, "not found")

    do_GET = do_POST = do_DELETE = handle_request

    def fail_on_demand(self, path):
        for fault in faults:
            left = fault.get("count", 1)
            if left < 1 or not re.search(fault["match"], path):
                continue
            fault["count"] = left - 1
            time.sleep(fault.get("delay", 0))
            if fault.get("drop"):
                self.close_connection = True
                self.connection.close()
                return True
            headers = {"Retry-After": fault["retry_after"]} if "retry_after" in fault else {}
            error = {"ok": False, "error": fault.get("error", "internal_error")}
            self.answer(fault.get("status", 200), error, headers)
            return True
        return False

    def webhook(self, path, body):
        if path != WEBHOOK:
            return self.answer(404, "no_service")
        form = "urlencoded" in (self.headers.get("Content-Type") or "")
        try:
            payload = json.loads(dict(parse_qsl(body.decode()))["payload"] if form else body)
        except (ValueError, KeyError):
            return self.answer(400, "invalid_payload")
        if not has_content(payload):
            return self.answer(400, "no_text")
        if too_much(payload.get("blocks") or []):
            return self.answer(400, "invalid_blocks")
        messages.append({"via": "webhook", **payload})
        return self.answer(200, "ok")

    def web_api(self, method, query, body):
        if "json" in (self.headers.get("Content-Type") or ""):
            given = json.loads(body or b"{}")
        else:
            given = dict(parse_qsl(body.decode("utf8", "replace"), keep_blank_values=True))
        given.update(parse_qsl(query))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or given.pop("token", None)
        if not token:
            return self.refuse("not_authed")
        if token != TOKEN:
            return self.refuse("invalid_auth")
        if method == "auth.test":
            who = {"team": "T", "user": "bot", "team_id": "T0", "user_id": "U0", "bot_id": "B0"}
            return self.answer(200, {"ok": True, "url": "https://t.slack.com/", **who})
        if method in ("chat.postMessage", "chat.update"):
            return self.post_message(method, given)
        if method == "files.getUploadURLExternal":
            file_id = f"F{len(files)}"
            files[file_id] = {"name": given["filename"], "length": int(given["length"])}
            url = f"{self.server.scheme}://127.0.0.1:{self.server.server_port}/upload/{file_id}"
            return self.answer(200, {"ok": True, "file_id": file_id, "upload_url": url})
        if method == "files.completeUploadExternal":
            done = decoded(given["files"])
            sizes = [{**file, "size": len(files[file["id"]].get("data", b""))} for file in done]
            messages.append({"via": method, "files": sizes})
            return self.answer(200, {"ok": True, "files": done})
        return self.refuse("unknown_method")

    def post_message(self, method, given):
        channel = channel_id(given.get("channel"))
        blocks = decoded(given.get("blocks") or [])
        if not channel:
            return self.refuse("channel_not_found")
        if not has_content(given):
            return self.refuse("no_text")
        if too_much(blocks):
            return self.refuse("invalid_blocks")
        if len(given.get("text") or "") > 40_000:
            return self.refuse("msg_too_long")
        stamp = given["ts"] if method == "chat.update" else f"{int(time.time())}.{len(messages) + 1:06}"
        messages.append({"via": method, "ts": stamp, **given})
        echo = {"text": given.get("text"), "ts": stamp, "thread_ts": given.get("thread_ts")}
        return self.answer(200, {"ok": True, "channel": channel, "ts": stamp, "message": echo})


def decoded(value):
    """Form posts carry lists as JSON text."""
    return json.loads(value) if isinstance(value, str) else value


def channel_id(name):
    if name in CHANNELS:
        return name
    return next((known for known, alias in CHANNELS.items() if alias == name), None)


def has_content(payload):
    return bool(payload.get("text") or payload.get("blocks") or payload.get("attachments"))


def too_much(blocks):
    def text_of(block):
        text = block.get("text")
        return text.get("text", "") if isinstance(text, dict) else ""

    return len(blocks) > 50 or any(len(text_of(block)) > 3000 for block in blocks)


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Slack)
    server.scheme = "http"
    if len(sys.argv) > 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2], sys.argv[3])
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    server.serve_forever()


if __name__ == "__main__":
    main()

"""What the contract servers of object stores share: an error with its code, answers with a length, one way in for every method."""
import time
from http.server import BaseHTTPRequestHandler


class Refused(Exception):
    """The request breaks the contract: what the store answers to that."""

    def __init__(self, status, code, message=""):
        self.status, self.code, self.message = status, code, message or code


class Contract(BaseHTTPRequestHandler):
    """Reads the body, hands the request to `serve`, and answers a refusal as XML."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, str(value))
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self):
        # Who asks is judged by the moment the request came, not by when its body is there.
        self.at = time.time()
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self.serve()
        except Refused as refused:
            body = f"<?xml version=\"1.0\"?><Error><Code>{refused.code}</Code><Message>{refused.message}</Message></Error>"
            self.answer(refused.status, body.encode(), [("Content-Type", "application/xml")])

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

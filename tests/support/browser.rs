//! A headless Chromium that is used as a person would: keys, clicks, a phone's width, dark, print. Spoken to by the DevTools protocol.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{Process, until};

/// How long a page may take to show something.
const PATIENCE: Duration = Duration::from_secs(60);

/// The browser; `make tools` installs one where there is none.
pub fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.is_file())
        .expect("no Chromium on PATH: run `make tools`")
}

/// Where the browser's first page is spoken to. Its server knows no HTTP/1.0.
async fn page_of(port: u16) -> String {
    etcdguardian::init_tls();
    let client = reqwest::Client::builder().no_proxy().build();
    let client = client.expect("a client");
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let asked = client.get(format!("http://127.0.0.1:{port}/json/list"));
        if let Ok(answer) = asked.send().await
            && let Ok(pages) = answer.json::<Value>().await
            && let Some(page) = pages
                .as_array()
                .into_iter()
                .flatten()
                .find(|one| one["type"] == "page")
            && let Some(url) = page["webSocketDebuggerUrl"].as_str()
        {
            return url.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the browser shows no page");
}

/// A page in a browser of its own.
pub struct Page {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    sent: u64,
    _browser: Process,
    _profile: TempDir,
}

impl Page {
    /// Opens a URL in a window of this width.
    pub async fn open(url: &str, width: u32) -> Self {
        let profile = TempDir::new().expect("a profile folder");
        let log = profile.path().join("chromium.log");
        let browser = Process::start(
            "chromium",
            Command::new(chromium())
                .args(["--headless=new", "--no-sandbox", "--disable-gpu"])
                .args(["--disable-dev-shm-usage", "--no-proxy-server", "--lang=en"])
                .arg("--remote-debugging-port=0")
                .arg(format!("--user-data-dir={}", profile.path().display()))
                .arg("about:blank")
                .env("TZ", "UTC")
                .env("LANGUAGE", "en"),
            &log,
        );
        let file = profile.path().join("DevToolsActivePort");
        let port: u16 = until("the browser's port", || {
            std::fs::read_to_string(&file)
                .ok()?
                .lines()
                .next()?
                .parse()
                .ok()
        });
        let target = page_of(port).await;
        let (socket, _) = connect_async(target).await.expect("the browser's socket");
        let mut page = Self {
            socket,
            sent: 0,
            _browser: browser,
            _profile: profile,
        };
        page.resize(width, 900).await;
        page.call("Page.navigate", json!({ "url": url })).await;
        page
    }

    /// Calls a method of the protocol and gives its result.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let id = self.sent;
        let request = json!({ "id": id, "method": method, "params": params });
        let sent = self.socket.send(Message::text(request.to_string())).await;
        sent.expect("the browser listens");
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            let message = next.expect("an answer in time").expect("an answer");
            let Message::Text(text) = message.expect("a message") else {
                continue;
            };
            let answer: Value = serde_json::from_str(&text).expect("JSON");
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// The value of an expression in the page.
    pub async fn eval(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", params).await;
        assert!(
            result["exceptionDetails"].is_null(),
            "{expression}: {result}"
        );
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub async fn wait(&mut self, expression: &str) {
        let start = Instant::now();
        while self.eval(&format!("Boolean({expression})")).await != true {
            assert!(start.elapsed() < PATIENCE, "{expression} never came true");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Presses and lets go of a key, as `Tab`, `Enter` or a letter.
    pub async fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            " " => (32, " "),
            letter => (0, letter),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                params["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", params).await;
        }
    }

    /// Clicks into the middle of the first element that a selector finds.
    pub async fn click(&mut self, selector: &str) {
        let place = self
            .eval(&format!(
                "(() => {{ const one = document.querySelector({selector:?}); one.scrollIntoView({{ block: 'center' }}); \
                 const box = one.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
            ))
            .await;
        for kind in ["mousePressed", "mouseReleased"] {
            let params = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", params).await;
        }
    }

    /// Gives the window another size.
    pub async fn resize(&mut self, width: u32, height: u32) {
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", params)
            .await;
    }

    /// Shows it on `screen` or on paper (`print`), in the colours that the reader prefers.
    pub async fn show(&mut self, media: &str, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let params = json!({ "media": media, "features": features });
        self.call("Emulation.setEmulatedMedia", params).await;
    }

    /// Writes a picture of the whole page.
    pub async fn picture(&mut self, file: &Path) {
        let params = json!({ "format": "png", "captureBeyondViewport": true });
        let result = self.call("Page.captureScreenshot", params).await;
        let data = result["data"].as_str().expect("a picture");
        let bytes = base64::engine::general_purpose::STANDARD.decode(data);
        std::fs::write(file, bytes.expect("base64")).expect("write the picture");
    }
}

//! A collector that takes OTLP over HTTP as its specification says, and nothing else: what is wrong with a request is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Pki;

/// A span that arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// 32 hexadecimal digits.
    pub trace: String,
    /// 16 hexadecimal digits.
    pub id: String,
    /// The span above it; empty for the first one of a trace.
    pub parent: String,
    /// Begin and end, nanoseconds since 1970.
    pub from: u64,
    pub to: u64,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// 0 unset, 1 ok, 2 error.
    pub status: i32,
    /// The status in words.
    pub message: String,
    /// Names of its events.
    pub events: Vec<String>,
    /// Of the process that sent it.
    pub resource: BTreeMap<String, String>,
    /// The headers that it came with.
    pub headers: BTreeMap<String, String>,
}

#[derive(Default)]
struct Inner {
    seen: Mutex<Vec<Seen>>,
    wrong: Mutex<Vec<String>>,
    /// So many requests are still refused with 503.
    refuse: AtomicUsize,
    /// Requests that came.
    asked: AtomicUsize,
}

/// A running collector; it listens until the tests end.
pub struct Collector {
    /// Its base URL.
    pub url: String,
    inner: Arc<Inner>,
}

impl Collector {
    /// One in the clear.
    pub fn start() -> Self {
        Self::serve(None)
    }

    /// One behind TLS, with the serving certificate of `pki`.
    pub fn start_tls(pki: &Pki) -> Self {
        etcdguardian::init_tls();
        let chain = CertificateDer::pem_file_iter(Path::new(&pki.server_cert)).unwrap();
        let key = PrivateKeyDer::from_pem_file(&pki.server_key).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key);
        Self::serve(Some(Arc::new(config.unwrap())))
    }

    fn serve(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Inner::default());
        let shared = Arc::clone(&inner);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let limit = Some(Duration::from_secs(20));
                stream.set_read_timeout(limit).unwrap();
                match &tls {
                    None => shared.answer(stream),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
                        shared.answer(rustls::StreamOwned::<_, TcpStream>::new(session, stream));
                    }
                }
            }
        });
        Self { url, inner }
    }

    /// Refuses the next so many requests as one that is overloaded does.
    pub fn refuse(&self, requests: usize) {
        self.inner.refuse.store(requests, Ordering::SeqCst);
    }

    /// So many requests came.
    pub fn asked(&self) -> usize {
        self.inner.asked.load(Ordering::SeqCst)
    }

    /// Every span so far; fails when a request was not as it must be.
    pub fn spans(&self) -> Vec<Seen> {
        let wrong = self.inner.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:?}");
        self.inner.seen.lock().unwrap().clone()
    }
}

impl Inner {
    fn answer(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        let (status, body) = match request(&mut stream) {
            Ok((headers, body)) => {
                self.asked.fetch_add(1, Ordering::SeqCst);
                let refused = |left: usize| left.checked_sub(1);
                let order = Ordering::SeqCst;
                if self.refuse.fetch_update(order, order, refused).is_ok() {
                    ("503 Service Unavailable", Vec::new())
                } else {
                    match taken(&headers, &body) {
                        Ok(spans) => {
                            self.seen.lock().unwrap().extend(spans);
                            let done = ExportTraceServiceResponse::default();
                            ("200 OK", done.encode_to_vec())
                        }
                        Err(problem) => {
                            self.wrong.lock().unwrap().push(problem);
                            ("400 Bad Request", Vec::new())
                        }
                    }
                }
            }
            // A client that looks whether somebody is there says nothing.
            Err(problem) if problem.is_empty() => return,
            Err(problem) => {
                self.wrong.lock().unwrap().push(problem);
                ("400 Bad Request", Vec::new())
            }
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let stream = stream.get_mut();
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&body);
        let _ = stream.flush();
    }
}

/// The headers, in small letters, and the body of a request that a collector is sent.
fn request(stream: &mut impl BufRead) -> Result<(BTreeMap<String, String>, Vec<u8>), String> {
    let mut line = String::new();
    // Nor does one that does not believe the certificate.
    if stream.read_line(&mut line).is_err() || line.is_empty() {
        return Err(String::new());
    }
    if line.trim_end() != "POST /v1/traces HTTP/1.1" {
        return Err(format!("asked with {line}"));
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length");
    let length: usize = length
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("no length: {headers:?}"))?;
    let mut body = vec![0; length];
    stream
        .read_exact(&mut body)
        .map_err(|error| format!("half a body: {error}"))?;
    Ok((headers, body))
}

fn taken(headers: &BTreeMap<String, String>, body: &[u8]) -> Result<Vec<Seen>, String> {
    let kind = headers.get("content-type").map(String::as_str);
    if kind != Some("application/x-protobuf") {
        return Err(format!("the content is {kind:?}"));
    }
    let request = ExportTraceServiceRequest::decode(body).map_err(|error| error.to_string())?;
    if request.encode_to_vec() != body {
        return Err("it holds what the protocol does not know".to_owned());
    }
    let mut spans = Vec::new();
    for group in request.resource_spans {
        let resource = group.resource.ok_or("spans of no resource")?;
        let resource = attributes(resource.attributes)?;
        if !resource.contains_key("service.name") {
            return Err(format!("no service.name: {resource:?}"));
        }
        for scope in group.scope_spans {
            for span in scope.spans {
                let (trace, id) = (hex::encode(&span.trace_id), hex::encode(&span.span_id));
                let parent = hex::encode(&span.parent_span_id);
                let set = |text: &str, length| text.len() == length && text.contains(|c| c != '0');
                if !set(&trace, 32) || !set(&id, 16) || !(parent.is_empty() || set(&parent, 16)) {
                    return Err(format!("ids {trace}, {id}, {parent}"));
                }
                let (from, to) = (span.start_time_unix_nano, span.end_time_unix_nano);
                if span.name.is_empty() || from == 0 || to < from {
                    return Err(format!("'{}' from {from} to {to}", span.name));
                }
                let status = span.status.unwrap_or_default();
                spans.push(Seen {
                    attributes: attributes(span.attributes)?,
                    name: span.name,
                    trace,
                    id,
                    parent,
                    from,
                    to,
                    status: status.code,
                    message: status.message,
                    events: span.events.into_iter().map(|event| event.name).collect(),
                    resource: resource.clone(),
                    headers: headers.clone(),
                });
            }
        }
    }
    if spans.is_empty() {
        return Err("a request without spans".to_owned());
    }
    Ok(spans)
}

fn attributes(all: Vec<KeyValue>) -> Result<BTreeMap<String, String>, String> {
    let names: BTreeSet<&str> = all.iter().map(|one| one.key.as_str()).collect();
    if names.len() != all.len() || names.contains("") {
        return Err(format!("attributes twice or without a name: {all:?}"));
    }
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(yes)) => yes.to_string(),
        other => format!("{other:?}"),
    };
    let pairs = all.into_iter().map(|one| (one.key, text(one.value)));
    Ok(pairs.collect())
}

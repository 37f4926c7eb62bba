//! A server in front of a store that carries requests out and then says that the store is ill: the answer is lost, and who asks again
//! meets what the first request did.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;

/// Which answers are lost, and what became of those requests.
#[derive(Debug, Default)]
struct Rule {
    method: String,
    part: String,
    left: usize,
    statuses: Vec<u16>,
}

/// Forwards to a store; loses answers when told.
pub struct LostAnswers {
    /// The port to call instead of the store's.
    pub port: u16,
    rule: Arc<Mutex<Rule>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Way {
    client: reqwest::Client,
    upstream: u16,
    rule: Arc<Mutex<Rule>>,
}

impl LostAnswers {
    /// Starts in front of this loopback port.
    pub fn before(upstream: u16) -> Self {
        etcdguardian::init_tls();
        let rule = Arc::new(Mutex::new(Rule::default()));
        let client = reqwest::Client::builder().no_proxy().build();
        let way = Way {
            client: client.expect("a client"),
            upstream,
            rule: Arc::clone(&rule),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let app = Router::new().fallback(forward).with_state(way);
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self {
            port,
            rule,
            _runtime: runtime,
        }
    }

    /// Loses the next answer to such a request: its method, and what its path and query contain.
    pub fn lose(&self, method: &str, part: &str) {
        *self.rule.lock().expect("a lock") = Rule {
            method: method.to_owned(),
            part: part.to_owned(),
            left: 1,
            statuses: Vec::new(),
        };
    }

    /// What the store said to such requests since, lost or not.
    pub fn statuses(&self) -> Vec<u16> {
        self.rule.lock().expect("a lock").statuses.clone()
    }
}

/// Headers of a connection, not of a request.
const OF_A_CONNECTION: [&str; 2] = ["connection", "transfer-encoding"];

async fn forward(State(way): State<Way>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await;
    let place = head
        .uri
        .path_and_query()
        .map_or("/", |place| place.as_str());
    let url = format!("http://127.0.0.1:{}{place}", way.upstream);
    let mut headers = head.headers.clone();
    for name in OF_A_CONNECTION {
        headers.remove(name);
    }
    let asked = way
        .client
        .request(head.method.clone(), url)
        .headers(headers)
        .body(body.expect("a whole body"))
        .send()
        .await
        .expect("the store answers");
    let status = asked.status();
    let mut response = Response::builder().status(status);
    for (name, value) in asked.headers() {
        if !OF_A_CONNECTION.contains(&name.as_str()) {
            response = response.header(name, value);
        }
    }
    let body = asked.bytes().await.expect("a whole answer");
    let mut rule = way.rule.lock().expect("a lock");
    if head.method.as_str() == rule.method && place.contains(&rule.part) {
        rule.statuses.push(status.as_u16());
        if rule.left > 0 {
            rule.left -= 1;
            response = Response::builder().status(503);
            return response.body(Body::empty()).expect("an answer");
        }
    }
    response.body(Body::from(body)).expect("an answer")
}

//! Stores that break: slow, cut off, ill, or with an answer that is lost on its way. What was begun ends whole or not at all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use etcdguardian::api::ErrorClass;
use etcdguardian::repository::{Repository, RepositoryError, SilentObserver};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::{Place, bytes, directory, get, manifest, oss_of, put};
use crate::support::{OssGate, Toxiproxy, Versitygw, block_on, location};

/// How a store in memory misbehaves.
#[derive(Debug, Clone, Copy, Default)]
enum Fault {
    /// It overwrites although it is told to create only.
    #[default]
    IgnoresConditions,
    /// It writes, and its answer is lost so many times.
    LosesAnswers,
}

/// A store in memory that misbehaves.
#[derive(Debug, Default)]
pub struct Careless {
    inner: InMemory,
    fault: Fault,
    lost: AtomicUsize,
    /// What cannot be deleted: whatever has one of these in its path.
    kept: Arc<Mutex<Vec<String>>>,
    /// Whether nothing can be written.
    closed: AtomicBool,
}

impl Careless {
    /// Nothing with these words in its path can be deleted from now on.
    pub fn keep(&self, words: &str) {
        self.kept.lock().unwrap().push(words.to_owned());
    }

    /// Nothing can be written from now on.
    pub fn refuse_writes(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    fn losing(answers: usize) -> Self {
        Self {
            fault: Fault::LosesAnswers,
            lost: AtomicUsize::new(answers),
            ..Self::default()
        }
    }
}

impl std::fmt::Display for Careless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Careless")
    }
}

fn denied(path: &Path) -> object_store::Error {
    object_store::Error::PermissionDenied {
        path: path.to_string(),
        source: "it is locked".into(),
    }
}

#[async_trait]
impl ObjectStore for Careless {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(denied(path));
        }
        match self.fault {
            Fault::IgnoresConditions => {
                options.mode = PutMode::Overwrite;
                self.inner.put_opts(path, payload, options).await
            }
            Fault::LosesAnswers => {
                let put = self.inner.put_opts(path, payload, options).await?;
                let left = self.lost.load(Ordering::SeqCst);
                if left == 0 {
                    return Ok(put);
                }
                self.lost.store(left - 1, Ordering::SeqCst);
                Err(object_store::Error::Generic {
                    store: "Careless",
                    source: "the connection broke before the answer".into(),
                })
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let kept = Arc::clone(&self.kept);
        let paths = paths.map(move |path| {
            let path = path?;
            let kept = kept.lock().unwrap();
            match kept.iter().any(|words| path.as_ref().contains(words)) {
                true => Err(denied(&path)),
                false => Ok(path),
            }
        });
        self.inner.delete_stream(paths.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[test]
fn a_lost_answer_to_a_commit_is_settled_by_reading_back() {
    block_on(async {
        for answers in [1, 2] {
            let store = Arc::new(Careless::losing(answers));
            let place = directory();
            let repository = Repository::over(store, &place.location, Arc::new(SilentObserver));
            let made = put(&repository, "kept", 1, b"x").await.unwrap();
            assert_eq!(repository.catalog(None).await.unwrap().backups, [made]);
        }
    });
}

#[test]
fn oss_settles_a_lost_answer_although_its_retry_is_refused() {
    let gate = OssGate::start(&["backups"]);
    let place = oss_of(gate);
    let gate: &OssGate = place.server();
    block_on(async {
        let repository = place.open().await.unwrap();
        gate.fault(r#"{"match": "PUT .*manifest.json", "count": 1, "after": true}"#);
        let made = put(&repository, "kept", 1, b"x").await.unwrap();
        assert_eq!(repository.catalog(None).await.unwrap().backups, [made]);
        // Another's manifest in the same place is still a conflict.
        let other = put(&repository, "kept", 1, b"y").await.unwrap_err();
        assert!(matches!(other, RepositoryError::Conflict { .. }), "{other}");
    });
}

#[test]
fn an_ill_store_is_asked_again() {
    let place = oss_of(OssGate::start(&["backups"]));
    let gate: &OssGate = place.server();
    block_on(async {
        let repository = place.open().await.unwrap();
        let body = bytes((8 << 20) + 1);
        for (status, pattern) in [(503, "PUT"), (429, "PUT"), (500, "POST"), (503, "HEAD")] {
            let rule = json!({"match": pattern, "status": status, "count": 2});
            gate.fault(&rule.to_string());
            let id = format!("s{status}{}", pattern.to_lowercase());
            let made = put(&repository, &id, 1, &body).await.unwrap();
            assert_eq!(get(&repository, &made.data_key).await, body);
        }
    });
}

fn behind(toxiproxy: &Toxiproxy, store: &Versitygw) -> Place {
    let port = toxiproxy.proxy("s3", store.port);
    let wanted = json!({
        "provider": "S3", "bucket": "backups", "region": "us-east-1", "addressing": "Path",
        "endpoint": format!("http://127.0.0.1:{port}"), "credentialsSecret": "store",
    });
    let keys = [("access-key-id", "vgw"), ("secret-access-key", "vgwsecret")];
    Place::new("S3", location(wanted), &keys, Box::new(()))
}

#[test]
fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    let store = Versitygw::start(&["backups"]);
    let toxiproxy = Toxiproxy::start();
    let place = behind(&toxiproxy, &store);
    block_on(async {
        let repository = place.open().await.unwrap();
        let body = bytes(3 << 20);
        let made = put(&repository, "x", 1, &body).await.unwrap();
        // Every connection ends after a megabyte.
        toxiproxy.toxic("s3", "limit_data", r#"{"bytes":1000000}"#);
        assert_eq!(get(&repository, &made.data_key).await, body);
        toxiproxy.heal();
        toxiproxy.toxic("s3", "latency", r#"{"latency":200}"#);
        put(&repository, "slow", 2, &body).await.unwrap();
    });
}

#[test]
fn a_store_that_goes_away_for_a_while_is_waited_for() {
    let store = Versitygw::start(&["backups"]);
    let toxiproxy = Arc::new(Toxiproxy::start());
    let place = behind(&toxiproxy, &store);
    block_on(async {
        let repository = place.open().await.unwrap();
        let body = bytes(20 << 20);
        toxiproxy.enabled("s3", false);
        let healer = Arc::clone(&toxiproxy);
        let healed = tokio::task::spawn_blocking(move || {
            std::thread::sleep(std::time::Duration::from_secs(1));
            healer.enabled("s3", true);
        });
        let made = put(&repository, "x", 1, &body).await.unwrap();
        healed.await.unwrap();
        assert_eq!(get(&repository, &made.data_key).await, body);
        toxiproxy.enabled("s3", false);
        let gone = put(&repository, "y", 2, b"y").await.unwrap_err();
        assert_eq!(gone.class(), ErrorClass::StoreUnavailable, "{gone:?}");
        assert_eq!(gone.class().exit_code(), 10);
    });
}

/// A stream that breaks after so many bytes.
struct Breaking {
    left: usize,
}

impl AsyncRead for Breaking {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        if self.left == 0 {
            return std::task::Poll::Ready(Err(std::io::Error::other("the disk broke")));
        }
        let length = buffer.remaining().min(self.left).min(1 << 20);
        buffer.put_slice(&vec![7; length]);
        self.left -= length;
        std::task::Poll::Ready(Ok(()))
    }
}

#[test]
fn an_upload_that_is_given_up_leaves_no_parts() {
    let store = Versitygw::start(&["backups"]);
    let toxiproxy = Toxiproxy::start();
    let place = behind(&toxiproxy, &store);
    let parts = || {
        let folder = store.file("backups", ".sgwtmp/multipart");
        std::fs::read_dir(folder).map_or(0, |entries| entries.count())
    };
    block_on(async {
        let repository = place.open().await.unwrap();
        let key = manifest("x", 1, b"x").data_key;
        let mut breaking = Breaking { left: 20 << 20 };
        let broke = repository
            .store_stream(&key, 40 << 20, "the source", &mut breaking, &|_| {})
            .await
            .unwrap_err();
        assert!(broke.to_string().contains("the source"), "{broke}");
        assert_eq!(parts(), 0, "a broken source");
        // Dropped in its middle, as by a deadline.
        let mut endless = tokio::io::repeat(1).take(1 << 30);
        let begun = tokio::sync::Notify::new();
        {
            // A part has arrived: the upload is known, and others are on their way.
            let told = |_| begun.notify_one();
            let upload = repository.store_stream(&key, 1 << 30, "endless", &mut endless, &told);
            tokio::select! {
                ended = upload => panic!("{ended:?}"),
                () = begun.notified() => {}
            }
        }
        for _ in 0..200 {
            if parts() == 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(parts(), 0, "a dropped upload");
        assert!(repository.catalog(None).await.unwrap().backups.is_empty());
    });
}

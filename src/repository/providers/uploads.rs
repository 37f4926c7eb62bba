//! Uploads that were begun and never finished, as a killed process leaves them. S3, OSS and Google keep their parts, out of every
//! listing of objects, until somebody aborts them; a directory keeps the file that was written beside its place. Azure forgets
//! blocks that were never committed after a week, by itself.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody};
use object_store::gcp::GcpCredentialProvider;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ClientOptions, Error, Result};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Deserialize;

use super::patient::PatientConnector;

/// More pages than this of unfinished uploads are left for the next sweep.
const MOST_PAGES: usize = 1000;

/// An upload that was begun.
#[derive(Debug)]
pub(in crate::repository) struct Begun {
    /// The object that it would have become.
    pub path: Path,
    /// The store's name for it.
    pub id: String,
    /// When it was begun, in seconds since 1970, by the store's clock.
    pub at: i64,
}

/// Where a store keeps what was begun.
#[async_trait]
pub(in crate::repository) trait Uploads: Send + Sync {
    /// The uploads below a path that were begun and not finished.
    async fn begun(&self, below: &Path) -> Result<Vec<Begun>>;

    /// Forgets one, and what it holds.
    async fn abort(&self, begun: &Begun) -> Result<()>;
}

/// Who vouches for a request.
pub(super) enum Signer {
    Aws(AwsCredentialProvider, String),
    Google(GcpCredentialProvider),
}

/// A bucket behind S3's API, or behind Google's, which is the same here but for the signature.
pub(super) struct InBucket {
    store: Arc<dyn MultipartStore>,
    client: HttpClient,
    /// The bucket's own URL.
    url: String,
    signer: Signer,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
    #[serde(default)]
    upload: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    key: String,
    upload_id: String,
    initiated: Timestamp,
}

/// Why unfinished uploads could not be listed.
#[derive(Debug, thiserror::Error)]
enum ListingError {
    #[error("the store answers {0} to the listing of unfinished uploads")]
    Status(reqwest::StatusCode),
    #[error("the listing of unfinished uploads is not one")]
    Form(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic {
        store: "uploads",
        source: source.into(),
    }
}

impl InBucket {
    pub fn new(
        store: Arc<dyn MultipartStore>,
        url: &str,
        signer: Signer,
        options: &ClientOptions,
    ) -> Result<Self> {
        Ok(Self {
            store,
            client: PatientConnector.connect(options)?,
            url: url.trim_end_matches('/').to_owned(),
            signer,
        })
    }

    /// The URL of a page.
    fn listing(&self, prefix: &str, after: Option<(&str, &str)>) -> Result<url::Url> {
        let mut url = url::Url::parse(&self.url).map_err(failed)?;
        let mut query = url.query_pairs_mut();
        query
            .append_pair("uploads", "")
            .append_pair("prefix", prefix);
        if let Some((key, upload)) = after {
            query
                .append_pair("key-marker", key)
                .append_pair("upload-id-marker", upload);
        }
        drop(query);
        Ok(url)
    }

    async fn page(&self, prefix: &str, after: Option<(&str, &str)>) -> Result<Page> {
        let url = self.listing(prefix, after)?;
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = url.as_str().parse().map_err(failed)?;
        match &self.signer {
            Signer::Aws(credentials, region) => {
                let credential = credentials.get_credential().await?;
                AwsAuthorizer::new(&credential, "s3", region).try_authorize(&mut request, None)?;
            }
            Signer::Google(credentials) => {
                let credential = credentials.get_credential().await?;
                let bearer = format!("Bearer {}", credential.bearer);
                let mut value = HeaderValue::try_from(bearer).map_err(failed)?;
                value.set_sensitive(true);
                request.headers_mut().insert(AUTHORIZATION, value);
            }
        }
        let answer = self.client.execute(request).await.map_err(failed)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(failed(ListingError::Status(status)));
        }
        let body = answer.into_body().bytes().await.map_err(failed)?;
        quick_xml::de::from_reader(body.as_ref())
            .map_err(|error| failed(ListingError::Form(error.into())))
    }
}

#[async_trait]
impl Uploads for InBucket {
    async fn begun(&self, below: &Path) -> Result<Vec<Begun>> {
        let prefix = if below.is_root() {
            String::new()
        } else {
            format!("{below}/")
        };
        let mut found = Vec::new();
        let mut after: Option<(String, String)> = None;
        for _ in 0..MOST_PAGES {
            let marker = after.as_ref().map(|(key, id)| (key.as_str(), id.as_str()));
            let page = match self.page(&prefix, marker).await {
                Ok(page) => page,
                // Some servers do not know their own marker again. What was found goes now, the rest with the next sweep.
                Err(error) if after.is_some() => {
                    tracing::debug!(%error, "a further page of unfinished uploads is not to be had");
                    break;
                }
                Err(error) => return Err(error),
            };
            found.extend(page.upload.into_iter().filter_map(|one| {
                Some(Begun {
                    path: Path::parse(&one.key).ok()?,
                    id: one.upload_id,
                    at: one.initiated.as_second(),
                })
            }));
            let next = page
                .next_key_marker
                .map(|key| (key, page.next_upload_id_marker.unwrap_or_default()));
            if !page.is_truncated || next.is_none() || next == after {
                break;
            }
            after = next;
        }
        Ok(found)
    }

    async fn abort(&self, begun: &Begun) -> Result<()> {
        self.store.abort_multipart(&begun.path, &begun.id).await
    }
}

/// A directory: the store crate writes beside the place of an object, under its name, `#` and a number, and then renames.
pub(super) struct InDirectory {
    pub root: PathBuf,
}

impl InDirectory {
    fn file(begun: &Begun) -> PathBuf {
        PathBuf::from(format!("/{}#{}", begun.path, begun.id))
    }
}

#[async_trait]
impl Uploads for InDirectory {
    async fn begun(&self, _: &Path) -> Result<Vec<Begun>> {
        let root = self.root.clone();
        let walk = move || {
            let mut found = Vec::new();
            staged_below(&root, &mut found).map_err(failed)?;
            Ok(found)
        };
        tokio::task::spawn_blocking(walk).await?
    }

    async fn abort(&self, begun: &Begun) -> Result<()> {
        let file = Self::file(begun);
        std::fs::remove_file(&file).map_err(failed)?;
        if let Some(folder) = file.parent() {
            // Only an empty directory can be removed so; any other stays.
            drop(std::fs::remove_dir(folder));
        }
        Ok(())
    }
}

fn staged_below(folder: &FilePath, found: &mut Vec<Begun>) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            staged_below(&path, found)?;
            continue;
        }
        let name = path.to_str().and_then(|text| text.rsplit_once('#'));
        let Some((object, id)) = name.filter(|(_, id)| id.parse::<u32>().is_ok()) else {
            continue;
        };
        // It may have been renamed since.
        let Ok(written) = entry.metadata().and_then(|meta| meta.modified()) else {
            continue;
        };
        if let (Ok(path), Ok(at)) = (
            Path::from_absolute_path(object),
            Timestamp::try_from(written),
        ) {
            found.push(Begun {
                path,
                id: id.to_owned(),
                at: at.as_second(),
            });
        }
    }
    Ok(())
}

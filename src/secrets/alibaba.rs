//! Who this process is to Alibaba Cloud: keys, a pod's OIDC token (RRSA), or the RAM role of its machine; asked for anew before
//! they expire. No request goes through a proxy that is meant for the outside: the metadata server is on the machine's own link.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{Secret, SecretError};

/// The metadata server of every ECS machine.
const METADATA: &str = "http://100.100.100.200";
/// Where an OIDC token is changed for keys when no region is known.
const STS: &str = "https://sts.aliyuncs.com";
/// Keys are asked for anew when they live no longer than this.
const FRESH: SignedDuration = SignedDuration::from_mins(5);
/// How long STS or the metadata server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// An access key, with its token when it is a temporary one.
#[derive(Clone)]
pub struct AlibabaKeys {
    /// The access key's id; no secret.
    pub id: String,
    /// Its secret.
    pub secret: SecretString,
    /// The security token of temporary keys.
    pub token: Option<SecretString>,
}

impl fmt::Debug for AlibabaKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlibabaKeys").finish_non_exhaustive()
    }
}

/// Where the keys come from.
#[derive(Debug, Clone)]
enum Source {
    Keys(AlibabaKeys),
    Rrsa {
        role: String,
        provider: String,
        token_file: String,
        sts: String,
    },
    Machine {
        role: Option<String>,
        metadata: String,
    },
}

/// An identity that gives keys, and asks for new ones before they expire.
#[derive(Debug)]
pub struct AlibabaIdentity {
    source: Source,
    held: Mutex<Option<(AlibabaKeys, Timestamp)>>,
}

impl AlibabaIdentity {
    /// The identity of a Secret with `access-key-id`, `access-key-secret` and, for temporary keys, `security-token`.
    ///
    /// # Errors
    /// When a key is missing.
    pub fn from_secret(secret: &Secret) -> Result<Self, SecretError> {
        let token = secret
            .text("security-token")?
            .filter(|token| !token.is_empty());
        Ok(Self::of(Source::Keys(AlibabaKeys {
            id: secret.require_text("access-key-id")?.to_owned(),
            secret: secret.require_text("access-key-secret")?.into(),
            token: token.map(SecretString::from),
        })))
    }

    /// The identity that the environment describes, by the names of Alibaba's own SDKs: keys, else RRSA, else the RAM role
    /// of the machine.
    pub fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let named = |name: &str| {
            variable(&format!("ALIBABA_CLOUD_{name}")).filter(|value| !value.is_empty())
        };
        if let (Some(id), Some(secret)) = (named("ACCESS_KEY_ID"), named("ACCESS_KEY_SECRET")) {
            return Self::of(Source::Keys(AlibabaKeys {
                id,
                secret: secret.into(),
                token: named("SECURITY_TOKEN").map(SecretString::from),
            }));
        }
        if let (Some(role), Some(provider), Some(token_file)) = (
            named("ROLE_ARN"),
            named("OIDC_PROVIDER_ARN"),
            named("OIDC_TOKEN_FILE"),
        ) {
            return Self::of(Source::Rrsa {
                role,
                provider,
                token_file,
                sts: named("STS_ENDPOINT").map_or_else(|| STS.to_owned(), |host| url_of(&host)),
            });
        }
        Self::of(Source::Machine {
            role: named("ECS_METADATA"),
            metadata: named("METADATA_ENDPOINT").unwrap_or_else(|| METADATA.to_owned()),
        })
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            held: Mutex::new(None),
        }
    }

    /// Keys that live for a while yet.
    ///
    /// # Errors
    /// When nobody gives any.
    pub async fn keys(&self) -> Result<AlibabaKeys, SecretError> {
        if let Source::Keys(keys) = &self.source {
            return Ok(keys.clone());
        }
        let mut held = self.held.lock().await;
        let now = Timestamp::now();
        if let Some((keys, until)) = held.as_ref()
            && until.duration_since(now) > FRESH
        {
            return Ok(keys.clone());
        }
        let (keys, until) = match &self.source {
            Source::Keys(keys) => return Ok(keys.clone()),
            Source::Rrsa {
                role,
                provider,
                token_file,
                sts,
            } => exchange(role, provider, token_file, sts, now).await?,
            Source::Machine { role, metadata } => {
                keys_of_machine(role.as_deref(), metadata).await?
            }
        };
        *held = Some((keys.clone(), until));
        Ok(keys)
    }

    /// The region of the machine, when the identity shows that it is inside Alibaba Cloud: internal endpoints work there.
    pub async fn inside_region(&self) -> Option<String> {
        let metadata = match &self.source {
            Source::Keys(_) => return None,
            Source::Rrsa { .. } => METADATA,
            Source::Machine { metadata, .. } => metadata,
        };
        let client = client(Duration::from_secs(2)).ok()?;
        let region = ask_metadata(&client, metadata, "region-id").await.ok()?;
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (!region.is_empty() && region.bytes().all(known)).then_some(region)
    }
}

/// An endpoint as Alibaba's SDKs name it, by host, or as a URL.
fn url_of(endpoint: &str) -> String {
    if endpoint.contains("://") {
        endpoint.trim_end_matches('/').to_owned()
    } else {
        format!("https://{endpoint}")
    }
}

fn failed(who: &'static str, problem: impl Into<String>) -> SecretError {
    SecretError::Identity {
        who,
        problem: problem.into(),
        source: None,
    }
}

fn broke(who: &'static str, problem: &str) -> impl FnOnce(reqwest::Error) -> SecretError {
    let problem = problem.to_owned();
    // The URL of a request may hold what must not be printed.
    move |error| SecretError::Identity {
        who,
        problem,
        source: Some(error.without_url()),
    }
}

fn client(patience: Duration) -> Result<reqwest::Client, SecretError> {
    crate::init_tls();
    reqwest::Client::builder()
        .timeout(patience)
        .no_proxy()
        .build()
        .map_err(broke(MACHINE, "no connection can be made"))
}

const MACHINE: &str = "the machine's RAM role (ECS metadata server)";
const RRSA: &str = "Alibaba's STS (RRSA)";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answered {
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: Timestamp,
}

impl Answered {
    fn keys(self) -> (AlibabaKeys, Timestamp) {
        let keys = AlibabaKeys {
            id: self.access_key_id,
            secret: self.access_key_secret.into(),
            token: Some(self.security_token.into()),
        };
        (keys, self.expiration)
    }
}

/// Changes the pod's OIDC token, which the kubelet rotates, for keys.
async fn exchange(
    role: &str,
    provider: &str,
    token_file: &str,
    sts: &str,
    now: Timestamp,
) -> Result<(AlibabaKeys, Timestamp), SecretError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Exchanged {
        credentials: Answered,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Refused {
        code: String,
    }
    let token = tokio::fs::read_to_string(token_file).await.map_err(|error| {
        failed(
            RRSA,
            format!("the token file {token_file} cannot be read ({error}): mount the service account's token there"),
        )
    })?;
    let token = SecretString::from(token.trim().to_owned());
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("RoleArn", role)
        .append_pair("OIDCProviderArn", provider)
        .append_pair("OIDCToken", token.expose_secret())
        .append_pair("RoleSessionName", "etcdguardian")
        .append_pair("DurationSeconds", "3600")
        .finish();
    crate::init_tls();
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .map_err(broke(RRSA, "no connection can be made"))?;
    let answer = client
        .post(format!("{sts}/"))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-acs-action", "AssumeRoleWithOIDC")
        .header("x-acs-version", "2015-04-01")
        .header("x-acs-date", now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .header(
            "x-acs-signature-nonce",
            uuid::Uuid::new_v4().simple().to_string(),
        )
        .body(form)
        .send()
        .await
        .map_err(broke(
            RRSA,
            "it does not answer: check the network and ALIBABA_CLOUD_STS_ENDPOINT",
        ))?;
    let status = answer.status();
    if !status.is_success() {
        let refused: Option<Refused> = answer.json().await.ok();
        let code = refused.map_or_else(|| status.to_string(), |refused| refused.code);
        return Err(failed(
            RRSA,
            format!(
                "it refuses the token for {role} ({code}): check the role's trust policy, the OIDC provider and the audience sts.aliyuncs.com"
            ),
        ));
    }
    let exchanged: Exchanged = answer.json().await.map_err(broke(
        RRSA,
        "its answer has no keys: check ALIBABA_CLOUD_STS_ENDPOINT",
    ))?;
    Ok(exchanged.credentials.keys())
}

/// Asks the metadata server for the keys of the machine's RAM role.
async fn keys_of_machine(
    role: Option<&str>,
    metadata: &str,
) -> Result<(AlibabaKeys, Timestamp), SecretError> {
    let client = client(PATIENCE)?;
    let folder = "ram/security-credentials/";
    let role = match role {
        Some(role) => role.to_owned(),
        None => {
            let names = ask_metadata(&client, metadata, folder).await?;
            names.lines().next().unwrap_or_default().trim().to_owned()
        }
    };
    if role.is_empty() {
        return Err(failed(MACHINE, "the machine has no RAM role: attach one"));
    }
    let text = ask_metadata(&client, metadata, &format!("{folder}{role}")).await?;
    let answered: Answered = serde_json::from_str(&text).map_err(|_| {
        failed(
            MACHINE,
            format!("it gives no keys for role {role}: attach the role to the machine"),
        )
    })?;
    Ok(answered.keys())
}

/// One value of the metadata server, with a token as its hardened mode wants.
async fn ask_metadata(
    client: &reqwest::Client,
    metadata: &str,
    path: &str,
) -> Result<String, SecretError> {
    let gone = "it does not answer: name a Secret, set ALIBABA_CLOUD_* variables, or run on a machine or in a pod with a role";
    let token = client
        .put(format!("{metadata}/latest/api/token"))
        .header("X-aliyun-ecs-metadata-token-ttl-seconds", "600")
        .send()
        .await
        .map_err(broke(MACHINE, gone))?;
    let mut request = client.get(format!("{metadata}/latest/meta-data/{path}"));
    if token.status().is_success() {
        let token = token.text().await.map_err(broke(MACHINE, gone))?;
        request = request.header("X-aliyun-ecs-metadata-token", token);
    }
    let answer = request.send().await.map_err(broke(MACHINE, gone))?;
    let status = answer.status();
    if !status.is_success() {
        return Err(failed(
            MACHINE,
            format!("it answers {status}: attach a RAM role to the machine"),
        ));
    }
    answer.text().await.map_err(broke(MACHINE, gone))
}

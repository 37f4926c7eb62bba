//! Hooks: commands and HTTP requests, each with a limit, before the work and after its outcome is known. Where a command runs, on
//! this host or in a pod, is for the caller to say.

use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::Request;
use super::fence::Fence;
use crate::api::{ExecHook, Hook, HookKind, HttpHook, HumanDuration, OnError};

const DEFAULT_LIMIT: Duration = Duration::from_secs(30);
/// How much of a failed command's last words is kept.
pub const LAST_WORDS: usize = 200;

/// Where the commands of hooks run.
#[async_trait]
pub trait Commands: Send + Sync {
    /// Runs one to its end.
    ///
    /// # Errors
    /// What went wrong, in a sentence.
    async fn run(&self, exec: &ExecHook, told: &Told) -> Result<(), String>;

    /// Where HTTP requests may go; anywhere unless there is a fence.
    fn fence(&self) -> Option<&Fence> {
        None
    }
}

/// They run here, as whoever runs this process.
pub struct OnThisHost;

#[async_trait]
impl Commands for OnThisHost {
    async fn run(&self, exec: &ExecHook, told: &Told) -> Result<(), String> {
        command(exec, told).await
    }
}

/// A hook that must succeed and did not.
#[derive(Debug)]
pub struct HookFailed {
    /// Which.
    pub hook: String,
    /// What went wrong.
    pub problem: String,
}

/// What hooks are told: as JSON by HTTP, as `ETCDGUARDIAN_…` variables to a command.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// `preBackup`, `postBackup`, `preRestore` or `postRestore`.
    pub stage: &'static str,
    /// `Completed` or `Failed`, once it is known.
    pub outcome: Option<&'static str>,
    /// The error, or what was stored.
    pub message: Option<String>,
    /// The object.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The schedule that wanted it.
    pub schedule: Option<String>,
    /// The etcd's name.
    pub cluster: String,
    /// The attempt.
    #[serde(rename = "runID")]
    pub run_id: String,
    /// The backup.
    pub id: Option<String>,
    /// Where it is.
    pub location: Option<String>,
    /// Its last revision, or the restored cluster's.
    pub revision: Option<i64>,
    /// How far it is proved.
    pub level: Option<String>,
}

impl Told {
    /// What is known before a backup.
    pub fn of(request: &Request, stage: &'static str) -> Self {
        Self {
            stage,
            name: request.name.clone(),
            namespace: request.namespace.clone(),
            schedule: request.schedule.clone(),
            cluster: request.cluster_name.clone(),
            run_id: request.run_id.clone(),
            ..Self::default()
        }
    }

    fn variables(&self) -> Vec<(String, String)> {
        let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(self) else {
            return Vec::new();
        };
        fields
            .into_iter()
            .filter_map(|(name, value)| {
                let value = match value {
                    serde_json::Value::Null => return None,
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                };
                Some((format!("ETCDGUARDIAN_{}", name.to_uppercase()), value))
            })
            .collect()
    }
}

/// Runs the hooks in order; the first that must succeed and does not ends them. Returns what others said that failed.
///
/// # Errors
/// That first one.
pub async fn before(
    hooks: &[Hook],
    told: &Told,
    commands: &dyn Commands,
) -> Result<Vec<String>, HookFailed> {
    let mut warnings = Vec::new();
    for hook in hooks {
        if let Err(problem) = run(hook, told, commands).await {
            match hook.on_error {
                OnError::Fail => {
                    return Err(HookFailed {
                        hook: hook.name.clone(),
                        problem,
                    });
                }
                OnError::Continue => {
                    warnings.push(format!("hook '{}' failed: {problem}", hook.name));
                }
            }
        }
    }
    Ok(warnings)
}

/// Runs every hook whatever becomes of the others: the outcome stands, so a failure is only said.
pub async fn after(hooks: &[Hook], told: &Told, commands: &dyn Commands) -> Vec<String> {
    let mut warnings = Vec::new();
    for hook in hooks {
        if let Err(problem) = run(hook, told, commands).await {
            tracing::warn!(hook = hook.name, problem, "a hook failed after the work");
            warnings.push(format!("hook '{}' failed afterwards: {problem}", hook.name));
        }
    }
    warnings
}

async fn run(hook: &Hook, told: &Told, commands: &dyn Commands) -> Result<(), String> {
    match (hook.kind, &hook.exec, &hook.http) {
        (HookKind::Exec, Some(exec), _) => limited(exec.timeout, commands.run(exec, told)).await,
        (HookKind::HTTP, _, Some(http)) => {
            limited(http.timeout, request(http, told, commands.fence())).await
        }
        (HookKind::Exec, None, _) => Err("it has type Exec and no exec".to_owned()),
        (HookKind::HTTP, _, None) => Err("it has type HTTP and no http".to_owned()),
    }
}

async fn limited(
    limit: Option<HumanDuration>,
    work: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    let limit = limit
        .and_then(|limit| Duration::try_from(limit.as_signed()).ok())
        .unwrap_or(DEFAULT_LIMIT);
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(format!("it took longer than {} s", limit.as_secs_f32())))
}

async fn command(exec: &ExecHook, told: &Told) -> Result<(), String> {
    let Some((program, arguments)) = exec.command.split_first() else {
        return Err("its command is empty".to_owned());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .envs(told.variables())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("'{program}' cannot be started: {error}"))?;
    let mut words = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        let mut buffer = [0; 4096];
        // Only the tail is kept, however much it says.
        while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
            words.extend_from_slice(&buffer[..count]);
            let over = words.len().saturating_sub(LAST_WORDS);
            words.drain(..over);
        }
    }
    let status = child
        .wait()
        .await
        .map_err(|error| format!("'{program}' cannot be waited for: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&words);
    let last = words.trim().lines().next_back().unwrap_or_default();
    let said = if last.is_empty() {
        String::new()
    } else {
        format!(": {last}")
    };
    Err(format!("'{program}' ended with {status}{said}"))
}

async fn request(http: &HttpHook, told: &Told, fence: Option<&Fence>) -> Result<(), String> {
    let none = || "its url is none".to_owned();
    // A URL may hold a token, so errors name only its host.
    let url = url::Url::parse(&http.url).map_err(|_| none())?;
    let host = url.host_str().ok_or_else(none)?.to_owned();
    let failed = |error: reqwest::Error| {
        let error = error.without_url();
        format!(
            "{host} did not take it: {}",
            crate::cause::with_causes(&error)
        )
    };
    let mut client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    if let Some(fence) = fence {
        let (named, port) = (url.host().ok_or_else(none)?, url.port_or_known_default());
        let allowed = fence.admit(&named, port.unwrap_or_default()).await?;
        // The name is not asked for a second time, when it might lead elsewhere, and no proxy asks for it either.
        client = client.resolve_to_addrs(&host, &allowed).no_proxy();
    }
    let client = client.build().map_err(failed)?;
    let answer = client.post(url).json(told).send().await;
    let status = answer.map_err(failed)?.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("{host} answered {status}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use wiremock::matchers::{body_partial_json, method};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::pipeline::plan::tests::request as wanted;

    fn exec(script: &str, timeout: Option<&str>, on_error: OnError) -> Hook {
        Hook {
            name: "h".to_owned(),
            kind: HookKind::Exec,
            exec: Some(ExecHook {
                command: ["sh", "-c", script].map(str::to_owned).to_vec(),
                timeout: timeout.map(|text| text.parse().unwrap()),
                ..ExecHook::default()
            }),
            http: None,
            on_error,
        }
    }

    fn post(url: String) -> Hook {
        Hook {
            name: "p".to_owned(),
            kind: HookKind::HTTP,
            exec: None,
            http: Some(HttpHook { url, timeout: None }),
            on_error: OnError::Fail,
        }
    }

    fn told() -> Told {
        Told::of(&wanted(), "preBackup")
    }

    #[tokio::test]
    async fn commands_run_on_this_host_and_are_told_what_it_is_about() {
        let folder = tempfile::tempdir().unwrap();
        let seen = folder.path().join("seen");
        let script = format!(
            "echo \"$ETCDGUARDIAN_STAGE $ETCDGUARDIAN_NAME $ETCDGUARDIAN_RUNID\" > {}",
            seen.display()
        );
        let hooks = [exec(&script, None, OnError::Fail)];
        assert!(
            before(&hooks, &told(), &OnThisHost)
                .await
                .unwrap()
                .is_empty()
        );
        assert_eq!(std::fs::read_to_string(seen).unwrap(), "preBackup b r\n");
    }

    #[tokio::test]
    async fn a_failure_ends_the_backup_or_is_said_as_the_hook_wants() {
        let script = "echo it broke >&2; exit 3";
        let error = before(&[exec(script, None, OnError::Fail)], &told(), &OnThisHost).await;
        let words = error.unwrap_err().problem;
        assert!(words.contains("it broke") && words.contains('3'), "{words}");
        let said = before(
            &[exec(script, None, OnError::Continue)],
            &told(),
            &OnThisHost,
        )
        .await;
        assert_eq!(said.unwrap().len(), 1);
        let slow = exec("sleep 60", Some("200ms"), OnError::Fail);
        let words = before(&[slow], &told(), &OnThisHost)
            .await
            .unwrap_err()
            .problem;
        assert!(words.contains("longer than 0.2 s"), "{words}");
        let all = [
            exec(script, None, OnError::Fail),
            exec(script, None, OnError::Fail),
        ];
        assert_eq!(
            after(&all, &told(), &OnThisHost).await.len(),
            2,
            "every hook runs after"
        );
    }

    #[tokio::test]
    async fn an_http_hook_posts_json_and_wants_a_good_answer() {
        crate::init_tls();
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .and(body_partial_json(
                serde_json::json!({"stage": "preBackup", "name": "b"}),
            ))
            .respond_with(ResponseTemplate::new(204))
            .expect(1)
            .mount(&server)
            .await;
        let url = format!("{}/hook?token=hunter2", server.uri());
        assert!(
            before(&[post(url.clone())], &told(), &OnThisHost)
                .await
                .is_ok()
        );
        server.reset().await;
        let words = before(&[post(url)], &told(), &OnThisHost)
            .await
            .unwrap_err()
            .problem;
        assert!(
            words.contains("404") && !words.contains("hunter2"),
            "{words}"
        );
        let nowhere = post("http://127.0.0.1:1/?token=hunter2".to_owned());
        let words = before(&[nowhere], &told(), &OnThisHost)
            .await
            .unwrap_err()
            .problem;
        assert!(!words.contains("hunter2"), "{words}");
    }
}

//! What a schedule is told from outside: the resource when it changes, wishes of commands, the trigger annotation.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::ScheduleTask;
use super::sources::{open_signals, signals_setup};
use crate::api::EtcdBackupSchedule;
use crate::engine::policy::policy_of;

/// A new value of this annotation on a schedule asks for one backup now.
pub const TRIGGER_ANNOTATION: &str = "etcdguardian.io/trigger";

/// What a command wants of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// A backup now.
    Trigger,
    /// No backups for now.
    Suspend,
    /// Backups again.
    Resume,
}

/// What a schedule's task is told from outside.
pub struct Inbox {
    /// The resource, anew whenever it changes.
    pub wanted: watch::Receiver<Arc<EtcdBackupSchedule>>,
    /// Wishes of commands.
    pub wishes: mpsc::Receiver<Wish>,
}

/// Why a backup is to be made outside the decision's course.
pub(super) struct Asked {
    pub(super) why: String,
    pub(super) annotation: Option<String>,
}

impl Asked {
    pub(super) fn because(why: String) -> Self {
        Self {
            why,
            annotation: None,
        }
    }
}

impl ScheduleTask {
    pub(super) async fn change(&mut self, schedule: Arc<EtcdBackupSchedule>) {
        match policy_of(&schedule.spec) {
            Ok(policy) => {
                let setup = signals_setup(&self.services, &self.name, &schedule, &policy);
                if setup != *self.signals.setup() {
                    let opened = open_signals(&self.services, setup, Some(&self.signals)).await;
                    match opened {
                        Ok(signals) => {
                            self.signals = signals;
                            // Begun anew with the new counter; what is on disk is continued.
                            self.renew = true;
                        }
                        Err(error) => tracing::warn!(schedule = %self.name, "{error}"),
                    }
                }
                self.policy = policy;
                self.schedule = schedule;
                self.apply_record();
                tracing::info!(schedule = %self.name, "the schedule changed");
            }
            Err(error) => {
                tracing::warn!(schedule = %self.name, "the changed schedule is not valid, the old one stays in force: {error}");
            }
        }
    }

    pub(super) async fn heed(&mut self, wish: Wish) -> Option<Asked> {
        match wish {
            Wish::Trigger => {
                return Some(Asked::because("asked for by 'schedule trigger'".to_owned()));
            }
            Wish::Suspend => self.record.suspended = true,
            Wish::Resume => self.record.suspended = false,
        }
        self.apply_record();
        self.save(Timestamp::now(), true).await;
        None
    }

    /// The trigger annotation, when it has a value that was not heeded yet.
    pub(super) fn annotated(&self) -> Option<Asked> {
        let annotations = self.schedule.metadata.annotations.as_ref()?;
        let value = annotations.get(TRIGGER_ANNOTATION)?;
        (self.record.trigger.as_ref() != Some(value)).then(|| Asked {
            why: format!("asked for by the annotation {TRIGGER_ANNOTATION}"),
            annotation: Some(value.clone()),
        })
    }
}

//! One task a schedule: begun when it is wanted, told of every change, ended when it is wanted no more.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::ResourceName;
use super::schedule_task::{Inbox, ScheduleTask, Wish};
use super::services::Services;
use crate::api::EtcdBackupSchedule;

/// The tasks of all schedules.
pub struct Keeper {
    services: Arc<Services>,
    tasks: BTreeMap<ResourceName, Kept>,
}

struct Kept {
    wanted: watch::Sender<Arc<EtcdBackupSchedule>>,
    wishes: mpsc::Sender<Wish>,
    task: JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        for kept in self.tasks.values() {
            kept.task.abort();
        }
    }
}

/// The API server writes status and bookkeeping into the same object: neither is a change of what is wanted.
fn same_wishes(one: &EtcdBackupSchedule, other: &EtcdBackupSchedule) -> bool {
    one.spec == other.spec
        && one.metadata.annotations == other.metadata.annotations
        && one.metadata.uid == other.metadata.uid
}

impl Keeper {
    /// No tasks yet.
    pub fn new(services: Arc<Services>) -> Self {
        Self {
            services,
            tasks: BTreeMap::new(),
        }
    }

    /// What the tasks share.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Whether a schedule is followed just as it is.
    pub fn follows(&self, name: &ResourceName, schedule: &EtcdBackupSchedule) -> bool {
        self.tasks.get(name).is_some_and(|kept| {
            !kept.task.is_finished() && same_wishes(&kept.wanted.borrow(), schedule)
        })
    }

    /// Has a schedule looked at now.
    pub fn look_again(&self, name: &ResourceName) {
        if let Some(kept) = self.tasks.get(name) {
            kept.wanted.send_modify(|_| ());
        }
    }

    /// Whether a schedule has a task.
    pub fn keeps(&self, name: &ResourceName) -> bool {
        self.tasks.contains_key(name)
    }

    /// Sees to it that a checked schedule is followed as it is now.
    ///
    /// # Errors
    /// One sentence when it cannot be followed.
    pub async fn want(
        &mut self,
        name: ResourceName,
        schedule: EtcdBackupSchedule,
    ) -> Result<(), String> {
        let schedule = Arc::new(schedule);
        let alive = self
            .tasks
            .get(&name)
            .filter(|kept| !kept.task.is_finished());
        if let Some(kept) = alive {
            kept.wanted.send_if_modified(|now| {
                let changed = !same_wishes(now, &schedule);
                if changed {
                    *now = schedule;
                }
                changed
            });
            return Ok(());
        }
        let services = Arc::clone(&self.services);
        let task = ScheduleTask::open(services, name.clone(), Arc::clone(&schedule)).await?;
        let (wanted, wanted_receiver) = watch::channel(schedule);
        let (wishes, wishes_receiver) = mpsc::channel(8);
        let inbox = Inbox {
            wanted: wanted_receiver,
            wishes: wishes_receiver,
        };
        let task = tokio::spawn(Box::new(task).work(inbox));
        let kept = Kept {
            wanted,
            wishes,
            task,
        };
        self.tasks.insert(name, kept);
        Ok(())
    }

    /// Ends the tasks of schedules that are wanted no more; returns their names.
    pub fn retain(&mut self, wanted: impl Fn(&ResourceName) -> bool) -> Vec<ResourceName> {
        let mut gone = Vec::new();
        self.tasks.retain(|name, kept| {
            let stays = wanted(name);
            if !stays {
                tracing::info!(schedule = %name, "the schedule is gone");
                kept.task.abort();
                self.services
                    .metrics
                    .forget_schedule(&name.namespace, &name.name);
                self.services.alerter.forget(&name.namespace, &name.name);
                gone.push(name.clone());
            }
            stays
        });
        gone
    }

    /// Passes a wish on; `None` when there is no such schedule, `false` when its queue is full.
    pub fn wish(&self, name: &ResourceName, wish: Wish) -> Option<bool> {
        let kept = self.tasks.get(name)?;
        Some(kept.wishes.try_send(wish).is_ok())
    }
}

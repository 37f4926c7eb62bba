//! Who holds a schedule's loop: where its record survives, who hears what it decided, and who carries its backups out.

use async_trait::async_trait;

use super::ResourceName;
use super::dispatch::{Done, Failed, Order, StageName};
use super::record::{GoodBackup, ScheduleRecord};
use super::services::Services;
use crate::api::EtcdBackupSchedule;
use crate::pipeline::Recording;
use crate::schedule::decide::Decision;
use crate::serve::ScheduleState;

/// What the loop needs of the world that its resources live in.
#[async_trait]
pub trait Host: Send + Sync {
    /// What was remembered of a schedule; `None` when it is new.
    async fn load(&self, name: &ResourceName) -> Result<Option<ScheduleRecord>, String>;

    /// Remembers it. After this returns, no other process can have remembered something else meanwhile.
    async fn save(&self, name: &ResourceName, record: &ScheduleRecord) -> Result<(), String>;

    /// A look at a schedule came to this.
    async fn looked(&self, name: &ResourceName, state: &ScheduleState, decision: &Decision);

    /// What the store holds of a schedule, and of its namespace beside every schedule; both oldest first.
    async fn catalogued(
        &self,
        name: &ResourceName,
        schedule: &EtcdBackupSchedule,
        backups: &[GoodBackup],
        singles: &[GoodBackup],
    );

    /// A schedule's incremental backups are cut from this from now on.
    fn records(&self, _name: &ResourceName, _recording: &Recording) {}

    /// Makes a due backup.
    async fn carry_out(
        &self,
        services: &Services,
        order: &Order<'_>,
        stage: &StageName,
    ) -> Result<Done, Failed>;

    /// Whether a run that was under way when the process died goes on: then it is taken up again by its name. Else the store
    /// alone tells what became of it.
    fn goes_on(&self) -> bool;
}

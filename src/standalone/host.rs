//! The state folder as the loop's host: a file a record, and pipelines in this process.

use async_trait::async_trait;

use crate::api::EtcdBackupSchedule;
use crate::cause::with_causes;
use crate::engine::{
    Done, Failed, GoodBackup, Host, Order, ResourceName, ScheduleRecord, Services, StageName,
    StateDir, decision_file,
};
use crate::records::{read_record, write_record};
use crate::schedule::decide::Decision;
use crate::serve::ScheduleState;

/// Keeps records in a state folder.
pub struct FolderHost(pub StateDir);

#[async_trait]
impl Host for FolderHost {
    async fn load(&self, name: &ResourceName) -> Result<Option<ScheduleRecord>, String> {
        Ok(read_record(&self.0.record("schedules", name)))
    }

    async fn save(&self, name: &ResourceName, record: &ScheduleRecord) -> Result<(), String> {
        let file = self.0.record("schedules", name);
        write_record(&file, record).map_err(|error| with_causes(&error))
    }

    async fn looked(&self, name: &ResourceName, _state: &ScheduleState, decision: &Decision) {
        let file = decision_file(self.0.root(), name);
        if let Err(error) = write_record(&file, decision) {
            tracing::warn!(schedule = %name, %error, "cannot save the decision for 'schedule explain'");
        }
    }

    async fn catalogued(
        &self,
        _: &ResourceName,
        _: &EtcdBackupSchedule,
        _: &[GoodBackup],
        _: &[GoodBackup],
    ) {
    }

    async fn carry_out(
        &self,
        services: &Services,
        order: &Order<'_>,
        stage: &StageName,
    ) -> Result<Done, Failed> {
        order.carry_out(services, stage).await
    }

    fn goes_on(&self) -> bool {
        false
    }
}

//! Replaying traces through the deployed code: the same functions in the same order as the live loop, at the trace's own
//! step, with nothing known in hindsight except where a reference policy says so.

pub mod facts;
pub mod oracle;
pub mod reference;
pub mod report;
pub mod run;
pub mod spoil;

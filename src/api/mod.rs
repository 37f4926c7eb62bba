//! What users write and what every room agrees on: resources, config, defaults, validation. Pure.

mod alerts;
mod backup;
mod backup_status;
mod bounds;
mod config;
mod document;
mod duration;
mod error_class;
mod hooks;
mod location_url;
mod operator_config;
mod restore;
mod schedule;
mod storage;
mod validate;
mod validate_alerts;

#[cfg(test)]
mod tests;

pub use alerts::*;
pub use backup::*;
pub use backup_status::*;
pub use config::*;
pub use document::{DocumentError, Resource, parse_config, parse_resources};
pub use duration::{DurationError, HumanDuration};
pub use error_class::ErrorClass;
pub use hooks::*;
pub use location_url::LocationUrlError;
pub use operator_config::*;
pub use restore::*;
pub use schedule::*;
pub use storage::*;
pub use validate::{
    FieldError, encryption_problem, validate_backup, validate_config, validate_schedule,
};
pub use validate_alerts::{parse_time_of_day, parse_zone};

fn default_true() -> bool {
    true
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

//! What users write and what every room agrees on: resources, config, defaults, validation. Pure.

mod error_class;

pub use error_class::ErrorClass;

//! retain: being built.

//! alert: being built.

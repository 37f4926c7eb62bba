//! restore: being built.

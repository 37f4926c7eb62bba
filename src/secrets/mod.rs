//! secrets: being built.

//! snapshot: being built.

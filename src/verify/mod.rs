//! verify: being built.

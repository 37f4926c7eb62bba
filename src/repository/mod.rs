//! repository: being built.

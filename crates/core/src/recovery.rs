//! recovery
pub(crate) const SWEEP: &str = "sweep";

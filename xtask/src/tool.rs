//! Cargo's own extensions that chores need: found, or installed once at a pinned version, outside the checkout.

use std::path::PathBuf;

use dalsegno_parts::Places;

use crate::shell::{self, cargo};

/// A package of the registry whose program extends cargo.
pub(crate) struct Tool {
    /// Name of package and program.
    pub(crate) name: &'static str,
    /// The version that is used, and no other.
    pub(crate) version: &'static str,
}

impl Tool {
    /// The program, after installing it where there is none of this version.
    pub(crate) fn find_or_install(&self) -> Result<PathBuf, String> {
        let Self { name, version } = self;
        let folder = Places::from_env()?.folder.join(format!("{name}-{version}"));
        let program = folder.join("bin").join(name);
        if !program.is_file() {
            let mut install = cargo(&["install", "--locked", "--version", version, name]);
            shell::run(install.arg("--root").arg(&folder))?;
        }
        Ok(program)
    }
}

//! The platform itself: what it is, what it has, how it is.

use alula_wire::{DoctorReport, Info, RuntimeList, TemplateList};

use crate::{Client, Result};

impl Client {
    /// The platform in one look.
    pub async fn info(&self) -> Result<Info> {
        self.get(&["v1", "info"], &()).await
    }

    /// The language runtimes.
    pub async fn runtimes(&self) -> Result<RuntimeList> {
        self.get(&["v1", "runtimes"], &()).await
    }

    /// Functions to begin with.
    pub async fn templates(&self) -> Result<TemplateList> {
        self.get(&["v1", "templates"], &()).await
    }

    /// What its machine gives and what is missing.
    pub async fn doctor(&self) -> Result<DoctorReport> {
        self.get(&["v1", "doctor"], &()).await
    }
}

//! DefaultBinder: binds through the client.

use std::sync::Arc;

use async_trait::async_trait;
use longshore_core::api::pod::Pod;
use longshore_core::client::{Client, Error};
use longshore_core::scheduling::{Binder, Binding, ClusterEvent, Policy};

/// Binds pods by `pods/binding`.
#[derive(Debug, Clone, Copy, Default)]
pub struct DefaultBinder;

impl Policy for DefaultBinder {
    fn name(&self) -> &str {
        "DefaultBinder"
    }

    fn may_help(&self, _pod: &Pod, _event: &ClusterEvent<'_>) -> bool {
        false
    }

    fn as_binder(&self) -> Option<&dyn Binder> {
        Some(self)
    }
}

#[async_trait]
impl Binder for DefaultBinder {
    async fn bind(&self, client: &Arc<dyn Client>, binding: &Binding) -> Result<bool, Error> {
        client.bind(&binding.bind).await?;
        Ok(true)
    }
}

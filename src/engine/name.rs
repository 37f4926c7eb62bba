//! Who a resource is: its namespace and name.

use kube::ResourceExt;

/// Namespace and name of a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName {
    /// Its namespace; `default` where the manifest names none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for ResourceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ResourceName {
    /// The name of a resource.
    pub fn of(resource: &impl ResourceExt) -> Self {
        Self {
            namespace: resource.namespace().unwrap_or_else(|| "default".to_owned()),
            name: resource.name_any(),
        }
    }
}

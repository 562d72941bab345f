//! Fields that an applied configuration would take from their owners.

use std::collections::BTreeMap;
use std::fmt;

use super::fields::Path;
use super::managed::{ManagerId, print_manager};

/// One field that another manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) manager: ManagerId,
    pub(super) path: Path,
}

/// All the fields of a configuration that others own. Printed as upstream's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflicts(pub(super) Vec<Conflict>);

impl Conflicts {
    /// The causes for the answer's status (reason `FieldManagerConflict`): the field and what is to be said of it.
    pub fn causes(&self) -> Vec<(String, String)> {
        let cause = |conflict: &Conflict| {
            (conflict.path.to_string(), format!("conflict with {}", print_manager(&conflict.manager)))
        };
        self.0.iter().map(cause).collect()
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = &self.0[..] {
            let manager = print_manager(&only.manager);
            return write!(f, "Apply failed with 1 conflict: conflict with {manager}: {}", only.path);
        }
        let mut by_manager: BTreeMap<&ManagerId, Vec<&Path>> = BTreeMap::new();
        for conflict in &self.0 {
            by_manager.entry(&conflict.manager).or_default().push(&conflict.path);
        }
        let mut lines = Vec::new();
        for (manager, paths) in by_manager {
            lines.push(format!("conflicts with {}:", print_manager(manager)));
            lines.extend(paths.into_iter().map(|path| format!("- {path}")));
        }
        write!(f, "Apply failed with {} conflicts: {}", self.0.len(), lines.join("\n"))
    }
}

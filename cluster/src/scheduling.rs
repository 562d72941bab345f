//! The scheduler's configuration, from a file.

use std::path::Path;

use longshore_scheduler::config::Configuration;

use crate::Error;

/// Reads the file of a scheduler's configuration, upstream's `KubeSchedulerConfiguration`.
///
/// # Errors
/// [`Error::File`]; [`Error::SchedulerConfiguration`] says what is wrong with it.
pub fn read_scheduler_configuration(path: &Path) -> Result<Configuration, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::file("read scheduler configuration", path))?;
    Configuration::from_yaml(&text).map_err(|reason| Error::SchedulerConfiguration { file: path.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scheduler.yaml");
        let error = |path: &Path| read_scheduler_configuration(path).unwrap_err().to_string();
        assert!(error(&path).starts_with(&format!("cannot read scheduler configuration {}: ", path.display())));
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        std::fs::write(&path, format!("{head}parallelism: 0\n")).unwrap();
        let reason = "parallelism: Invalid value: 0: should be an integer value greater than zero";
        assert_eq!(error(&path), format!("{}: {reason}", path.display()));
        std::fs::write(&path, head).unwrap();
        assert_eq!(read_scheduler_configuration(&path).unwrap().profiles.len(), 1);
    }
}

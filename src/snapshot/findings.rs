//! Collects what checks find, the worst first and never more than a bound, however broken the file.

use std::fmt;

use super::bolt::Fault;
use super::{Finding, Severity};

/// The most findings that are kept; a person reads the first ten, and a hostile file could make millions.
const MOST: usize = 1000;

/// Findings of one file.
#[derive(Debug, Default)]
pub struct Findings {
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    infos: Vec<Finding>,
    left_out: u64,
}

impl Findings {
    /// Something that forbids trusting the file.
    pub fn error(
        &mut self,
        code: &'static str,
        place: impl fmt::Display,
        message: impl fmt::Display,
    ) {
        self.push(Severity::Error, code, &place, &message);
    }

    /// Something that somebody should look at.
    pub fn warning(
        &mut self,
        code: &'static str,
        place: impl fmt::Display,
        message: impl fmt::Display,
    ) {
        self.push(Severity::Warning, code, &place, &message);
    }

    /// Something worth knowing.
    pub fn info(
        &mut self,
        code: &'static str,
        place: impl fmt::Display,
        message: impl fmt::Display,
    ) {
        self.push(Severity::Info, code, &place, &message);
    }

    /// A fault that the reader met.
    pub fn fault(&mut self, fault: Fault) {
        self.error(fault.code, fault.place, fault.problem);
    }

    /// The first error, in the order of finding.
    pub fn first_error(&self) -> Option<&Finding> {
        self.errors.first()
    }

    /// Takes in what was found elsewhere in the same file.
    pub fn absorb(&mut self, other: Findings) {
        self.errors.extend(other.errors);
        self.warnings.extend(other.warnings);
        self.infos.extend(other.infos);
        self.left_out += other.left_out;
        for list in [&mut self.errors, &mut self.warnings, &mut self.infos] {
            self.left_out += list.len().saturating_sub(MOST) as u64;
            list.truncate(MOST);
        }
    }

    fn push(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: &dyn fmt::Display,
        message: &dyn fmt::Display,
    ) {
        let list = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
            Severity::Info => &mut self.infos,
        };
        if list.len() >= MOST {
            self.left_out += 1;
            return;
        }
        list.push(Finding {
            severity,
            code: code.to_owned(),
            place: place.to_string(),
            message: message.to_string(),
        });
    }

    /// All of them, the worst first; where more were found than are kept, the last says how many.
    pub fn into_vec(self) -> Vec<Finding> {
        let mut all = self.errors;
        all.extend(self.warnings);
        all.extend(self.infos);
        let beyond = all.len().saturating_sub(MOST) as u64;
        let left_out = self.left_out + beyond;
        if left_out > 0 {
            all.truncate(MOST - 1);
            all.push(Finding {
                severity: Severity::Info,
                code: "MoreFindings".to_owned(),
                place: "file".to_owned(),
                message: format!(
                    "{} more findings are not listed",
                    left_out + u64::from(beyond > 0)
                ),
            });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_come_first_and_there_is_an_end() {
        let mut findings = Findings::default();
        for page in 0..1500 {
            findings.warning("W", format_args!("page {page}"), "odd");
        }
        findings.error("E", "page 9", "wrong");
        let all = findings.into_vec();
        assert_eq!(all.len(), MOST);
        assert_eq!(all[0].code, "E");
        assert_eq!(all[MOST - 1].code, "MoreFindings");
    }
}
